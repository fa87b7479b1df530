"""Binance's REST paths: finds the endpoint, books its weight, asks the core and words refusals.

Source: Binance USDⓈ-M "General Info" and each endpoint's page for its weight (read 2026-11).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from deploy.sandbox.core.crowd import KINDS
from deploy.sandbox.core.errors import Rejected, no_such_path
from deploy.sandbox.core.limits import DATA, FUNDING, WEIGHT, Pool, Standing
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.rare import Rare
from deploy.sandbox.core.replies import Reply
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.signed import Signed, SignedRequest
from deploy.sandbox.wire import JSON, Asked, Told

SIGNED = frozenset(
    f"/fapi/{rest}"
    for rest in (
        *("v1/order", "v1/order/test", "v1/batchOrders", "v1/openOrder", "v1/openOrders", "v1/allOrders", "v1/allOpenOrders"),
        *("v1/userTrades", "v1/income", "v1/leverage", "v1/marginType", "v1/positionMargin", "v1/positionSide/dual"),
        *("v1/leverageBracket", "v1/symbolConfig", "v1/accountConfig", "v1/commissionRate", "v1/listenKey", "v1/forceOrders"),
        *(
            "v1/algoOrder",
            "v1/openAlgoOrders",
            "v1/allAlgoOrders",
            "v1/algoOpenOrders",
            "v1/countdownCancelAll",
            "v1/adlQuantile",
        ),
        *(
            "v1/rateLimit/order",
            "v1/multiAssetsMargin",
            "v2/account",
            "v3/account",
            "v2/balance",
            "v3/balance",
            "v2/positionRisk",
            "v3/positionRisk",
        ),
    )
) | {"/sapi/v1/account/apiRestrictions"}
"""Paths that need a key."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One public endpoint."""

    answer: Callable[[Query, int], Reply]
    weight: Callable[[Query], int]
    pool: Pool = WEIGHT


def endpoints(exchange: Exchange) -> dict[str, Endpoint]:
    """Every public endpoint by path."""
    prices, facts, rare = exchange.prices, exchange.facts, Rare(exchange.prices)
    rows: list[tuple[str, Callable[[Query, int], Reply], Callable[[Query], int]]] = [
        ("ping", lambda query, now: {}, fixed(1)),  # noqa: ARG005
        ("time", lambda query, now: {"serverTime": exchange.wall_ms()}, fixed(1)),  # noqa: ARG005
        ("exchangeInfo", lambda query, now: facts.exchange_info(exchange.wall_ms(), now), fixed(1)),  # noqa: ARG005
        ("klines", prices.klines, kline_weight),
        ("continuousKlines", prices.continuous_klines, kline_weight),
        ("markPriceKlines", prices.mark_price_klines, kline_weight),
        ("indexPriceKlines", prices.index_price_klines, kline_weight),
        ("premiumIndexKlines", prices.premium_index_klines, kline_weight),
        ("depth", prices.depth, depth_weight),
        ("rpiDepth", prices.depth, fixed(20)),
        ("trades", prices.trades, fixed(5)),
        ("historicalTrades", prices.historical_trades, fixed(200)),
        ("aggTrades", prices.aggregate_trades, fixed(20)),
        ("ticker/24hr", prices.ticker_24hr, one_or_all(1, 40)),
        ("ticker/price", prices.price, one_or_all(1, 2)),
        ("ticker/bookTicker", prices.book_ticker, one_or_all(2, 5)),
        ("premiumIndex", prices.premium_index, one_or_all(1, 10)),
        ("openInterest", facts.open_interest, fixed(1)),
        ("constituents", rare.constituents, fixed(2)),
        ("assetIndex", rare.asset_index, one_or_all(1, 10)),
        ("insuranceBalance", rare.insurance_balance, fixed(1)),
        ("symbolAdlRisk", rare.adl_risk, fixed(1)),
        ("tradingSchedule", rare.trading_schedule, fixed(5)),
        ("indexInfo", rare.nothing, one_or_all(1, 10)),
        ("convert/exchangeInfo", rare.nothing, fixed(20)),
    ]
    found = {f"/fapi/v1/{name}": Endpoint(answer=answer, weight=weight) for name, answer, weight in rows}
    found["/fapi/v2/ticker/price"] = found["/fapi/v1/ticker/price"]
    found["/fapi/v1/fundingRate"] = Endpoint(answer=facts.funding_rate, weight=fixed(1), pool=FUNDING)
    found["/fapi/v1/fundingInfo"] = Endpoint(answer=facts.funding_info, weight=fixed(1), pool=FUNDING)
    data: dict[str, Callable[[Query, int], Reply]] = {kind: facts.ratio(kind) for kind in KINDS}
    data |= {"openInterestHist": facts.open_interest_history, "takerlongshortRatio": facts.taker_ratio}
    data |= {"basis": rare.basis, "delivery-price": rare.nothing}
    return found | {f"/futures/data/{n}": Endpoint(answer=answer, weight=fixed(1), pool=DATA) for n, answer in data.items()}


