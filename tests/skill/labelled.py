"""The sandbox's synthetic market as a judge: its labelled cascades, and what each detector says of every minute of it.

The engine's detector gets what it would get in service: forced orders (one a symbol and second), and the last 150 s of the mark. The baselines get
the minute candles of the same tape. Nobody is told anything of a later moment.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

import msgspec
import numpy as np

from deploy.sandbox.core.intervals import QUARTER_MS
from deploy.sandbox.core.liquidations import ForcedOrder as Forced
from deploy.sandbox.core.liquidations import forced_orders
from deploy.sandbox.core.market import Market, worded
from deploy.sandbox.core.path import CLOSE, VOLUME, Floats
from deploy.sandbox.core.synthetic import DEFAULT_START_MS, PUSH, SyntheticMarket
from deploy.sandbox.core.tape import Tape
from engine.core.cascade import WINDOW_MS, cascade_of
from engine.core.market import ForcedOrder
from engine.core.ticks import REACH_MS
from engine.core.whales import flow_of
from shared.analysis import CascadeState
from shared.enums import Side
from tests.skill.scoring import Alarm, Label

MINUTE_MS: Final = 60_000
QUARTERS_A_DAY: Final = 96
MINUTES_A_QUARTER: Final = 15
WIDTHS: Final = (1, 3, 5)
"""Minutes over which a baseline looks for a spike; which is best is chosen with its threshold."""
USUAL_MINUTES: Final = 240
"""What a spike is measured against: the four hours before."""

CASCADE: Final = "cascade heat"
PRESSURE: Final = "liquidated USD"
VOLUME_SPIKE: Final = "volume spike"
RETURN_SPIKE: Final = "return spike"
FLOORS: Final = {VOLUME_SPIKE: 2.0, RETURN_SPIKE: 2.0}
"""Alarms below are not kept: no threshold lies there."""


class Judged(msgspec.Struct):
    """What was put into some seeds' markets, and what each detector said."""

    labels: list[Label] = msgspec.field(default_factory=list)
    alarms: dict[str, list[Alarm]] = msgspec.field(default_factory=dict)

    def add(self, name: str, alarms: list[Alarm]) -> None:
        """Alarms of one symbol; sorted before they are judged."""
        self.alarms.setdefault(name, []).extend(alarms)

    def ordered(self) -> "Judged":
        """By time, as flags are taken from them."""
        for alarms in self.alarms.values():
            alarms.sort(key=lambda alarm: (alarm.day, alarm.at_ms))
        return self


def judged(seeds: range, days: int) -> Judged:
    """Some days of every seed's market, from its second day on: the first gives the baselines their usual."""
    out = Judged()
    for seed in seeds:
        source = SyntheticMarket(seed)
        market = Market(source, seed, DEFAULT_START_MS)
        first = source.span(0)[0] + QUARTERS_A_DAY
        last = first + days * QUARTERS_A_DAY
        names = [rules.symbol for rules in source.rules]
        for cascade in source.cascades(first, last - PUSH):
            out.labels.append(
                _label(market.tapes[names[cascade.number]], cascade.candle, cascade.size, _day(seed, cascade.candle))
            )
        for name in names:
            for detector, alarms in _alarms(market.tapes[name], seed, first, last):
                out.add(detector, alarms)
    return out.ordered()


def _day(seed: int, candle: int) -> str:
    return f"{seed}/{candle // QUARTERS_A_DAY}"


def _label(tape: Tape, candle: int, size: float, day: str) -> Label:
    sign = 1 if size > 0 else -1
    walks = [tape.ticks(number) for number in range(candle, candle + PUSH)]
    prices = np.concatenate([walk.price for walk in walks]).astype(np.float64)
    times = np.concatenate([walk.times for walk in walks])
    at = int(np.argmax(prices * sign))
    return Label(
        day=day,
        symbol=tape.rules.symbol,
        sign=sign,
        begins_ms=candle * QUARTER_MS,
        ends_ms=(candle + PUSH) * QUARTER_MS,
        size=size,
        opened=float(prices[0]),
        extreme=float(prices[at]),
        extreme_ms=int(times[at]),
    )


