"""The screener "v3.1": from every listed perpetual to the few candidates, each dropped symbol with its reason.

Stands between features and the analyst. Two steps: `preselect` needs 24 h tickers only and decides whose candles are read,
`screen` needs features; `weigh_whales` then lets large hands veto or move a candidate, always by direction.

Source: the first system's screener v3.1 and whale boost; bounds below are its own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from engine.core.features import Features
from engine.core.market import Floats, Ticker
from engine.core.screen_rules import OUTRANKED, OUTSIDE_TOP_MOVERS, V3_1, RuleSet, cut, sift, table, ticker_rules
from engine.core.structure import Structure
from engine.core.whales import favours, forbids
from shared.analysis import Candidate, Rejection, RejectionReason, WhaleSignal, WhaleView
from shared.enums import Side

READ_FACTOR: Final = 6
MOST_READ: Final = 60


class ScreenBounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings bound: USDT of 24 h quote volume, percent of 24 h change, candidates kept."""

    min_quote_volume: float
    min_change_percent: float
    top_n: int

    @property
    def read_limit(self) -> int:
        """Symbols whose candles are read."""
        return min(self.top_n * READ_FACTOR, MOST_READ)


class Shortlist(msgspec.Struct, frozen=True, kw_only=True):
    """What a step kept, best first, and why the others fell."""

    symbols: tuple[str, ...]
    rejections: tuple[Rejection, ...]


