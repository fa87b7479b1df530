"""Screener v3.1 and its pre-filter once more in plain Python, symbol by symbol: what the tables must equal to the bit."""

import math
from collections.abc import Iterable, Mapping, Sequence

from engine.core.features import Features
from engine.core.market import Ticker
from shared.analysis import RejectionReason

type No = tuple[str, RejectionReason, str]
type Pick = tuple[str, float, str]


def preselect_plainly(
    universe: Iterable[str], tickers: Mapping[str, Ticker], volume: float, change: float, limit: int
) -> tuple[list[str], list[No]]:
    """Symbols to read, most moved first, and why the others fell."""
    fallen: list[No] = []
    movers: list[Ticker] = []
    for symbol in sorted(universe):
        found = tickers.get(symbol)
        if found is None or not (math.isfinite(found.quote_volume) and math.isfinite(found.change_percent)):
            fallen.append((symbol, RejectionReason.MARKET_DATA_MISSING, "no 24 h ticker"))
        elif found.quote_volume < volume:
            detail = f"24 h quote volume {found.quote_volume:,.0f} USDT"
            fallen.append((symbol, RejectionReason.LOW_QUOTE_VOLUME, detail))
        elif abs(found.change_percent) < change:
            fallen.append((symbol, RejectionReason.LOW_CHANGE, f"24 h change {found.change_percent:+.2f} %"))
        else:
            movers.append(found)
    movers.sort(key=lambda mover: (-abs(mover.change_percent), mover.symbol))
    for rank, mover in enumerate(movers[limit:], start=limit + 1):
        detail = f"24 h change {mover.change_percent:+.2f} %, rank {rank}"
        fallen.append((mover.symbol, RejectionReason.OUTSIDE_TOP_MOVERS, detail))
    return [mover.symbol for mover in movers[:limit]], fallen


def screen_plainly(features: Features, top_n: int) -> tuple[list[Pick], list[No]]:
    """Symbol, score and direction of the candidates, best first, and why the others fell."""
    picks: list[Pick] = []
    fallen: list[No] = []
    for row, symbol in enumerate(features.symbols):
        no = _refusal(features, row)
        if no is None:
            score, side = _score(features, row)
            picks.append((symbol, score, side))
        else:
            fallen.append((symbol, *no))
    picks.sort(key=lambda pick: (-pick[1], pick[0]))
    return picks[:top_n], [*fallen, *_outranked(picks, top_n)]


def _outranked(picks: Sequence[Pick], top_n: int) -> list[No]:
    return [
        (symbol, RejectionReason.OUTRANKED, f"score {score:.2f}, rank {rank}")
        for rank, (symbol, score, _) in enumerate(picks[top_n:], start=top_n + 1)
    ]


def _refusal(features: Features, row: int) -> tuple[RejectionReason, str] | None:
    quarter, four_hour = int(features.candles_15m[row]), int(features.candles_4h[row])
    if quarter < 50 or four_hour < 200:
        return RejectionReason.NOT_ENOUGH_HISTORY, f"{quarter} candles of 15m, {four_hour} of 4h"
    ratio, strength = float(features.volume_ratio[row]), float(features.rsi[row])
    if not all(map(math.isfinite, (ratio, strength, features.ema_200_4h[row], features.close[row]))):
        return RejectionReason.NOT_ENOUGH_HISTORY, "a figure is undefined"
    if ratio < 1.2:
        return RejectionReason.LOW_VOLUME_RATIO, f"volume ratio {ratio:.2f}"
    if 40 <= strength <= 60 and ratio < 3:
        return RejectionReason.RSI_DEAD_ZONE, f"RSI {strength:.1f}, volume ratio {ratio:.2f}"
    if _score(features, row)[0] <= 0:
        trend = "BULL" if features.close[row] > features.ema_200_4h[row] else "BEAR"
        return RejectionReason.NO_SCORE, f"RSI {strength:.1f} in a {trend} market"
    return None


def _score(features: Features, row: int) -> tuple[float, str]:
    strength, ratio = float(features.rsi[row]), float(features.volume_ratio[row])
    if features.close[row] > features.ema_200_4h[row]:
        return ((50 - strength) + 5 * ratio if strength < 45 else 0.0), "LONG"
    return ((strength - 50) + 5 * ratio if strength > 55 else 0.0), "SHORT"
