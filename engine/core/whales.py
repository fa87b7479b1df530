"""The whale detector: liquidation pressure, book imbalance, large trades and positioning, added up to a view of what comes next.

Decides which way large hands push a symbol; `screen` lets that veto or raise a candidate, always by direction. Beside the points stands the state of
a cascade (`cascade`): one that runs forbids trading against it whatever the points say. Open interest is shown and gives no points.

Source: the first system's detector (thresholds and points), full scoring with the liquidation window included.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import msgspec

from engine.core.cascade import QUIET_USD, Cascade
from engine.core.cascade import WINDOW_MS as WINDOW_MS
from engine.core.large_trades import TradeFlow, flow_of_trades
from engine.core.market import Book, ForcedOrder, Positioning, Trade
from shared.analysis import CascadeState, LiquidationPressure, WhaleSignal, WhaleView
from shared.enums import Side

WALL_USD: Final = 100_000.0
WALL_REACH: Final = Decimal("0.01")
IMMINENT_POINTS: Final = 60
MAX_CONFIDENCE: Final = 95


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What was liquidated in the window, USD by the side of the position, and in how many forced orders."""

    long_usd: float = 0.0
    short_usd: float = 0.0
    orders: int = 0

    @property
    def pressure(self) -> LiquidationPressure:
        """Which side is being forced out."""
        if self.long_usd + self.short_usd < QUIET_USD:
            return LiquidationPressure.NONE
        ratio = self.long_usd / (self.short_usd + 1)
        if ratio > 2:
            return LiquidationPressure.LONG_HEAVY
        return LiquidationPressure.SHORT_HEAVY if ratio < 0.5 else LiquidationPressure.BALANCED


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """What large hands left behind in one symbol; absent sources are None and give no points.

    `trades` are those of the window by request, `large` the window of the stream, which is listened to first.
    """

    flow: Flow
    book: Book | None = None
    trades: Sequence[Trade] | None = None
    large: TradeFlow | None = None
    positioning: Positioning = Positioning()
    cascade: Cascade = Cascade()

    def large_trades(self, symbol: str) -> TradeFlow | None:
        """Large trades from where they are known; None where nobody said."""
        if self.large is not None:
            return self.large
        return None if self.trades is None else flow_of_trades(symbol, self.trades)


def flow_of(orders: Sequence[ForcedOrder], symbol: str, now_ms: int) -> Flow:
    """A symbol's liquidations of the last 300 s of market time; an undercount, since the stream sends one per symbol and second."""
    recent = [order for order in orders if order.symbol == symbol and 0 <= now_ms - order.at_ms <= WINDOW_MS]
    return Flow(
        long_usd=sum(order.usd for order in recent if order.side is Side.LONG),
        short_usd=sum(order.usd for order in recent if order.side is Side.SHORT),
        orders=len(recent),
    )


def imbalance_of(book: Book) -> float:
    """How much heavier the bids are than the asks, -100..100 percent of their sum."""
    bids = sum(price * quantity for price, quantity in book.bids)
    asks = sum(price * quantity for price, quantity in book.asks)
    return float((bids - asks) / (bids + asks) * 100) if bids + asks else 0.0


def walls_of(book: Book) -> tuple[bool, bool]:
    """Whether a single bid, or ask, above $100k stands within 1 % of the middle."""
    middle = book.mid
    if middle is None:
        return False, False

    def stands(levels: Sequence[tuple[Decimal, Decimal]]) -> bool:
        return any(
            abs(price / middle - 1) <= WALL_REACH and price * quantity > Decimal(int(WALL_USD)) for price, quantity in levels
        )

    return stands(book.bids), stands(book.asks)


type Point = tuple[int, str]


def _liquidation_points(flow: Flow) -> tuple[list[Point], list[Point]]:
    pressure = flow.pressure
    pump = [(30, f"shorts liquidated for ${flow.short_usd:,.0f}")] if pressure is LiquidationPressure.SHORT_HEAVY else []
    dump = [(30, f"longs liquidated for ${flow.long_usd:,.0f}")] if pressure is LiquidationPressure.LONG_HEAVY else []
    return pump, dump


def _book_points(book: Book | None) -> tuple[list[Point], list[Point]]:
    if book is None:
        return [], []
    pump: list[Point] = []
    dump: list[Point] = []
    imbalance = imbalance_of(book)
    if imbalance > 15:
        pump.append((25, f"book {imbalance:+.0f} % to the bids"))
    if imbalance < -15:
        dump.append((25, f"book {imbalance:+.0f} % to the asks"))
    buy_wall, sell_wall = walls_of(book)
    if buy_wall:
        pump.append((20, "a buy wall within 1 %"))
    if sell_wall:
        dump.append((20, "a sell wall within 1 %"))
    return pump, dump


def _trade_points(flow: TradeFlow | None) -> tuple[list[Point], list[Point]]:
    bias = "NONE" if flow is None else flow.bias
    return (
        [(25, "large trades are buying")] if bias == "BUYING" else [],
        [(25, "large trades are selling")] if bias == "SELLING" else [],
    )


_FUNDING_PUMP: Final = ((-0.03, 20), (-0.01, 10))
_FUNDING_DUMP: Final = ((0.05, 20), (0.02, 10))
_LONG_SHORT_PUMP: Final = ((0.7, 20), (0.85, 10))
_LONG_SHORT_DUMP: Final = ((1.5, 20), (1.2, 10))


def _below(value: float, steps: Sequence[tuple[float, int]], words: str) -> list[Point]:
    return next(([(points, words)] for bound, points in steps if value < bound), [])