class Screened(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates, best score first, and why the others fell."""

    candidates: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]


def preselect(
    universe: Iterable[str], tickers: Mapping[str, Ticker], bounds: ScreenBounds, known: Collection[str] = ()
) -> Shortlist:
    """The liquid symbols that moved, most moved first by absolute 24 h change, ties by name.

    Args:
        universe: Who may take part.
        tickers: Of them.
        bounds: `read_limit` is how many are kept whose candles must be read: what reading costs is its only reason.
        known: Symbols whose figures are known without reading; the limit is not for them.
    """
    kept, quiet = sift(_ticker_table(universe, tickers), ticker_rules(bounds.min_quote_volume, bounds.min_change_percent))
    movers = _by_rank(kept, pl.col("change_percent").abs())
    _, rest = cut(movers.filter(~pl.col("symbol").is_in(list(known))), bounds.read_limit, OUTSIDE_TOP_MOVERS)
    past = {rejection.symbol for rejection in rest}
    symbols = tuple(symbol for symbol in movers["symbol"].to_list() if symbol not in past)
    return Shortlist(symbols=symbols, rejections=(*quiet, *rest))


def _ticker_table(universe: Iterable[str], tickers: Mapping[str, Ticker]) -> pl.DataFrame:
    symbols = sorted(universe)
    found = [tickers.get(symbol) for symbol in symbols]
    return table(
        {
            "symbol": pl.Series(symbols, dtype=pl.String),
            "quote_volume": _known([np.nan if ticker is None else ticker.quote_volume for ticker in found]),
            "change_percent": _known([np.nan if ticker is None else ticker.change_percent for ticker in found]),
        }
    )


def _by_rank(rows: pl.DataFrame, merit: pl.Expr) -> pl.DataFrame:
    """The best first, ties by name, so that the order in which symbols came decides nothing; an unknown merit is last."""
    ordered = rows.sort(merit, "symbol", descending=[True, False], nulls_last=True, maintain_order=True)
    return ordered.with_row_index("rank", offset=1)


def _known(values: Sequence[float] | Floats) -> Floats:
    """The finite ones; the others NaN, which a table keeps as null."""
    column = np.asarray(values, np.float64)
    return np.where(np.isfinite(column), column, np.nan)


def screen(features: Features, top_n: int, rule_set: RuleSet = V3_1, structure: Structure | None = None) -> Screened:
    """Scores every symbol whose candles were read and keeps the best.

    Args:
        features: One row a symbol; NaN where history is too short.
        top_n: Candidates kept.
        rule_set: How symbols are scored and what drops them.
        structure: Of the same symbols, for a rule set that asks for it; without it their form is unknown.
    """
    kept, dropped = sift(_scored(features, rule_set, structure), rule_set.rules)
    best, rest = cut(_by_rank(kept, pl.col("score")), top_n, OUTRANKED)
    shown = ("trend", *SHOWN, *(FORM if rule_set.structure else ()))
    return Screened(candidates=tuple(_candidate(row, shown) for row in best.iter_rows(named=True)), rejections=(*dropped, *rest))


def near_misses(features: Features, rule_set: RuleSet = V3_1, structure: Structure | None = None) -> frozenset[str]:
    """The symbols that a single rule dropped: known well enough, and every other rule would have kept them.

    Args:
        features: As for `screen`.
        rule_set: As for `screen`.
        structure: As for `screen`.
    """
    rows = _scored(features, rule_set, structure)
    unknown = [rule.drops for rule in rule_set.rules if rule.reason is RejectionReason.NOT_ENOUGH_HISTORY]
    against = pl.sum_horizontal(rule.drops.fill_null(value=False).cast(pl.Int32) for rule in rule_set.rules)
    return frozenset(rows.filter((against == 1) & ~pl.any_horizontal(unknown))["symbol"].to_list())


SHOWN: Final = (
    "volume_ratio", "volume_z", "rsi", "rsi_change", "atr", "atr_percent", "adx", "macd_histogram", "macd_histogram_change",
    "band_width", "band_position", "roc_3", "efficiency", "body", "close", "ema_200_4h", "ema_50_4h", "rsi_4h",
)  # fmt: skip
"""The figures that travel with a candidate to the analyst, the signal and the dashboard."""

FORM: Final = ("swing", "resistance", "support", "rsi_slope")
"""The fields of `Structure`, which travel too where the rule set asks for them."""


def _scored(features: Features, rule_set: RuleSet, structure: Structure | None) -> pl.DataFrame:
    columns = {
        "symbol": pl.Series(features.symbols, dtype=pl.String),
        "candles_15m": features.candles_15m,
        "candles_4h": features.candles_4h,
        **{name: _known(getattr(features, name)) for name in SHOWN},
        **(_form(structure, len(features.symbols)) if rule_set.structure else {}),
    }
    return table(columns).with_columns(trend=rule_set.trend, direction=rule_set.direction, score=rule_set.score)


def _form(structure: Structure | None, count: int) -> dict[str, Any]:
    swing, *figures = FORM
    if structure is None:
        return {swing: pl.Series([None] * count, dtype=pl.String), **{name: np.full(count, np.nan) for name in figures}}
    return {
        swing: pl.Series(structure.swing, dtype=pl.String),
        **{name: _known(getattr(structure, name)) for name in figures},
    }


def _candidate(row: dict[str, Any], shown: Sequence[str]) -> Candidate:
    figures = {name: row[name] for name in shown}
    return Candidate(symbol=row["symbol"], score=row["score"], direction=Side(row["direction"]), features=figures)


def ranked(candidates: Sequence[Candidate], top_n: int, rejections: Sequence[Rejection] = ()) -> Screened:
    """The best by score, ties by name; the rest are outranked."""
    rows = table(
        {
            "symbol": pl.Series([candidate.symbol for candidate in candidates], dtype=pl.String),
            "score": np.array([candidate.score for candidate in candidates], np.float64),
            "place": np.arange(len(candidates)),
        }
    )
    best, rest = cut(_by_rank(rows, pl.col("score")), top_n, OUTRANKED)
    return Screened(candidates=tuple(candidates[place] for place in best["place"]), rejections=(*rejections, *rest))


def weigh_whales(candidates: Sequence[Candidate], views: Mapping[str, WhaleView], top_n: int) -> Screened:
    """Lets the whale views reach the decision and ranks again.

    A squeeze, an imminent move or a running cascade against a candidate vetoes it; a squeeze or an imminent move in its direction raises its
    score. Nothing raises a score against its direction. A candidate without a view is left as it is.
    """
    kept: list[Candidate] = []
    rejections: list[Rejection] = []
    for candidate in candidates:
        view = views.get(candidate.symbol)
        against = forbids(view, candidate.direction) if view is not None else None
        if against is not None:
            rejections.append(Rejection(symbol=candidate.symbol, reason=RejectionReason.WHALE_VETO, detail=against))
            continue
        boost = whale_boost(view) if view is not None and favours(view, candidate.direction) else 0.0
        kept.append(msgspec.structs.replace(candidate, score=candidate.score + boost, whale=view))
    return ranked(kept, top_n, rejections)


def whale_boost(view: WhaleView) -> float:
    """Points for a view that agrees: up to 50 for an imminent move from confidence 60, up to 25 for a squeeze from 50."""
    if view.signal in (WhaleSignal.PUMP_IMMINENT, WhaleSignal.DUMP_IMMINENT) and view.confidence >= 60:
        return min(50.0, 25 + 0.5 * (view.confidence - 60))
    if view.signal in (WhaleSignal.SQUEEZE_LONGS, WhaleSignal.SQUEEZE_SHORTS) and view.confidence >= 50:
        return min(25.0, 10 + 0.3 * (view.confidence - 50))
    return 0.0
