"""The screener's rules as declared expressions: what drops a row of a table, with which reason, in which words.

Stands between features and `screen`, which ranks what the rules leave. Rules are asked in their order and the first that drops gives the reason.
In every table an unknown figure is null, never NaN: a comparison with null is null, and a rule drops only where it is true, so a missing
figure decides nothing by itself; the rule that asks for the figures by name drops its symbol.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import polars as pl

from shared.analysis import Rejection, RejectionReason
from shared.enums import Side

MIN_CANDLES_15M: Final = 50
MIN_CANDLES_4H: Final = 200
MIN_VOLUME_RATIO: Final = 1.2
DEAD_ZONE: Final = (40.0, 60.0)
DEAD_ZONE_VOLUME_RATIO: Final = 3.0
"""In the dead zone of RSI only such a volume is worth a look."""

LONG_BELOW: Final = 45.0
SHORT_ABOVE: Final = 55.0
"""RSI that a long in a bull market stays under, and a short in a bear market over."""

DECISIVE: Final = ("volume_ratio", "rsi", "ema_200_4h", "close")
"""The figures that v3.1 decides by."""


class DropRule(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One reason to drop a row: true in `drops` drops it; `detail` is a format string for the figures of the columns `told`."""

    name: str
    drops: pl.Expr
    reason: RejectionReason
    detail: str
    told: tuple[str, ...] = ()


