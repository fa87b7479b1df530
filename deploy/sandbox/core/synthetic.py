"""A market out of a seed: what the tape walks when nobody recorded one.

Every return is a share of the market's (each symbol has a beta to BTC), a drift that changes its mind every day or so, a swing of some
hours around it, and a fat-tailed noise whose size comes in clusters. Shocks run through the whole market or one symbol now and
then and leave volume and liquidations behind. Candles are made a day at a time, in order, each day from (seed, day): the same seed
gives the same bits.
"""

from typing import NamedTuple

import numpy as np

from deploy.sandbox.core.intervals import DAY_MS, QUARTER_MS
from deploy.sandbox.core.path import UNHEARD, UNRECORDED, Floats, Ints, key_of, noise
from deploy.sandbox.core.rules import RECORDED, SymbolRules
from deploy.sandbox.core.source import Coarse, Fundings, Top

QUARTERS_A_DAY = DAY_MS // QUARTER_MS
SYMBOLS = 120
DEFAULT_START_MS = 1_791_158_400_000
"""2026-10-05T00:00:00Z: where market time begins when nobody says otherwise."""
HISTORY_DAYS = 90
"""Candles before the start: 499 of 4h are 83 days."""

LEADERS: dict[str, tuple[float, float]] = {
    "BTCUSDT": (64_000.0, 1.1e10),
    "ETHUSDT": (2_450.0, 7.5e9),
    "SOLUSDT": (146.0, 2.4e9),
    "XRPUSDT": (0.5300, 9.0e8),
    "DOGEUSDT": (0.1085, 8.0e8),
    "BNBUSDT": (562.0, 6.0e8),
    "1000PEPEUSDT": (0.00790, 5.5e8),
    "SUIUSDT": (1.8200, 5.0e8),
    "ADAUSDT": (0.3520, 3.0e8),
    "AVAXUSDT": (26.40, 2.8e8),
    "LINKUSDT": (11.100, 2.6e8),
    "TRXUSDT": (0.15600, 2.0e8),
    "LTCUSDT": (65.00, 1.9e8),
    "币安人生USDT": (0.1240, 1.2e8),
    "1000SATSUSDT": (0.00027, 9.0e7),
}
"""Price in USDT and quote volume a day of the best known; the rest is drawn from the seed."""

MEAN_REVERSION = 0.0006
"""Share of its distance from the anchor that a log price loses in a candle: an endless tape stays in sight of where it began."""
BUSTLE = 3.0
"""By how much pulses and bursts multiply a symbol's quiet turnover on average."""
TAIL_DEGREES = 4.0
"""Student's t with four degrees of freedom: moves of five sigma are weekly news."""


PUSH = 2
"""Candles over which a cascade pushes; a rebound follows in the next."""


class Cascade(NamedTuple):
    """A cascade that was put into the tape: the label of what a detector should find."""

    number: int
    """Of the symbol."""
    candle: int
    """The first of its PUSH candles, counted in quarters of an hour since the epoch."""
    size: float
    """Log return that it adds over them, negative for a fall."""
    whole_market: bool


