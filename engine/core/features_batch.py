"""The figures of all symbols from their candles, as `features_of` has them to the bit, in a tenth of its time.

Stands between both: it recomputes whole histories as `features` does, by the steps of `features_steps`. Symbols with as many candles as others go
together, side by side, so that one loop carries many of them by the same step; those with few of their age are left to `features`. Nothing
is laid out that no figure reads: the first candles' opens and volumes stay where they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from engine.core import features
from engine.core import features_steps as steps
from engine.core.features import QUARTER_FIGURES, WIDTH, Features, Panel, panel_of, quarter_figures, trend_figures
from engine.core.features_live import PLACES
from engine.core.features_steps import kernel
from engine.core.market import Candles, Floats, Integers, Timeframe

LANES: Final = 88
"""Symbols that go together: their candles stay in a near cache, and an odd number of its lines keeps neighbours from displacing each other."""

FEWEST: Final = 6
"""Below so many of one age each is faster on its own."""

TOGETHER: Final = 8
"""Columns that are laid side by side in one go."""

QUARTER_ROWS: Final = {name: name for name in QUARTER_FIGURES}
TREND_ROWS: Final = {"ema_200_4h": "ema_200", "ema_50_4h": "ema_50", "rsi_4h": "rsi"}
"""The figures of `Features` and what `features_steps` calls them."""

type Carry = Callable[[Sequence[Candles], int], Floats]
type OneByOne = Callable[[Panel], dict[str, Floats]]


def features_from(quarter: Sequence[Candles], four_hour: Sequence[Candles]) -> Features:
    """What `features_of` makes of the newest candles of each series (same symbols, same order)."""
    room, quarters, four_hours = _Room(), _counts(quarter), _counts(four_hour)
    return Features(
        symbols=tuple(series.symbol for series in quarter),
        candles_15m=quarters,
        candles_4h=four_hours,
        **_figures(quarter, quarters, QUARTER_ROWS, room.carry_quarter, quarter_figures),
        **_figures(four_hour, four_hours, TREND_ROWS, room.carry_trend, trend_figures),
    )


def _counts(series: Sequence[Candles]) -> Integers:
    return np.minimum(np.array([len(one.close) for one in series], np.int64), WIDTH)


def _figures(
    series: Sequence[Candles], counts: Integers, rows: Mapping[str, str], together: Carry, one_by_one: OneByOne
) -> dict[str, Floats]:
    found = {name: np.empty(len(series)) for name in rows}
    alone: list[int] = []
    for count, places in _of_one_age(counts):
        if len(places) < FEWEST or count == 0:
            alone += places
            continue
        table = together([series[place] for place in places], count)
        where = np.array(places)
        for name, row in rows.items():
            found[name][where] = table[PLACES[row], : len(places)]
    if alone:
        for name, column in one_by_one(panel_of([series[place] for place in alone])).items():
            found[name][alone] = column
    return found


def _of_one_age(counts: Integers) -> Iterator[tuple[int, list[int]]]:
    """Places with as many candles, a few at a time."""
    for count in np.unique(counts).tolist():
        places = np.flatnonzero(counts == count)
        for begin in range(0, len(places), LANES):
            yield count, places[begin : begin + LANES].tolist()


class _Room:
    """Where candles are laid side by side: memory taken anew for each few symbols would cost more than what is done with it."""

    def __init__(self) -> None:
        self._sides = np.empty((4, LANES * WIDTH))
        self._state = np.empty(LANES * steps.MEMORY)

    def carry_quarter(self, series: Sequence[Candles], count: int) -> Floats:
        """`steps.FIGURES` x lanes of 15m candles, as many of each symbol; lanes past the symbols say nothing."""
        high = self._side_by_side(0, [one.high for one in series], count)
        low = self._side_by_side(1, [one.low for one in series], count)
        close = self._side_by_side(2, [one.close for one in series], count)
        volume = self._side_by_side(3, [one.volume for one in series], min(count, steps.RING))
        opened = np.ones(close.shape[1])
        opened[: len(series)] = [one.open[-1] for one in series]
        figures = np.full((len(steps.FIGURES), len(opened)), np.nan)
        steps.carry_quarter(opened, high, low, close, volume, self._blank(len(opened)), figures)
        return figures

    def carry_trend(self, series: Sequence[Candles], count: int) -> Floats:
        """`steps.FIGURES` x lanes of 4h candles, as many of each symbol; only those that TREND_ROWS names."""
        close = self._side_by_side(0, [one.close for one in series], count)
        figures = np.full((len(steps.FIGURES), close.shape[1]), np.nan)
        steps.carry_trend(close, self._blank(close.shape[1]), figures)
        return figures

    def _side_by_side(self, place: int, columns: list[Floats], count: int) -> Floats:
        """The newest so many of each column, as candles x lanes; the last column fills the lanes up."""
        plain = [column if column.flags.carray else np.array(column, np.float64) for column in columns]
        lanes = -(-len(plain) // TOGETHER) * TOGETHER
        plain += plain[-1:] * (lanes - len(plain))
        laid = self._sides[place, : count * lanes].reshape(count, lanes)
        for lane in range(0, lanes, TOGETHER):
            _lay(lane, laid, *plain[lane : lane + TOGETHER])
        return laid

    def _blank(self, lanes: int) -> Floats:
        state = self._state[: steps.MEMORY * lanes].reshape(steps.MEMORY, lanes)
        steps.blank(state, 0, lanes)
        return state


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Eight vectors of eight as their columns: pairs change places, then pairs of pairs, then halves."""
    places = ir.VectorType(ir.IntType(32), TOGETHER)
    for apart in (1, 2, 4):
        low = [lane - apart + TOGETHER if lane & apart else lane for lane in range(TOGETHER)]
        high = [lane + TOGETHER if lane & apart else lane + apart for lane in range(TOGETHER)]
        before = rows
        rows = [
            builder.shuffle_vector(before[row & ~apart], before[row | apart], ir.Constant(places, high if row & apart else low))
            for row in range(TOGETHER)
        ]
    return rows


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def _turn_eight(_: Any, laid: Any, lane: Any, columns: Any, place: Any) -> Any:  # noqa: ARG001  # both are places
    """Eight values of eight columns from a place on, side by side from a lane on."""
    if laid != types.float64[:, ::1] or columns != types.UniTuple(types.float64[::1], TOGETHER):
        return None  # numba refuses it: anything else would be read as other numbers
    vector = ir.VectorType(ir.DoubleType(), TOGETHER)

    def turn(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kinds, (out, first, column_arrays, begin) = signature.args, given
        table = context.make_array(kinds[0])(context, builder, out)
        lanes = builder.extract_value(table.shape, 1)
        rows = []
        for number, kind in enumerate(kinds[2]):
            data = context.make_array(kind)(context, builder, builder.extract_value(column_arrays, number)).data
            rows.append(builder.load(builder.bitcast(builder.gep(data, [begin]), vector.as_pointer()), align=8))
        at = builder.add(builder.mul(begin, lanes), first)
        for row in _turned(builder, rows):
            builder.store(row, builder.bitcast(builder.gep(table.data, [at]), vector.as_pointer()), align=8)
            at = builder.add(at, lanes)
        return context.get_dummy_value()

    return types.void(laid, types.intp, columns, types.intp), turn


@kernel
def _lay(
    lane: int,
    laid: Floats,
    one: Floats,
    two: Floats,
    three: Floats,
    four: Floats,
    five: Floats,
    six: Floats,
    seven: Floats,
    eight: Floats,
) -> None:
    """The newest values of a few columns, side by side from a lane on; eight of each in one go, which the compiler does not find by itself."""
    count = len(laid)
    a, b, c, d = one[len(one) - count :], two[len(two) - count :], three[len(three) - count :], four[len(four) - count :]
    e, f, g, h = five[len(five) - count :], six[len(six) - count :], seven[len(seven) - count :], eight[len(eight) - count :]
    whole = count - count % TOGETHER
    for place in range(0, whole, TOGETHER):
        _turn_eight(laid, lane, (a, b, c, d, e, f, g, h), place)
    for place in range(whole, count):
        row = laid[place, lane : lane + TOGETHER]
        row[0], row[1], row[2], row[3] = a[place], b[place], c[place], d[place]
        row[4], row[5], row[6], row[7] = e[place], f[place], g[place], h[place]


def warm_up() -> None:
    """Loads or compiles every kernel, so that the first scan does not pay for it."""
    rising: Floats = np.arange(1.0, 51.0, dtype=np.float64)
    series = Candles(
        symbol="WARM",
        timeframe=Timeframe.M15,
        open_ms=np.arange(50) * Timeframe.M15.ms,
        open=rising,
        high=rising + 1,
        low=rising - 1,
        close=rising,
        volume=rising,
    )
    features_from([series] * FEWEST, [series] * FEWEST)
    features.warm_up()
