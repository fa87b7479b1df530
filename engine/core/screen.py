"""The screener "v3.1": from every listed perpetual to the few candidates, each dropped symbol with its reason.

Stands between features and the analyst. Two steps: `preselect` needs 24 h tickers only and decides whose candles are read,
`screen` needs features; `weigh_whales` then lets large hands veto or move a candidate, always by direction.

Source: the first system's screener v3.1 and whale boost; bounds below are its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from engine.core.features import Features
from engine.core.market import Ticker
from engine.core.whales import expected_side
from shared.analysis import Candidate, Rejection, RejectionReason, WhaleSignal, WhaleView
from shared.enums import Side

MIN_CANDLES_15M: Final = 50
MIN_CANDLES_4H: Final = 200
MIN_VOLUME_RATIO: Final = 1.2
DEAD_ZONE: Final = (40.0, 60.0)
DEAD_ZONE_VOLUME_RATIO: Final = 3.0
"""In the dead zone of RSI only such a volume is worth a look."""

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


def preselect(universe: Iterable[str], tickers: Mapping[str, Ticker], bounds: ScreenBounds) -> Shortlist:
    """The most moved of the liquid symbols, by absolute 24 h change, ties by name."""
    rejections: list[Rejection] = []
    movers: list[Ticker] = []
    for symbol in sorted(universe):
        refused = _too_quiet(symbol, tickers.get(symbol), bounds)
        if refused is None:
            movers.append(tickers[symbol])
        else:
            rejections.append(refused)
    movers.sort(key=lambda ticker: (-abs(ticker.change_percent), ticker.symbol))
    limit = bounds.read_limit
    rejections += [
        _no(
            ticker.symbol, RejectionReason.OUTSIDE_TOP_MOVERS, f"24 h change {ticker.change_percent:+.2f} %, rank {limit + place}"
        )
        for place, ticker in enumerate(movers[limit:], start=1)
    ]
    return Shortlist(symbols=tuple(ticker.symbol for ticker in movers[:limit]), rejections=tuple(rejections))


def _too_quiet(symbol: str, ticker: Ticker | None, bounds: ScreenBounds) -> Rejection | None:
    if ticker is None or not np.isfinite([ticker.quote_volume, ticker.change_percent]).all():
        return _no(symbol, RejectionReason.MARKET_DATA_MISSING, "no 24 h ticker")
    if ticker.quote_volume < bounds.min_quote_volume:
        return _no(symbol, RejectionReason.LOW_QUOTE_VOLUME, f"24 h quote volume {ticker.quote_volume:,.0f} USDT")
    if abs(ticker.change_percent) < bounds.min_change_percent:
        return _no(symbol, RejectionReason.LOW_CHANGE, f"24 h change {ticker.change_percent:+.2f} %")
    return None


def screen(features: Features, top_n: int) -> Screened:
    """Scores every symbol whose candles were read and keeps the best.

    A bull market (last 15m close above the EMA200 of 4h closes) wants a low RSI, a bear market a high one:
    score = |50 - RSI| + 5 x volume ratio.

    Args:
        features: One row a symbol; NaN where history is too short.
        top_n: Candidates kept.
    """
    scored: list[Candidate] = []
    rejections: list[Rejection] = []
    for row, symbol in enumerate(features.symbols):
        refused = _refusal(features, row, symbol)
        if refused is None:
            scored.append(_candidate(features, row, symbol))
        else:
            rejections.append(refused)
    return ranked(scored, top_n, rejections)


def ranked(candidates: Sequence[Candidate], top_n: int, rejections: Sequence[Rejection] = ()) -> Screened:
    """The best by score, ties by name; the rest are outranked."""
    best = sorted(candidates, key=lambda candidate: (-candidate.score, candidate.symbol))
    outranked = [
        _no(candidate.symbol, RejectionReason.OUTRANKED, f"score {candidate.score:.2f}, rank {place}")
        for place, candidate in enumerate(best[top_n:], start=top_n + 1)
    ]
    return Screened(candidates=tuple(best[:top_n]), rejections=(*rejections, *outranked))


def _refusal(features: Features, row: int, symbol: str) -> Rejection | None:
    quarter, four_hour = int(features.candles_15m[row]), int(features.candles_4h[row])
    if quarter < MIN_CANDLES_15M or four_hour < MIN_CANDLES_4H:
        return _no(symbol, RejectionReason.NOT_ENOUGH_HISTORY, f"{quarter} candles of 15m, {four_hour} of 4h")
    ratio, strength = float(features.volume_ratio[row]), float(features.rsi[row])
    if not np.isfinite([ratio, strength, features.ema_200_4h[row], features.close[row]]).all():
        return _no(symbol, RejectionReason.NOT_ENOUGH_HISTORY, "a figure is undefined")
    if ratio < MIN_VOLUME_RATIO:
        return _no(symbol, RejectionReason.LOW_VOLUME_RATIO, f"volume ratio {ratio:.2f}")
    if DEAD_ZONE[0] <= strength <= DEAD_ZONE[1] and ratio < DEAD_ZONE_VOLUME_RATIO:
        return _no(symbol, RejectionReason.RSI_DEAD_ZONE, f"RSI {strength:.1f}, volume ratio {ratio:.2f}")
    if _score(features, row)[1] <= 0:
        return _no(symbol, RejectionReason.NO_SCORE, f"RSI {strength:.1f} in a {_trend(features, row)} market")
    return None


def _trend(features: Features, row: int) -> str:
    return "BULL" if features.close[row] > features.ema_200_4h[row] else "BEAR"


def _score(features: Features, row: int) -> tuple[Side, float]:
    strength, ratio = float(features.rsi[row]), float(features.volume_ratio[row])
    if _trend(features, row) == "BULL":
        return Side.LONG, (50 - strength) + 5 * ratio if strength < 45 else 0.0
    return Side.SHORT, (strength - 50) + 5 * ratio if strength > 55 else 0.0


_SHOWN: Final = (
    "volume_ratio", "volume_z", "rsi", "rsi_change", "atr", "atr_percent", "adx", "macd_histogram", "macd_histogram_change",
    "band_width", "band_position", "roc_3", "efficiency", "body", "close", "ema_200_4h", "ema_50_4h", "rsi_4h",
)  # fmt: skip
"""The figures that travel with a candidate to the analyst, the signal and the dashboard."""


def _candidate(features: Features, row: int, symbol: str) -> Candidate:
    side, score = _score(features, row)
    figures: dict[str, float | str | bool | None] = {name: _shown(getattr(features, name)[row]) for name in _SHOWN}
    return Candidate(symbol=symbol, score=score, direction=side, features={"trend": _trend(features, row), **figures})


def _shown(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def weigh_whales(candidates: Sequence[Candidate], views: Mapping[str, WhaleView], top_n: int) -> Screened:
    """Lets the whale views reach the decision and ranks again.

    A squeeze or an imminent move against a candidate vetoes it; one in its direction raises its score. Nothing raises a score against its
    direction. A candidate without a view is left as it is.
    """
    kept: list[Candidate] = []
    rejections: list[Rejection] = []
    for candidate in candidates:
        view = views.get(candidate.symbol)
        side = expected_side(view) if view is not None else None
        if view is not None and side is candidate.direction.opposite:
            words = ", ".join(view.reasons)
            rejections.append(
                _no(candidate.symbol, RejectionReason.WHALE_VETO, f"{view.signal} against {candidate.direction}: {words}")
            )
            continue
        boost = whale_boost(view) if view is not None and side is candidate.direction else 0.0
        kept.append(msgspec.structs.replace(candidate, score=candidate.score + boost, whale=view))
    return ranked(kept, top_n, rejections)


def whale_boost(view: WhaleView) -> float:
    """Points for a view that agrees: up to 50 for an imminent move from confidence 60, up to 25 for a squeeze from 50."""
    if view.signal in (WhaleSignal.PUMP_IMMINENT, WhaleSignal.DUMP_IMMINENT) and view.confidence >= 60:
        return min(50.0, 25 + 0.5 * (view.confidence - 60))
    if view.signal in (WhaleSignal.SQUEEZE_LONGS, WhaleSignal.SQUEEZE_SHORTS) and view.confidence >= 50:
        return min(25.0, 10 + 0.3 * (view.confidence - 50))
    return 0.0


def _no(symbol: str, reason: RejectionReason, detail: str) -> Rejection:
    return Rejection(symbol=symbol, reason=reason, detail=detail)
