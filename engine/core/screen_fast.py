"""The screener v3.1 over arrays: the same rules, reasons and order as `screen` by its tables, for a scan that must not cost milliseconds.

Stands beside `screen`, which stays the reference: its tables carry any `RuleSet`, this one kernel only v3.1. `rank` decides and says no word;
`screen_fast` tells it as `screen` does, and `preselect_fast` is to `preselect` what it is to `screen`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Final

import msgspec
import numpy as np

from engine.core import features_steps as steps
from engine.core.features import Features
from engine.core.features_live import Booleans, Told
from engine.core.features_steps import kernel
from engine.core.market import Floats, Integers, Ticker
from engine.core.screen import SHOWN, ScreenBounds, Screened, Shortlist
from engine.core.screen_rules import (
    DEAD_ZONE,
    DEAD_ZONE_VOLUME_RATIO,
    LONG_BELOW,
    MIN_CANDLES_4H,
    MIN_CANDLES_15M,
    MIN_VOLUME_RATIO,
    OUTRANKED,
    OUTSIDE_TOP_MOVERS,
    SHORT_ABOVE,
    V3_1,
    DropRule,
    RankCut,
    ticker_rules,
)
from shared.analysis import Candidate, Rejection
from shared.enums import Side

KEPT: Final = -1
NOT_ASKED: Final = -2
SHORT_HISTORY, UNDEFINED, LOW_VOLUME, IN_DEAD_ZONE, NO_SCORE = range(5)
"""What became of a symbol: the place of the rule of V3_1 that dropped it, or one of the two above."""

_DEAD_FROM, _DEAD_TO = DEAD_ZONE


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules say of every row: `outcome` a rule's place, KEPT or NOT_ASKED; `best` the kept rows, best first."""

    outcome: Integers
    score: Floats
    bull: Booleans
    best: Integers


@kernel
def _judge(close: float, ratio: float, rsi: float, ema: float) -> tuple[int, float]:
    """One symbol with enough history: its outcome and its score."""
    if not (np.isfinite(close) and np.isfinite(ratio) and np.isfinite(rsi) and np.isfinite(ema)):
        return UNDEFINED, 0.0
    if ratio < MIN_VOLUME_RATIO:
        return LOW_VOLUME, 0.0
    if _DEAD_FROM <= rsi <= _DEAD_TO and ratio < DEAD_ZONE_VOLUME_RATIO:
        return IN_DEAD_ZONE, 0.0
    score = 0.0
    if close > ema and rsi < LONG_BELOW:
        score = (50 - rsi) + 5 * ratio
    elif not close > ema and rsi > SHORT_ABOVE:
        score = (rsi - 50) + 5 * ratio
    return (KEPT if score > 0 else NO_SCORE), score


@kernel
def _judge_all(
    asked: Booleans, quarters: Integers, four_hours: Integers, close: Floats, ratio: Floats, rsi: Floats, ema: Floats
) -> tuple[Integers, Floats]:
    count = len(close)
    outcome = np.empty(count, np.int64)
    score = np.zeros(count)
    for row in range(count):
        if not asked[row]:
            outcome[row] = NOT_ASKED
        elif quarters[row] < MIN_CANDLES_15M or four_hours[row] < MIN_CANDLES_4H:
            outcome[row] = SHORT_HISTORY
        else:
            outcome[row], score[row] = _judge(close[row], ratio[row], rsi[row], ema[row])
    return outcome, score


def rank(features: Features) -> Ranking:
    """Which symbols v3.1 keeps, best first, and which rule drops each other one.

    Args:
        features: One row a symbol; NaN where history is too short.
    """
    everyone = np.ones(len(features.symbols), np.bool_)
    columns = (features.close, features.volume_ratio, features.rsi, features.ema_200_4h)
    return _ranked(features.symbols, everyone, features.candles_15m, features.candles_4h, *columns)


def rank_told(told: Told, asked: Booleans) -> Ranking:
    """`rank` over what the feed holds or its snapshot says, nothing copied.

    Args:
        told: Both timeframes.
        asked: Who takes part, as `told.fresh` says.
    """
    quarter, four_hour = told.quarter.table, told.four_hour.table
    columns = (quarter[steps.CLOSE], quarter[steps.VOLUME_RATIO], quarter[steps.RSI], four_hour[steps.EMA_200])
    return _ranked(told.symbols, asked, told.quarter.seen, told.four_hour.seen, *columns)


def _ranked(
    symbols: Sequence[str],
    asked: Booleans,
    quarters: Integers,
    four_hours: Integers,
    close: Floats,
    ratio: Floats,
    rsi: Floats,
    ema: Floats,
) -> Ranking:
    plain: list[Any] = [np.ascontiguousarray(column) for column in (asked, quarters, four_hours, close, ratio, rsi, ema)]
    outcome, score = _judge_all(*plain)
    kept = np.flatnonzero(outcome == KEPT)
    best = kept[np.argsort(-score[kept], kind="stable")]
    merits = score[best]
    if (merits[1:] == merits[:-1]).any():  # a name breaks a tie, and names are worth comparing only then
        best = np.array(sorted(kept, key=lambda row: (-score[row], symbols[row])), np.int64)
    return Ranking(outcome=outcome, score=score, bull=close > ema, best=best)


