"""A market that moves by a seeded walk and by shocks: what the sandbox's accounts trade against, and the same market for the engine.

Ticks are made as time reaches them, so that a shock put in now bends what comes and never what was seen.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any, Final

from deploy.sandbox.core.board import Depth, Funding, Level, Span, Tick
from deploy.sandbox.core.errors import unknown_symbol
from deploy.sandbox.core.rules import RECORDED, SymbolRules, changed_rules
from engine.core import market as seen
from engine.core.instrument import InstrumentRules
from engine.errors import ExchangeUnreachable, UnknownSymbol
from tests.fault_storm.simulated_time import SimulatedClock

PRICES: Final = {"BTCUSDT": "61234.5", "ETHUSDT": "2412.35", "SOLUSDT": "143.21", "XRPUSDT": "0.5432", "DOGEUSDT": "0.13127"}
EVERY_MS: Final = 500
STEP_SHARE: Final = 0.0003
"""How far a tick moves on average: some two percent an hour."""

LEVELS: Final = 8
DEEP: Final = 40_000
"""USDT a level of a deep book; a thin one has a hundredth of it."""

MARK_GRID: Final = Decimal("0.00000001")


class _Line:
    """One symbol's ticks."""

    def __init__(self, symbol: str, price: str, random: Random, begins_ms: int) -> None:
        self.rules = RECORDED[symbol]
        self.tick, self.step = Decimal(self.rules.tick), Decimal(self.rules.step)
        self.random = random
        self.price = float(price)
        self.premium = random.uniform(-2e-4, 2e-4)
        self.shocks: list[tuple[int, float]] = []
        self.thin: tuple[int, int] = (0, 0)
        self.fundings: list[Funding] = []
        self.still_from = 1 << 62
        self.times: list[int] = []
        self.ticks: list[Tick] = []
        self._add(begins_ms - 1)

    def grow(self, until: int) -> None:
        while self.times[-1] + EVERY_MS <= until:
            at = self.times[-1] + self.random.randrange(EVERY_MS // 2, EVERY_MS + 1)
            if at >= self.still_from:
                self._add(at)
                continue
            self.price *= 1 + self.random.gauss(0, STEP_SHARE)
            while self.shocks and self.shocks[0][0] <= at:
                self.price *= self.shocks.pop(0)[1]
            self._add(at)

    def at(self, now: int) -> Tick:
        self.grow(now)
        return self.ticks[bisect_right(self.times, now) - 1]

    def number(self, now: int) -> int:
        return bisect_right(self.times, now)

    def _add(self, at: int) -> None:
        price = max(self.tick, (Decimal(self.price) / self.tick).to_integral_value() * self.tick)
        mark = (price * Decimal(1 + self.premium)).quantize(MARK_GRID)
        quantity = (Decimal(self.random.uniform(1_000, 50_000)) / price // self.step + 1) * self.step
        self.times.append(at)
        self.ticks.append(Tick(at, price, quantity, mark))


class StormBoard:
    """See `deploy.sandbox.core.board.Board`."""

    def __init__(self, random: Random, begins_ms: int, prices: Mapping[str, str] = PRICES) -> None:
        self.lines = {symbol: _Line(symbol, price, random, begins_ms) for symbol, price in prices.items()}

    # --- what a schedule does ------------------------------------------------------------------------------------------------

    def shock(self, symbol: str, factor: float, now: int) -> None:
        """The price jumps with its next tick."""
        self.lines[symbol].grow(now)
        self.lines[symbol].shocks.append((now, factor))

    def thin(self, symbol: str, now: int, until: int) -> None:
        """Hardly anybody waits in the book for a while."""
        self.lines[symbol].thin = (now, until)

    def rest(self, now: int) -> None:
        """No price moves any more."""
        for line in self.lines.values():
            line.still_from = now

    def rule(self, symbol: str, filters: Mapping[str, Decimal]) -> None:
        """Orders meet other filters from now on; the tape keeps its own grid."""
        line = self.lines[symbol]
        line.rules = changed_rules(line.rules, filters)

    def fund(self, symbol: str, rate: Decimal, at: int) -> None:
        """Funding is paid at a moment that is still to come."""
        line = self.lines[symbol]
        line.fundings.append(Funding(at, rate, line.at(at).mark))

    # --- the board -----------------------------------------------------------------------------------------------------------

    def rules(self, symbol: str, now: int) -> SymbolRules:
        if symbol not in self.lines:
            raise unknown_symbol()
        return self.lines[symbol].rules

    listed = rules

    def depth(self, symbol: str, now: int) -> Depth:
        line = self.lines[symbol]
        last, number = line.at(now).price, line.number(now)
        thin = line.thin[0] <= now < line.thin[1]
        size = Decimal(DEEP / 100 if thin else DEEP) / last
        size = (size // line.step + 1) * line.step
        count = 3 if thin else LEVELS
        bids = [Level(last - (n * n + n + 1) * line.tick, size * (n + 1)) for n in range(count)]
        asks = [Level(last + (n * n + n + 1) * line.tick, size * (n + 1)) for n in range(count)]
        return Depth(number, bids, asks)

    def mark(self, symbol: str, now: int) -> Decimal:
        return self.lines[symbol].at(now).mark

    def last(self, symbol: str, now: int) -> Decimal:
        return self.lines[symbol].at(now).price

    def ticks(self, symbol: str, since: int, until: int) -> list[Tick]:
        line = self.lines[symbol]
        line.grow(until)
        return line.ticks[bisect_right(line.times, since) : bisect_right(line.times, until)]

    def span(self, symbol: str, since: int, until: int) -> Span | None:
        ticks = self.ticks(symbol, since, until)
        if not ticks:
            return None
        prices, marks = [tick.price for tick in ticks], [tick.mark for tick in ticks]
        return Span(min(prices), max(prices), min(marks), max(marks), marks[-1])

    def fundings(self, symbol: str, since: int, until: int) -> list[Funding]:
        return [item for item in self.lines[symbol].fundings if since < item.time_ms <= until]


class StormMarket:
    """The engine's MarketData, straight from the board: public data is not what storms here."""

    def __init__(self, board: StormBoard, clock: SimulatedClock, weather: "Weather") -> None:
        self._board, self._clock, self._weather = board, clock, weather

    async def instruments(self) -> Mapping[str, InstrumentRules]:
        return {symbol: instrument_of(line.rules) for symbol, line in self._board.lines.items()}

    async def instrument(self, symbol: str) -> InstrumentRules:
        if symbol not in self._board.lines:
            raise UnknownSymbol(symbol)
        return instrument_of(self._board.lines[symbol].rules)

    async def book(self, symbol: str) -> seen.Book:
        self._answer()
        now, depth = self._clock.now_ms(), self._board.depth(symbol, self._clock.now_ms())
        bids, asks = (tuple((level.price, level.quantity) for level in side) for side in (depth.bids, depth.asks))
        return seen.Book(symbol=symbol, bids=bids, asks=asks, at_ms=now, received_ms=now)

    async def mark(self, symbol: str) -> seen.Mark:
        self._answer()
        now = self._clock.now_ms()
        price = self._board.mark(symbol, now)
        return seen.Mark(symbol=symbol, price=price, at_ms=now, funding_rate=Decimal(0), next_funding_ms=now + 1, received_ms=now)

    async def marks(self) -> Mapping[str, seen.Mark]:
        return {symbol: await self.mark(symbol) for symbol in self._board.lines}

    async def tickers(self) -> Mapping[str, seen.Ticker]:
        raise ExchangeUnreachable("nobody scans here")

    async def candles(self, symbol: str, timeframe: seen.Timeframe) -> seen.Candles:
        raise ExchangeUnreachable("nobody scans here")

    async def trades(self, symbol: str) -> Sequence[seen.Trade]:
        raise ExchangeUnreachable("nobody scans here")

    async def positioning(self, symbol: str, mark: seen.Mark | None = None) -> seen.Positioning:
        raise ExchangeUnreachable("nobody scans here")

    async def mark_bars(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[seen.MarkBar]:
        raise ExchangeUnreachable("nobody watches paper here")

    async def fundings(self, symbol: str, since_ms: int, until_ms: int) -> Sequence[seen.Funding]:
        raise ExchangeUnreachable("nobody watches paper here")

    def _answer(self) -> None:
        if self._weather.strikes("market"):
            raise ExchangeUnreachable("connection refused")


class Weather:
    """What goes wrong between our own parts, by seeded chance; nothing while it is calm."""

    def __init__(self, random: Random, chances: Mapping[str, float]) -> None:
        self._random, self._chances = random, dict(chances)
        self.calm = False
        self.struck: dict[str, int] = {}

    def strikes(self, what: str) -> bool:
        struck = not self.calm and self._random.random() < self._chances.get(what, 0.0)
        if struck:
            self.note(what)
        return struck

    def note(self, what: str) -> None:
        """Count what a schedule's deed did, beside what chance did."""
        self.struck[what] = self.struck.get(what, 0) + 1

    def between(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def choice[T](self, items: Sequence[T]) -> T:
        return items[self._random.randrange(len(items))]


@cache
def instrument_of(rules: SymbolRules) -> InstrumentRules:
    """As `engine.candles` reads it from exchangeInfo."""
    given: dict[str, Any] = {
        "tick_size": rules.tick_size,
        "min_price": rules.min_price,
        "max_price": rules.max_price,
        "step_size": rules.step_size,
        "min_quantity": rules.min_quantity,
        "max_quantity": rules.max_quantity,
        "market_min_quantity": rules.min_quantity,
        "market_max_quantity": rules.max_market_quantity,
        "min_notional": rules.min_notional,
        "price_multiplier_up": rules.percent_up,
        "price_multiplier_down": rules.percent_down,
        "liquidation_fee_ratio": rules.liquidation_fee,
        "market_take_bound": rules.market_take_bound,
    }
    return InstrumentRules(
        symbol=rules.symbol,
        status="TRADING",
        contract_type="PERPETUAL",
        base_asset=rules.base_asset,
        quote_asset=rules.quote_asset,
        **{name: Decimal(text) for name, text in given.items()},
    )