class SyntheticMarket:
    """Candles from a seed, made when somebody looks.

    Args:
        seed: Any whole number.
        start_ms: The moment up to which HISTORY_DAYS of history are guaranteed; a multiple of a day.
    """

    def __init__(self, seed: int, start_ms: int = DEFAULT_START_MS) -> None:
        self.seed = seed
        self.ends_ms: int | None = None
        self.rules = _chosen_rules()
        self._first = (start_ms // DAY_MS - HISTORY_DAYS) * QUARTERS_A_DAY
        self._made = 0
        self._cascades: list[Cascade] = []
        self._store: Ints = np.zeros((len(self.rules), 5, 100 * QUARTERS_A_DAY), dtype=np.int64)
        self._prepare()

    def span(self, number: int) -> tuple[int, int | None]:  # noqa: ARG002 - the same for every symbol
        """Every symbol is there from the first day and never leaves."""
        return self._first, None

    def candles(self, number: int, start: int, end: int) -> Ints:
        """Candles start..end of a symbol; days not yet made are made now."""
        while self._first + self._made < end:
            self._make_day()
        offset = self._first
        return np.ascontiguousarray(self._store[number, :, start - offset : end - offset])

    def paths(self, number: int, start: int, end: int) -> Ints:  # noqa: ARG002
        """None: nobody recorded it."""
        return UNRECORDED

    def marks(self, number: int, start: int, end: int) -> Floats:  # noqa: ARG002
        """None: nobody recorded them."""
        return UNHEARD

    def fundings(self, number: int) -> Fundings | None:  # noqa: ARG002
        """None: nobody recorded them."""
        return None

    def top(self, number: int, tick: int) -> Top | None:  # noqa: ARG002
        """None: nobody recorded it."""
        return None

    def cascades(self, start: int, end: int) -> list[Cascade]:
        """The cascades that begin in candles start..end, of all symbols, in the order of their candles; days not yet made are made now."""
        while self._first + self._made < end:
            self._make_day()
        return sorted(
            (cascade for cascade in self._cascades if start <= cascade.candle < end), key=lambda cascade: cascade.candle
        )

    def coarse(self, number: int) -> Coarse | None:  # noqa: ARG002
        """None: 15m candles reach back far enough."""
        return None

    def _prepare(self) -> None:
        rng = np.random.Generator(np.random.Philox(key=key_of(self.seed, "market")))
        n = len(self.rules)
        rank = np.arange(n)
        volume = 2.2e8 * np.exp(-rank / n * 1.3) * np.exp(rng.normal(0.0, 0.35, n))
        price = 10.0 ** rng.uniform(-1.3, 1.2, n)
        for number, rules in enumerate(self.rules):
            if rules.symbol in LEADERS:
                price[number], volume[number] = LEADERS[rules.symbol]
            low = 2_000 * float(rules.tick)
            price[number] = np.clip(price[number], low, max(low, float(rules.max_price) / 50))
        self._tick = np.array([float(rules.tick) for rules in self.rules])
        self._step = np.array([float(rules.step) for rules in self.rules])
        self._turnover = volume / QUARTERS_A_DAY / BUSTLE
        self._beta = np.where(rank == 0, 1.0, rng.uniform(0.6, 1.6, n))
        self._size = np.where(rank == 0, 0.0004, rng.uniform(0.0018, 0.0042, n))
        self._anchor = np.log(price)
        self._log: Floats = self._anchor.copy()
        self._close: Ints = np.maximum(1, np.rint(price / self._tick)).astype(np.int64)
        self._drift: Floats = rng.normal(0.0, 0.0004, n)
        self._market_drift = 0.0
        self._market_heat = 0.0
        self._heat: Floats = np.zeros(n)
        self._swing: Floats = np.zeros(n)
        self._swing_speed: Floats = np.zeros(n)
        self._pulse: Floats = np.zeros(n)

    def _make_day(self) -> None:
        """One day of every symbol: draws at once, then a step a candle."""
        day, n = self._made // QUARTERS_A_DAY, len(self.rules)
        rng = np.random.Generator(np.random.Philox(key=key_of(self.seed, f"day {day}")))
        if self._made + QUARTERS_A_DAY > self._store.shape[2]:
            self._store = np.concatenate([self._store, np.zeros_like(self._store)], axis=2)
        shape = (QUARTERS_A_DAY, n)
        tails = np.sqrt(TAIL_DEGREES / rng.chisquare(TAIL_DEGREES, shape)) / np.sqrt(2.0)
        noises = rng.standard_normal(shape) * tails
        market = rng.standard_normal(QUARTERS_A_DAY) * np.sqrt(TAIL_DEGREES / rng.chisquare(TAIL_DEGREES, QUARTERS_A_DAY)) / 1.4
        shocks, labels = _shocks(rng, shape)
        begins = self._first + self._made
        self._cascades += [Cascade(number, begins + at, size, whole) for number, at, size, whole in labels]
        turns = rng.random(shape) < 1 / 110
        drifts = rng.normal(0.0, 0.00045, shape)
        swings = rng.standard_normal(shape)
        wicks = rng.exponential(0.45, (2, *shape))
        bursts = rng.lognormal(0.0, 0.45, shape) * np.where(rng.random(shape) < 0.1, rng.uniform(1.5, 4.0, shape), 1.0)
        market_turn = rng.random(QUARTERS_A_DAY) < 1 / 150
        market_drifts = rng.normal(0.0, 0.00013, QUARTERS_A_DAY)
        for i in range(QUARTERS_A_DAY):
            if market_turn[i]:
                self._market_drift = float(market_drifts[i])
            self._drift = np.where(turns[i], drifts[i], self._drift)
            moves, scale = self._step_returns(float(market[i]), noises[i], swings[i], shocks[i])
            self._write(self._made + i, moves, scale, wicks[:, i], bursts[i])
        self._made += QUARTERS_A_DAY

    def _step_returns(self, market: float, noises: Floats, swings: Floats, shock: Floats) -> tuple[Floats, Floats]:
        """Log returns of one candle and their usual size."""
        self._market_heat = 0.96 * self._market_heat + 0.04 * abs(market) + 6.0 * float(np.abs(shock).mean())
        self._heat = 0.94 * self._heat + 0.06 * np.abs(noises) + 8.0 * np.abs(shock)
        scale = self._size * (0.55 + 0.75 * np.minimum(self._heat, 4.0))
        common = self._market_drift + 0.0013 * (0.5 + 0.8 * min(self._market_heat, 4.0)) * market
        # A damped oscillator with a period of some seven hours: pull-backs inside the trend.
        self._swing_speed = 0.97 * self._swing_speed - 0.05 * self._swing + 0.0011 * swings
        self._swing_speed = np.clip(self._swing_speed, -0.006, 0.006)
        self._swing = self._swing + self._swing_speed
        own = self._drift + scale * noises + self._swing_speed * np.where(self._size > 0.001, 1.0, 0.3)
        moves = self._beta * common + own + shock - MEAN_REVERSION * (self._log - self._anchor)
        return np.clip(moves, -0.18, 0.18), scale

    def _write(self, column: int, moves: Floats, scale: Floats, wicks: Floats, bursts: Floats) -> None:
        """Round one candle of every symbol to the grid and keep it."""
        opened = self._close
        self._log = self._log + moves
        close = np.maximum(10, np.rint(np.exp(self._log) / self._tick)).astype(np.int64)
        reach = np.abs(moves) * 0.25 + scale
        high = np.maximum(opened, close) + np.rint(close * reach * wicks[0]).astype(np.int64)
        low = np.minimum(opened, close) - np.rint(close * reach * wicks[1]).astype(np.int64)
        self._pulse = 0.7 * self._pulse + np.minimum(np.abs(moves) / (scale + 1e-4), 8.0) * 0.3
        hour = (self._first + column) % QUARTERS_A_DAY / QUARTERS_A_DAY * 2 * np.pi
        quote = self._turnover * bursts * (0.55 + 0.6 * self._pulse) * (1.0 - 0.25 * np.cos(hour - 0.8))
        volume = np.maximum(8, np.rint(quote / (close * self._tick) / self._step)).astype(np.int64)
        self._store[:, :, column] = np.stack([opened, high, np.maximum(low, 5), close, volume], axis=1)
        self._close = close


def _shocks(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Floats, list[tuple[int, int, float, bool]]]:
    """Cascades: a market-wide one every other day, and a symbol's own every few days, each over three candles with a rebound.

    Returns:
        Log returns to add, and for each cascade its symbol, first candle, size and whether it is the market's.
    """
    out = np.zeros(shape)
    labels: list[tuple[int, int, float, bool]] = []
    if rng.random() < 0.5:
        at = int(rng.integers(4, shape[0] - 5))
        size = float(rng.uniform(0.012, 0.035)) * (1 if rng.random() < 0.35 else -1)
        spread = rng.uniform(0.6, 1.5, shape[1])
        for after, share in enumerate((0.6, 0.4, -0.25)):
            out[at + after] += size * share * spread
        labels += [(number, at, size * float(spread[number]), True) for number in range(shape[1])]
    struck = np.nonzero(rng.random(shape[1]) < 0.3)[0]
    starts = rng.integers(2, shape[0] - 5, shape[1])
    sizes = rng.uniform(0.015, 0.06, shape[1]) * rng.choice([-1.0, 1.0], shape[1])
    for number in struck:
        for after, share in enumerate((0.55, 0.45, -0.2)):
            out[starts[number] + after, number] += sizes[number] * share
    labels += [(int(number), int(starts[number]), float(sizes[number]), False) for number in struck]
    return out, labels


def _chosen_rules() -> list[SymbolRules]:
    """The leaders and, behind them, the exchange's oldest listings."""
    rest = sorted(
        (rules for rules in RECORDED.values() if rules.symbol not in LEADERS and rules.status == "TRADING"),
        key=lambda rules: (rules.onboard_ms, noise(key_of(0, rules.symbol), 0)),
    )
    return [RECORDED[symbol] for symbol in LEADERS] + rest[: SYMBOLS - len(LEADERS)]