def preselect_fast(
    universe: Iterable[str], tickers: Mapping[str, Ticker], bounds: ScreenBounds, known: Collection[str] = ()
) -> Shortlist:
    """What `preselect` says of the same tickers, word for word."""
    symbols = sorted(universe)
    found = [tickers.get(symbol) for symbol in symbols]
    volume = np.array([np.nan if ticker is None else ticker.quote_volume for ticker in found], np.float64)
    change = np.array([np.nan if ticker is None else ticker.change_percent for ticker in found], np.float64)
    rules = ticker_rules(bounds.min_quote_volume, bounds.min_change_percent)
    drops = [
        ~(np.isfinite(volume) & np.isfinite(change)),
        volume < bounds.min_quote_volume,
        abs(change) < bounds.min_change_percent,
    ]
    outcome = np.select(drops, range(len(rules)), KEPT)
    kept = np.flatnonzero(outcome == KEPT)
    best = kept[np.argsort(-abs(change[kept]), kind="stable")]
    columns = {"quote_volume": volume.tolist(), "change_percent": change.tolist()}
    dropped = _told_of(symbols, outcome, rules, columns)
    unread = [(place, row) for place, row in enumerate(best, start=1) if symbols[row] not in known][bounds.read_limit :]
    rest = [_rejection(OUTSIDE_TOP_MOVERS, symbols[row], (float(change[row]), place)) for place, row in unread]
    past = {row for _, row in unread}
    return Shortlist(symbols=tuple(symbols[row] for row in best if row not in past), rejections=(*dropped, *rest))


def screen_fast(features: Features, top_n: int) -> Screened:
    """What `screen` by V3_1 says of the same features, word for word.

    Args:
        features: One row a symbol; NaN where history is too short.
        top_n: Candidates kept.
    """
    ranking = rank(features)
    candidates = _candidates(features, ranking, ranking.best[:top_n])
    return Screened(candidates=candidates, rejections=(*_dropped(features, ranking), *_outranked(features, ranking, top_n)))


def _candidates(features: Features, ranking: Ranking, rows: Integers) -> tuple[Candidate, ...]:
    columns: list[Any] = [getattr(features, name)[rows].tolist() for name in SHOWN]
    scores: list[Any] = [column[rows].tolist() for column in (ranking.score, ranking.bull)]
    return tuple(
        _candidate(features.symbols[row], score, bull=bull, shown=shown)
        for row, score, bull, *shown in zip(rows, *scores, *columns, strict=True)
    )


def _candidate(symbol: str, score: float, *, bull: bool, shown: Sequence[float]) -> Candidate:
    figures: dict[str, float | str | bool | None] = {"trend": "BULL" if bull else "BEAR"}
    for name, value in zip(SHOWN, shown, strict=True):
        figures[name] = value if isfinite(value) else None
    return Candidate(symbol=symbol, score=score, direction=Side.LONG if bull else Side.SHORT, features=figures)


def _dropped(features: Features, ranking: Ranking) -> list[Rejection]:
    names = {name for rule in V3_1.rules for name in rule.told}
    columns = {name: getattr(features, name).tolist() for name in names - {"trend"}}
    columns["trend"] = ["BULL" if bull else "BEAR" for bull in ranking.bull]
    return _told_of(features.symbols, ranking.outcome, V3_1.rules, columns)


def _told_of(
    symbols: Sequence[str], outcome: Integers, rules: Sequence[DropRule], columns: Mapping[str, Sequence[Any]]
) -> list[Rejection]:
    """In the symbols' order, each that a rule dropped, in that rule's words."""
    told = [[columns[name] for name in rule.told] for rule in rules]
    words = [(rule.reason, rule.detail.format) for rule in rules]
    rejections = []
    places: Any = outcome.tolist()
    for row, place in enumerate(places):
        if place >= 0:
            reason, detail = words[place]
            rejections.append(
                Rejection(symbol=symbols[row], reason=reason, detail=detail(*[column[row] for column in told[place]]))
            )
    return rejections


def _rejection(rule: DropRule | RankCut, symbol: str, figures: Sequence[Any]) -> Rejection:
    return Rejection(symbol=symbol, reason=rule.reason, detail=rule.detail.format(*figures))


def _outranked(features: Features, ranking: Ranking, top_n: int) -> list[Rejection]:
    past = enumerate(ranking.best[top_n:], start=top_n + 1)
    return [_rejection(OUTRANKED, features.symbols[row], (float(ranking.score[row]), place)) for place, row in past]


def warm_up() -> None:
    """Loads or compiles the kernel, so that the first scan does not pay for it."""
    one = np.ones(1)
    _judge_all(one.astype(np.bool_), one.astype(np.int64), one.astype(np.int64), one, one, one, one)