def fixed(weight: int) -> Callable[[Query], int]:
    """The same weight always."""
    return lambda query: weight  # noqa: ARG005


def one_or_all(one: int, everything: int) -> Callable[[Query], int]:
    """One weight with a symbol, another for all symbols."""
    return lambda query: one if query.text("symbol") else everything


def kline_weight(query: Query) -> int:
    """Below 100 candles 1, below 500 2, to 1000 5, beyond 10."""
    limit = _limit(query, 500)
    return next((weight for most, weight in ((99, 1), (499, 2), (1000, 5)) if limit <= most), 10)


def depth_weight(query: Query) -> int:
    """To 50 levels 2, 100 5, 500 10, 1000 20."""
    limit = _limit(query, 500)
    return next((weight for most, weight in ((50, 2), (100, 5), (500, 10)) if limit <= most), 20)


def _limit(query: Query, default: int) -> int:
    try:
        return query.whole("limit") or default
    except Rejected:
        return 1


class Call(NamedTuple):
    """What a request costs, of which budget, and what answers it at a moment."""

    weight: int
    pool: Pool
    answer: Callable[[int], Reply]
    headers: dict[str, str]


def unserved(asked: Asked) -> Callable[[int], Reply]:
    """The answer where nothing is."""

    def refuse(now: int) -> Reply:  # noqa: ARG001 - an answer's shape
        raise no_such_path(asked.path, asked.method)

    return refuse


class Rest:
    """The REST door.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._endpoints = endpoints(exchange)
        self._signed = Signed(exchange)

    def respond(self, asked: Asked) -> Told:
        """Answer one request, whatever its path."""
        call = self._signed_call(asked) if asked.path in SIGNED else self._public_call(asked)
        now = self._exchange.now()
        standing = self._exchange.caller(asked.remote).spend(call.pool, call.weight, now)
        headers = call.headers
        if call.pool is WEIGHT:
            headers["X-MBX-USED-WEIGHT-1M"] = str(standing.used)
        if standing.status != 200:
            until = self._exchange.wall_ms() + int(self._exchange.clock.wall_seconds(standing.wait_ms) * 1000)
            self._exchange.refuse_address(asked.remote, until)
            return self._refused(standing, headers)
        try:
            return Told(200, encoded(call.answer(now)), headers)
        except Rejected as refusal:
            if refusal.wait_ms:
                self._exchange.refuse_orders(asked.key, refusal.wait_ms)
                headers["Retry-After"] = str(max(1, math.ceil(self._exchange.clock.wall_seconds(refusal.wait_ms))))
            return refused(refusal, headers)

    def _public_call(self, asked: Asked) -> Call:
        endpoint = self._endpoints.get(asked.path) if asked.method == "GET" else None
        if endpoint is None:
            return Call(1, WEIGHT, unserved(asked), {})
        query = asked.public()
        return Call(endpoint.weight(query), endpoint.pool, lambda now: endpoint.answer(query, now), {})

    def _signed_call(self, asked: Asked) -> Call:
        request = SignedRequest(asked, Query(asked.parameters()), {})
        return Call(self._signed.weight(request), WEIGHT, lambda now: self._signed.answer(request, now), request.headers)

    def _refused(self, standing: Standing, headers: dict[str, str]) -> Told:
        """429 or 418; Retry-After counts wall seconds, because the caller waits on the wall."""
        wait = self._exchange.clock.wall_seconds(standing.wait_ms)
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
        if standing.status == 418:
            message = banned(self._exchange.wall_ms() + int(wait * 1000))
        else:
            message = f"Too many requests; current limit of IP is {self._exchange.options.weight_limit} requests per minute."
        return refused(Rejected(-1003, message, standing.status), headers)


def banned(until_ms: int) -> str:
    """The sentence of a 418."""
    return f"Way too many requests; IP banned until {until_ms}. Please use the websocket for live updates to avoid bans."


def encoded(body: Any) -> bytes:
    """JSON as bytes."""
    return bytes(body) if isinstance(body, msgspec.Raw) else msgspec.json.encode(body)


def refused(refusal: Rejected, headers: dict[str, str]) -> Told:
    """A refusal in Binance's form."""
    return Told(refusal.status, encoded({"code": refusal.code, "msg": refusal.message}), headers)


def reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON response."""
    return web.Response(body=encoded(body), status=status, headers=headers, content_type=JSON)