class RankCut(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What falls past a limit once a table is ranked, told as by a rule; `rank` is one of the columns."""

    name: str
    reason: RejectionReason
    detail: str
    told: tuple[str, ...] = ()


class Points(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One reason for a score: the points of the first tier that is true, 0 where none is or a figure is unknown."""

    name: str
    tiers: tuple[tuple[pl.Expr, float | pl.Expr], ...]

    @property
    def expression(self) -> pl.Expr:
        """The points as a column."""
        return pl.coalesce([*(pl.when(true).then(points) for true, points in self.tiers), pl.lit(0.0)])


class RuleSet(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A screener by its name: `trend`, `direction` and `score` as expressions over the features, then what drops.

    `points` are what `score` is the sum of, where it is one. `structure`: whether it asks for `structure.Structure` too.
    """

    name: str
    trend: pl.Expr
    direction: pl.Expr
    score: pl.Expr
    rules: tuple[DropRule, ...]
    points: tuple[Points, ...] = ()
    structure: bool = False


def table(columns: Mapping[str, Any]) -> pl.DataFrame:
    """A table from columns; float columns are arrays whose unknown figures are NaN and become null."""
    return pl.DataFrame(columns, nan_to_null=True)


def sift(rows: pl.DataFrame, rules: Sequence[DropRule]) -> tuple[pl.DataFrame, tuple[Rejection, ...]]:
    """The rows that no rule drops, and for each other one, in the table's order, the first rule that does.

    Args:
        rows: With `symbol` and every column that the rules and their details name.
        rules: In the order in which they are asked.
    """
    drops = pl.coalesce([pl.when(rule.drops).then(pl.lit(place, pl.Int8)) for place, rule in enumerate(rules)])
    first = rows.select(drops.alias("first")).to_series()
    return rows.filter(first.is_null()), tuple(_rejections(rows, rules, first))


def cut(ranked: pl.DataFrame, limit: int, past: RankCut) -> tuple[pl.DataFrame, tuple[Rejection, ...]]:
    """The first rows of a ranked table, and a rejection for each other one, best first."""
    rest = ranked.slice(limit)
    return ranked.head(limit), tuple(_rejections(rest, (past,), [0] * rest.height))


def _rejections(rows: pl.DataFrame, rules: Sequence[DropRule | RankCut], first: Iterable[int | None]) -> Iterator[Rejection]:
    symbols = rows["symbol"].to_list()
    told = [[rows[name].to_list() for name in rule.told] for rule in rules]
    for row, place in enumerate(first):
        if place is not None:
            figures = [math.nan if column[row] is None else column[row] for column in told[place]]
            detail = rules[place].detail.format(*figures)
            yield Rejection(symbol=symbols[row], reason=rules[place].reason, detail=detail)


def any_unknown(*names: str) -> pl.Expr:
    """True where one of the figures is unknown."""
    return pl.any_horizontal(pl.col(name).is_null() for name in names)


def ticker_rules(min_quote_volume: float, min_change_percent: float) -> tuple[DropRule, ...]:
    """The pre-filter over 24 h tickers: USDT of quote volume, absolute percent of change."""
    return (
        DropRule(
            name="no ticker",
            drops=any_unknown("quote_volume", "change_percent"),
            reason=RejectionReason.MARKET_DATA_MISSING,
            detail="no 24 h ticker",
        ),
        DropRule(
            name="low quote volume",
            drops=pl.col("quote_volume") < min_quote_volume,
            reason=RejectionReason.LOW_QUOTE_VOLUME,
            detail="24 h quote volume {:,.0f} USDT",
            told=("quote_volume",),
        ),
        DropRule(
            name="low change",
            drops=pl.col("change_percent").abs() < min_change_percent,
            reason=RejectionReason.LOW_CHANGE,
            detail="24 h change {:+.2f} %",
            told=("change_percent",),
        ),
    )


OUTSIDE_TOP_MOVERS: Final = RankCut(
    name="outside top movers",
    reason=RejectionReason.OUTSIDE_TOP_MOVERS,
    detail="24 h change {:+.2f} %, rank {}",
    told=("change_percent", "rank"),
)

OUTRANKED: Final = RankCut(
    name="outranked", reason=RejectionReason.OUTRANKED, detail="score {:.2f}, rank {}", told=("score", "rank")
)

BULL: Final = pl.col("close") > pl.col("ema_200_4h")
_RSI: Final = pl.col("rsi")
_RATIO: Final = pl.col("volume_ratio")

TREND: Final = pl.when(BULL).then(pl.lit("BULL")).when(~BULL).then(pl.lit("BEAR"))
WITH_THE_TREND: Final = pl.when(BULL).then(pl.lit(str(Side.LONG))).when(~BULL).then(pl.lit(str(Side.SHORT)))


def undefined(*names: str) -> DropRule:
    """The rule that asks for the figures by which a screener decides."""
    return DropRule(
        name="undefined figure",
        drops=any_unknown(*names),
        reason=RejectionReason.NOT_ENOUGH_HISTORY,
        detail="a figure is undefined",
    )


SHORT_HISTORY: Final = DropRule(
    name="short history",
    drops=(pl.col("candles_15m") < MIN_CANDLES_15M) | (pl.col("candles_4h") < MIN_CANDLES_4H),
    reason=RejectionReason.NOT_ENOUGH_HISTORY,
    detail="{} candles of 15m, {} of 4h",
    told=("candles_15m", "candles_4h"),
)

V3_1: Final = RuleSet(
    name="v3.1",
    trend=TREND,
    direction=WITH_THE_TREND,
    score=pl.when(BULL & (_RSI < LONG_BELOW))
    .then((50 - _RSI) + 5 * _RATIO)
    .when(~BULL & (_RSI > SHORT_ABOVE))
    .then((_RSI - 50) + 5 * _RATIO)
    .when(~any_unknown(*DECISIVE))
    .then(0.0),
    rules=(
        SHORT_HISTORY,
        undefined(*DECISIVE),
        DropRule(
            name="low volume ratio",
            drops=_RATIO < MIN_VOLUME_RATIO,
            reason=RejectionReason.LOW_VOLUME_RATIO,
            detail="volume ratio {:.2f}",
            told=("volume_ratio",),
        ),
        DropRule(
            name="dead zone",
            drops=_RSI.is_between(*DEAD_ZONE) & (_RATIO < DEAD_ZONE_VOLUME_RATIO),
            reason=RejectionReason.RSI_DEAD_ZONE,
            detail="RSI {:.1f}, volume ratio {:.2f}",
            told=("rsi", "volume_ratio"),
        ),
        DropRule(
            name="no score",
            drops=pl.col("score") <= 0,
            reason=RejectionReason.NO_SCORE,
            detail="RSI {:.1f} in a {} market",
            told=("rsi", "trend"),
        ),
    ),
)
"""The first system's screener: a bull market (last 15m close above the EMA200 of 4h closes) wants a low RSI, a bear market a high one;
score = |50 - RSI| + 5 x volume ratio."""
