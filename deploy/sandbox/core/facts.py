"""Replies of the public REST endpoints about everything but prices: symbols, funding, open interest, the crowd."""

from collections.abc import Callable
from typing import Any

import msgspec

from deploy.sandbox.core import crowd, funding, klines
from deploy.sandbox.core.errors import out_of_range
from deploy.sandbox.core.intervals import FIXED_MS, HOUR_MS
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.path import TAKER_BASE, VOLUME
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Prices, Reply, mark_at
from deploy.sandbox.core.rules import SymbolRules
from deploy.sandbox.core.tape import Tape

PERIODS = ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")
ORDER_TYPES = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"]
TIMES_IN_FORCE = ["GTC", "IOC", "FOK", "GTX", "GTD"]
MOST_FUNDINGS = 1000


class Facts:
    """What is served about symbols and the crowd.

    Args:
        prices: For the market and its wording.
        weight_limit: Shown in exchangeInfo.
    """

    def __init__(self, prices: Prices, weight_limit: int) -> None:
        self._prices = prices
        self._market: Market = prices.market
        self._weight_limit = weight_limit
        self._info: tuple[tuple[str, ...], bytes] | None = None

    def exchange_info(self, wall_ms: int, now: int) -> Reply:
        """GET /fapi/v1/exchangeInfo; serverTime is wall time."""
        rows = self._market.listed(now)
        shown = (str(self._market.changes), *(rules.symbol + rules.status for rules in rows))
        if self._info is None or self._info[0] != shown:
            self._info = (shown, msgspec.json.encode([symbol_row(rules) for rules in rows]))
        return {
            "exchangeFilters": [],
            "rateLimits": rate_limits(self._weight_limit),
            "serverTime": wall_ms,
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": msgspec.Raw(self._info[1]),
            "timezone": "UTC",
            "futuresType": "U_MARGINED",
        }

    def funding_rate(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/fundingRate: what was paid, oldest first."""
        limit, symbol = query.limit(100, MOST_FUNDINGS), query.text("symbol")
        start, end = query.whole("startTime"), query.whole("endTime")
        tapes = [self._market.tape(symbol, now)] if symbol else self._market.live(now)
        until = now if end is None else min(end, now)
        rows: list[dict[str, Any]] = []
        for tape in tapes:
            rows += self._fundings(tape, start, until, limit if symbol else max(1, limit // max(1, len(tapes))))
        rows.sort(key=lambda row: int(row["fundingTime"]))
        return rows[:limit] if start is not None else rows[-limit:]

    def _fundings(self, tape: Tape, start: int | None, until: int, limit: int) -> list[dict[str, Any]]:
        period = funding.hours(tape) * HOUR_MS
        last = until // period
        oldest = tape.first * 15 // 60 * HOUR_MS // period + 1
        first = max(oldest, last - limit + 1 if start is None else -(-start // period))
        if tape.rules.contract_type != "PERPETUAL":
            return []
        words = self._prices.words(tape)
        last = min(last, first + limit - 1)
        return [
            {
                "symbol": tape.rules.symbol,
                "fundingTime": number * period,
                "fundingRate": f"{funding.rate(tape, number * period):.8f}",
                "markPrice": words.fine(mark_at(tape, number * period)),
                "rateType": "Regular",
            }
            for number in range(first, last + 1)
        ]

    def funding_info(self, query: Query, now: int) -> Reply:  # noqa: ARG002 - it takes no parameters
        """GET /fapi/v1/fundingInfo: only symbols that differ from eight hours, as on the exchange."""
        return [
            {
                "symbol": tape.rules.symbol,
                "adjustedFundingRateCap": funding.CAP_TEXT,
                "adjustedFundingRateFloor": f"-{funding.CAP_TEXT}",
                "fundingIntervalHours": funding.hours(tape),
                "disclaimer": False,
            }
            for tape in self._market.live(now)
            if funding.hours(tape) != 8 and tape.rules.contract_type == "PERPETUAL"
        ]

    def open_interest(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/openInterest."""
        tape = self._market.trading(query.required("symbol"), now)
        amount = self._prices.words(tape).quantity(crowd.open_interest(tape, now))
        return {"symbol": tape.rules.symbol, "openInterest": amount, "time": now}

    def open_interest_history(self, query: Query, now: int) -> Reply:
        """GET /futures/data/openInterestHist."""

        def row(tape: Tape, time_ms: int, length: int) -> dict[str, Any]:  # noqa: ARG001 - one shape for all rows
            amount = crowd.open_interest(tape, time_ms)
            return {
                "symbol": tape.rules.symbol,
                "sumOpenInterest": f"{amount * float(tape.rules.step):.8f}",
                "sumOpenInterestValue": f"{amount * tape.unit * mark_at(tape, time_ms):.8f}",
                "CMCCirculatingSupply": "0.00000000",
                "timestamp": time_ms,
            }

        return self._history(query, now, row)

    def ratio(self, kind: str) -> Callable[[Query, int], Reply]:
        """GET /futures/data/<kind>: longs and shorts over time."""

        def row(tape: Tape, time_ms: int, length: int) -> dict[str, Any]:  # noqa: ARG001 - one shape for all rows
            balance = crowd.balance(tape, kind, time_ms)
            return {
                "symbol": tape.rules.symbol,
                "longShortRatio": f"{balance.ratio:.4f}",
                "longAccount": f"{balance.long:.4f}",
                "shortAccount": f"{balance.short:.4f}",
                "timestamp": time_ms,
            }

        return lambda query, now: self._history(query, now, row)

    def taker_ratio(self, query: Query, now: int) -> Reply:
        """GET /futures/data/takerlongshortRatio: the tape's own taker volumes of each period."""

        def row(tape: Tape, time_ms: int, length: int) -> dict[str, Any]:
            # A period ends at its timestamp: nothing behind it is shown.
            rows = klines.candles(tape, "5m", time_ms - length, time_ms - 1, time_ms - 1)
            bought, total = int(rows.table[TAKER_BASE].sum()), int(rows.table[VOLUME].sum())
            sold, words = total - bought, self._prices.words(tape)
            ratio = f"{bought / max(1, sold):.4f}"
            return {
                "buySellRatio": ratio,
                "buyVol": words.quantity(bought),
                "sellVol": words.quantity(sold),
                "timestamp": time_ms,
            }

        return self._history(query, now, row)

    def _history(self, query: Query, now: int, row: Callable[[Tape, int, int], dict[str, Any]]) -> Reply:
        tape = self._market.tape(query.required("symbol"), now)
        period = query.required("period")
        if period not in PERIODS:
            raise out_of_range("period")
        limit, length = query.limit(30, 500), FIXED_MS[period]
        start, end = query.whole("startTime"), query.whole("endTime")
        newest = (now if end is None else min(now, end)) // length
        oldest = tape.first * FIXED_MS["15m"] // length + 1
        first = max(oldest, newest - limit + 1, 0 if start is None else -(-start // length))
        return [row(tape, number * length, length) for number in range(first, newest + 1)]


def rate_limits(weight_limit: int) -> list[dict[str, Any]]:
    """The limits that exchangeInfo names."""
    return [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_limit},
        {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
    ]


def symbol_row(rules: SymbolRules) -> dict[str, Any]:
    """One symbol of exchangeInfo."""
    return {
        "symbol": rules.symbol,
        "pair": rules.pair,
        "contractType": rules.contract_type,
        "deliveryDate": rules.delivery_ms,
        "onboardDate": rules.onboard_ms,
        "status": rules.status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": rules.base_asset,
        "quoteAsset": rules.quote_asset,
        "marginAsset": rules.quote_asset,
        "pricePrecision": rules.price_precision,
        "quantityPrecision": rules.quantity_precision,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": rules.underlying,
        "underlyingSubType": [],
        "settlePlan": 0,
        "triggerProtect": rules.trigger_protect,
        "liquidationFee": rules.liquidation_fee,
        "marketTakeBound": rules.market_take_bound,
        "maxMoveOrderLimit": 10000,
        "filters": _filters(rules),
        "orderTypes": ORDER_TYPES,
        "timeInForce": TIMES_IN_FORCE,
        "permissionSets": ["GRID", "COPY"],
    }


def _filters(rules: SymbolRules) -> list[dict[str, Any]]:
    lot = {"minQty": rules.min_quantity, "stepSize": rules.step_size}
    return [
        {"filterType": "PRICE_FILTER", "minPrice": rules.min_price, "maxPrice": rules.max_price, "tickSize": rules.tick_size},
        {"filterType": "LOT_SIZE", "maxQty": rules.max_quantity, **lot},
        {"filterType": "MARKET_LOT_SIZE", "maxQty": rules.max_market_quantity, **lot},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": rules.min_notional},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": rules.percent_up,
            "multiplierDown": rules.percent_down,
            "multiplierDecimal": "4",
        },
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]