def _alarms(tape: Tape, seed: int, first: int, last: int) -> Iterator[tuple[str, list[Alarm]]]:
    rows = tape.minutes(first - USUAL_MINUTES // MINUTES_A_QUARTER, last).table
    closes, volumes = rows[CLOSE].astype(np.float64), rows[VOLUME].astype(np.float64)
    begins = first * QUARTER_MS - USUAL_MINUTES * MINUTE_MS
    yield from _liquidation_alarms(tape, seed, first, last, closes[USUAL_MINUTES:])
    moves = np.diff(np.log(closes), prepend=np.log(closes[0]))
    for width in WIDTHS:
        volume, move = _sums(volumes, width), _sums(moves, width)
        usual, spread = _before(volume, width)[0], _before(move, width)[1]
        for name, scores in (
            (VOLUME_SPIKE, volume / np.maximum(usual, 1e-12)),
            (RETURN_SPIKE, np.abs(move) / np.maximum(spread, 1e-12)),
        ):
            yield f"{name}, {width} min", _spikes(tape, seed, begins, scores, move, closes, FLOORS[name])


def _sums(values: Floats, width: int) -> Floats:
    """The sum of each value and those before it, `width` of them; fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    sums: Floats = total[1:] - total[np.maximum(np.arange(1, len(values) + 1) - width, 0)]
    return sums


def _before(values: Floats, width: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the four hours that ended before each window of `width` began."""
    total, squares = np.concatenate([[0.0], np.cumsum(values)]), np.concatenate([[0.0], np.cumsum(values * values)])
    ends = np.maximum(np.arange(len(values)) + 1 - width, 0)
    starts = np.maximum(ends - USUAL_MINUTES, 0)
    count = np.maximum(ends - starts, 1)
    mean = (total[ends] - total[starts]) / count
    return mean, np.sqrt(np.maximum((squares[ends] - squares[starts]) / count - mean * mean, 0.0))


def _spikes(tape: Tape, seed: int, begins: int, scores: Floats, moves: Floats, closes: Floats, floor: float) -> list[Alarm]:
    """A spike counts in the direction of the price over its own minutes; minutes before the first judged day are only the usual."""
    out = []
    for place in np.nonzero((scores >= floor) & (moves != 0))[0].tolist():
        at_ms = begins + (place + 1) * MINUTE_MS
        if place >= USUAL_MINUTES:
            day = _day(seed, (at_ms - 1) // QUARTER_MS)
            sign = 1 if moves[place] > 0 else -1
            out.append(Alarm(day, tape.rules.symbol, at_ms, float(scores[place]), sign, float(closes[place])))
    return out


def _liquidation_alarms(tape: Tape, seed: int, first: int, last: int, closes: Floats) -> Iterator[tuple[str, list[Alarm]]]:
    orders = [_heard(tape, order) for number in range(first, last) for order in forced_orders(tape, number)]
    times = [order.at_ms for order in orders]
    minutes = sorted(
        {minute for at_ms in times for minute in range(-(-at_ms // MINUTE_MS), (at_ms + WINDOW_MS) // MINUTE_MS + 1)}
    )
    heat, pressure = [], []
    for minute in minutes:
        now_ms = minute * MINUTE_MS
        place = (now_ms - first * QUARTER_MS) // MINUTE_MS - 1
        if not 0 <= place < len(closes):
            continue
        window = orders[bisect_left(times, now_ms - WINDOW_MS) : bisect_right(times, now_ms)]
        day, price = _day(seed, (now_ms - 1) // QUARTER_MS), float(closes[place])
        found = cascade_of(window, _marks(tape, now_ms), now_ms)
        if found.side is not None and found.state in (CascadeState.BUILDING, CascadeState.RUNNING):
            heat.append(Alarm(day, tape.rules.symbol, now_ms, found.heat, -found.side.sign, price))
        flow = flow_of(window, tape.rules.symbol, now_ms)
        side = Side.LONG if flow.long_usd >= flow.short_usd else Side.SHORT
        pressure.append(Alarm(day, tape.rules.symbol, now_ms, max(flow.long_usd, flow.short_usd), -side.sign, price))
    yield CASCADE, heat
    yield PRESSURE, pressure


def _heard(tape: Tape, order: Forced) -> ForcedOrder:
    wire = worded(tape, order).order
    return ForcedOrder(
        symbol=wire["s"],
        side=Side.LONG if wire["S"] == "SELL" else Side.SHORT,
        price=Decimal(wire["p"]),
        quantity=Decimal(wire["q"]),
        at_ms=wire["T"],
    )


def _marks(tape: Tape, now_ms: int) -> list[tuple[int, float]]:
    """The index price that the mark follows, over what the feed keeps of it."""
    out: list[tuple[int, float]] = []
    for number in range((now_ms - REACH_MS) // QUARTER_MS, now_ms // QUARTER_MS + 1):
        ticks = tape.ticks(number)
        start, end = np.searchsorted(ticks.times, [now_ms - REACH_MS, now_ms + 1])
        out += list(zip(ticks.times[start:end].tolist(), ticks.spot[start:end].tolist(), strict=True))
    return out
