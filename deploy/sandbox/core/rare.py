"""Replies of the public REST endpoints that a trading client seldom asks: indices, insurance, schedules, basis.

Composite indices, deliveries of the past and conversions do not exist in this market: their replies are empty, not invented.
"""

from typing import Any

from deploy.sandbox.core.errors import out_of_range, unknown_symbol
from deploy.sandbox.core.facts import PERIODS
from deploy.sandbox.core.intervals import DAY_MS, FIXED_MS
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Prices, Reply, index_at
from deploy.sandbox.core.tape import Tape

BUFFER = 0.05
"""Around an asset's index, for the exchange rates of multi-assets mode."""
INSURANCE = "1000000000.00000000"


class Rare:
    """What is served beside prices and facts.

    Args:
        prices: For the market and its wording.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._market = prices.market

    def constituents(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/constituents: the index follows this exchange's own tape alone."""
        tape = self._market.trading(query.required("symbol"), now)
        price = self._prices.words(tape).fine(index_at(tape, now))
        row = {"exchange": "binance", "symbol": tape.rules.pair, "price": price, "weight": "1.00000000"}
        return {"symbol": tape.rules.symbol, "time": now, "constituents": [row]}

    def asset_index(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/assetIndex: of the asset of each perpetual, against the dollar."""
        symbol = query.text("symbol")
        if symbol is not None:
            return self._asset(self._market.trading(f"{symbol.removesuffix('USD')}USDT", now), now)
        return [self._asset(tape, now) for tape in self._market.live(now) if tape.rules.contract_type == "PERPETUAL"]

    def _asset(self, tape: Tape, now: int) -> dict[str, Any]:
        words, index = self._prices.words(tape), index_at(tape, now)
        low, high = words.fine(index * (1 - BUFFER)), words.fine(index * (1 + BUFFER))
        buffer = f"{BUFFER:.8f}"
        return {
            "symbol": f"{tape.rules.base_asset}USD",
            "time": now,
            "index": words.fine(index),
            "bidBuffer": buffer,
            "askBuffer": buffer,
            "bidRate": low,
            "askRate": high,
            "autoExchangeBidBuffer": buffer,
            "autoExchangeAskBuffer": buffer,
            "autoExchangeBidRate": low,
            "autoExchangeAskRate": high,
        }

    def insurance_balance(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/insuranceBalance: one fund for all."""
        asset = {"asset": "USDT", "marginBalance": INSURANCE, "updateTime": now // DAY_MS * DAY_MS}
        symbol = query.text("symbol")
        if symbol is not None:
            self._market.tape(symbol, now)
            return {"symbols": [symbol], "assets": [asset]}
        return [{"symbols": [tape.rules.symbol for tape in self._market.live(now)], "assets": [asset]}]

    def adl_risk(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/symbolAdlRisk: low, the fund is full."""
        symbol = query.text("symbol")
        row = {"adlRisk": "low", "updateTime": now // 1_800_000 * 1_800_000}
        if symbol is not None:
            return {"symbol": self._market.trading(symbol, now).rules.symbol, **row}
        return [{"symbol": tape.rules.symbol, **row} for tape in self._market.live(now)]

    def trading_schedule(self, query: Query, now: int) -> Reply:  # noqa: ARG002 - it takes no parameters
        """GET /fapi/v1/tradingSchedule: nothing here closes at night."""
        return {"updateTime": now // DAY_MS * DAY_MS, "marketSchedules": {}}

    def nothing(self, query: Query, now: int) -> Reply:  # noqa: ARG002 - the same for every question
        """Endpoints whose subject does not exist in this market."""
        return []

    def basis(self, query: Query, now: int) -> Reply:
        """GET /futures/data/basis: the contract's price against the index, by period."""
        pair, contract, period = query.required("pair"), query.required("contractType"), query.required("period")
        if period not in PERIODS:
            raise out_of_range("period")
        tape = next((t for t in self._market.live(now) if (t.rules.pair, t.rules.contract_type) == (pair, contract)), None)
        if tape is None:
            raise unknown_symbol()
        length = FIXED_MS[period]
        newest = now // length
        first = max(newest - query.limit(30, 500) + 1, tape.first * FIXED_MS["15m"] // length + 1)
        return [self._basis(tape, number * length) for number in range(first, newest + 1)]

    def _basis(self, tape: Tape, time_ms: int) -> dict[str, Any]:
        perpetual = self._market.tapes.get(tape.rules.pair, tape)
        words, (ticks, seen) = self._prices.words(tape), tape.seen(time_ms)
        index, price = index_at(perpetual, time_ms), float(ticks.price[seen - 1])
        return {
            "indexPrice": words.fine(index),
            "contractType": tape.rules.contract_type,
            "basisRate": f"{price / index - 1:.4f}",
            "futuresPrice": words.price(price),
            "annualizedBasisRate": "",
            "basis": words.fine(price - index),
            "pair": tape.rules.pair,
            "timestamp": time_ms,
        }