def _above(value: float, steps: Sequence[tuple[float, int]], words: str) -> list[Point]:
    return next(([(points, words)] for bound, points in steps if value > bound), [])


def _positioning_points(positioning: Positioning) -> tuple[list[Point], list[Point]]:
    pump: list[Point] = []
    dump: list[Point] = []
    if positioning.funding_ratio is not None:
        percent = positioning.funding_ratio * 100
        pump += _below(percent, _FUNDING_PUMP, f"funding {percent:+.3f} %")
        dump += _above(percent, _FUNDING_DUMP, f"funding {percent:+.3f} %")
    if positioning.long_short_ratio is not None:
        ratio = positioning.long_short_ratio
        pump += _below(ratio, _LONG_SHORT_PUMP, f"long/short ratio {ratio:.2f}")
        dump += _above(ratio, _LONG_SHORT_DUMP, f"long/short ratio {ratio:.2f}")
    return pump, dump


def detect(symbol: str, traces: Traces) -> WhaleView:
    """What large hands are about to do to a symbol, with the points and the words behind them."""
    large = traces.large_trades(symbol)
    sides = [
        _liquidation_points(traces.flow),
        _book_points(traces.book),
        _trade_points(large),
        _positioning_points(traces.positioning),
    ]
    pump = [point for up, _ in sides for point in up]
    dump = [point for _, down in sides for point in down]
    pump_points, dump_points = sum(points for points, _ in pump), sum(points for points, _ in dump)
    signal, confidence = _judge(traces.flow, pump_points, dump_points)
    reasons = pump + dump if signal is WhaleSignal.NEUTRAL else (pump if _direction(signal) is Side.LONG else dump)
    bare = WhaleView(
        symbol=symbol,
        signal=signal,
        confidence=confidence,
        pressure=traces.flow.pressure,
        long_liquidations_usd=traces.flow.long_usd,
        short_liquidations_usd=traces.flow.short_usd,
        pump_points=pump_points,
        dump_points=dump_points,
        reasons=[words for _, words in reasons],
    )
    return msgspec.structs.replace(bare, **_figures(traces, large), **_told(traces.cascade))


def _figures(traces: Traces, large: TradeFlow | None) -> dict[str, float | int | bool | None]:
    """What the points were given for, where it was asked."""
    buy_wall, sell_wall = (None, None) if traces.book is None else walls_of(traces.book)
    return {
        "liquidations": traces.flow.orders,
        "book_imbalance_ratio": None if traces.book is None else round(imbalance_of(traces.book) / 100, 4),
        "buy_wall": buy_wall,
        "sell_wall": sell_wall,
        "large_bought_usd": None if large is None else large.bought_usd,
        "large_sold_usd": None if large is None else large.sold_usd,
        "funding_ratio": traces.positioning.funding_ratio,
        "open_interest_change_ratio": traces.positioning.open_interest_change,
        "long_short_ratio": traces.positioning.long_short_ratio,
    }


def _told(cascade: Cascade) -> dict[str, CascadeState | Side | float | None]:
    return {
        "cascade": cascade.state,
        "cascade_side": cascade.side,
        "cascade_heat": round(cascade.heat, 1),
        "cascade_answer_ratio": None if cascade.answer is None else round(cascade.answer, 5),
    }


def _judge(flow: Flow, pump: int, dump: int) -> tuple[WhaleSignal, int]:
    if pump >= IMMINENT_POINTS and pump > dump:
        return WhaleSignal.PUMP_IMMINENT, min(pump, MAX_CONFIDENCE)
    if dump >= IMMINENT_POINTS and dump > pump:
        return WhaleSignal.DUMP_IMMINENT, min(dump, MAX_CONFIDENCE)
    if flow.pressure is LiquidationPressure.LONG_HEAVY and pump < 30:
        return WhaleSignal.SQUEEZE_LONGS, _squeeze_confidence(flow.long_usd)
    if flow.pressure is LiquidationPressure.SHORT_HEAVY and dump < 30:
        return WhaleSignal.SQUEEZE_SHORTS, _squeeze_confidence(flow.short_usd)
    return WhaleSignal.NEUTRAL, max(0, 100 - max(pump, dump))


def _squeeze_confidence(usd: float) -> int:
    return min(MAX_CONFIDENCE, 50 + int(10 * usd / 100_000))


def _direction(signal: WhaleSignal) -> Side | None:
    return {
        WhaleSignal.PUMP_IMMINENT: Side.LONG,
        WhaleSignal.SQUEEZE_SHORTS: Side.LONG,
        WhaleSignal.DUMP_IMMINENT: Side.SHORT,
        WhaleSignal.SQUEEZE_LONGS: Side.SHORT,
    }.get(signal)


def expected_side(view: WhaleView) -> Side | None:
    """The side that the view favours; None when it is neutral."""
    return _direction(view.signal)


def pushed_side(view: WhaleView) -> Side | None:
    """The side that a running cascade favours: longs that are forced out push the price down. None where none runs."""
    if view.cascade is not CascadeState.RUNNING or view.cascade_side is None:
        return None
    return view.cascade_side.opposite


def forbids(view: WhaleView, side: Side) -> str | None:
    """Why no position of this side is to be opened now, in words; None where nothing speaks against it."""
    if expected_side(view) is side.opposite:
        return f"{view.signal} against {side}: {', '.join(view.reasons)}"
    if pushed_side(view) is side.opposite:
        return f"a running cascade of liquidated {view.cascade_side} positions against {side}"
    return None


def favours(view: WhaleView, side: Side) -> bool:
    """Whether the view speaks for this side and nothing in it against."""
    return expected_side(view) is side and forbids(view, side) is None
