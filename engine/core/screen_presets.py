"""The screeners that a deployment may choose from, by name: v3.1, and the first system's later ideas as declarations of the same kind.

Stands between the rules and `screen`. A later preset is what must be there (gates and its setup), what is worth points, and a side. A score adds
named points, so two presets that share an idea share its words. Sentiment and funding, which the first system's last screener weighed too, are
left out: they cost several requests a symbol; whales weigh in afterwards, whatever the preset.

Source: the first system's screeners after v3.1: "v4" as it was when the seed was written, "v5" its last state; "squeeze", "efficiency",
"z-score", "momentum" and "structure" are one idea of them each. They left the side to a later step; where its rule does not say one, the trend does.
"""

from collections.abc import Mapping
from typing import Final

import polars as pl

from engine.core.screen_rules import BULL, SHORT_HISTORY, TREND, V3_1, WITH_THE_TREND, DropRule, Points, RuleSet, undefined
from shared.analysis import RejectionReason
from shared.enums import Side

SQUEEZE_BELOW: Final = 0.02
"""Width of the Bollinger bands (20, 2 deviations) over their middle."""

LEAST_VOLUME_RATIO: Final = 0.5
LEAST_EFFICIENCY: Final = 0.25
LEAST_ATR_PERCENT: Final = 0.15
NEAR: Final = 0.003
"""Distance to a level over the price, below which the way to it is too short."""

_VOLUME, _VOLUME_Z, _RSI = pl.col("volume_ratio"), pl.col("volume_z"), pl.col("rsi")
_EFFICIENCY, _ROC, _SWING, _SLOPE = pl.col("efficiency"), pl.col("roc_3"), pl.col("swing"), pl.col("rsi_slope")
_SQUEEZE: Final = pl.col("band_width") < SQUEEZE_BELOW

_HALF_BAND: Final = pl.col("band_width") / 2
_OVER_MIDDLE: Final = 1 + pl.col("band_position") * _HALF_BAND
"""The close over the middle band."""

_DISTANCES: Final = (
    (pl.col("resistance") - pl.col("close")) / pl.col("close"),
    (pl.col("close") - pl.col("support")) / pl.col("close"),
    (1 - pl.col("band_position")).abs() * _HALF_BAND / _OVER_MIDDLE,
    (1 + pl.col("band_position")).abs() * _HALF_BAND / _OVER_MIDDLE,
)
_NEAR: Final = pl.min_horizontal(_DISTANCES) < NEAR

_LONG, _SHORT = pl.lit(str(Side.LONG)), pl.lit(str(Side.SHORT))
_WITH_THE_MOVE: Final = pl.when(_ROC > 0).then(_LONG).when(_ROC < 0).then(_SHORT).otherwise(WITH_THE_TREND)
_FAST_MOVE: Final = (_ROC.abs() > 1.0) & (_VOLUME > 1.5)

GATES: Final = (
    DropRule(
        name="thin volume",
        drops=(_VOLUME < LEAST_VOLUME_RATIO) & ~_SQUEEZE,
        reason=RejectionReason.LOW_VOLUME_RATIO,
        detail="volume ratio {:.2f}, no squeeze",
        told=("volume_ratio",),
    ),
    DropRule(
        name="inefficient move",
        drops=(_EFFICIENCY < LEAST_EFFICIENCY) & ~_SQUEEZE,
        reason=RejectionReason.LOW_EFFICIENCY,
        detail="efficiency ratio {:.2f}, no squeeze",
        told=("efficiency",),
    ),
    DropRule(
        name="narrow range",
        drops=pl.col("atr_percent") < LEAST_ATR_PERCENT,
        reason=RejectionReason.LOW_RANGE,
        detail="ATR {:.2f} % of the price",
        told=("atr_percent",),
    ),
)

VOLUME: Final = Points(name="volume", tiers=((pl.lit(value=True), 5 * _VOLUME),))
STRENGTH: Final = Points(name="trend strength", tiers=((pl.lit(value=True), pl.col("adx") / 5),))
SQUEEZE_V4: Final = Points(name="squeeze", tiers=((_SQUEEZE & (_VOLUME_Z > 2), 70.0), (_SQUEEZE, 40.0)))
SQUEEZE_V5: Final = Points(name="squeeze", tiers=((_SQUEEZE & (_VOLUME_Z > 2), 50.0), (_SQUEEZE, 30.0)))
EFFICIENT_V4: Final = Points(name="efficient move", tiers=((_EFFICIENCY > 0.7, 40.0), (_EFFICIENCY > 0.5, 20.0)))
EFFICIENT_V5: Final = Points(name="efficient move", tiers=((_EFFICIENCY > 0.8, 40.0), (_EFFICIENCY > 0.6, 20.0)))
SPIKE_V4: Final = Points(name="volume spike", tiers=((_VOLUME_Z > 3, 35.0),))
SPIKE_V5: Final = Points(name="volume spike", tiers=((_VOLUME_Z > 4, 40.0), (_VOLUME_Z > 3, 25.0)))
STRETCHED_V4: Final = Points(name="stretched against the trend", tiers=(((BULL & (_RSI < 35)) | (~BULL & (_RSI > 65)), 15.0),))
STRETCHED_V5: Final = Points(name="stretched against the trend", tiers=(((BULL & (_RSI < 40)) | (~BULL & (_RSI > 60)), 15.0),))
TURNING: Final = Points(name="RSI turns with the trend", tiers=(((BULL & (_SLOPE > 3)) | (~BULL & (_SLOPE < -3)), 10.0),))
MOMENTUM: Final = Points(
    name="momentum", tiers=(((_ROC.abs() > 1.5) & (_VOLUME > 2), 50.0), ((_ROC.abs() > 1.0) & (_VOLUME > 1.5), 30.0))
)
CHOPPY: Final = Points(name="choppy", tiers=((_SWING == "CHOPPY", -20.0),))
NEAR_LEVEL: Final = Points(name="near a level", tiers=((_NEAR, -15.0),))
QUALITY: Final = Points(
    name="structure",
    tiers=((_SWING.is_in(["UPTREND", "DOWNTREND"]), 80.0), (_SWING.is_in(["ACCUMULATION", "DISTRIBUTION"]), 60.0)),
)

_FIGURES: Final = ("close", "ema_200_4h", "volume_ratio", "rsi", "efficiency", "band_width", "atr_percent", "adx")
_FORM: Final = ("swing", "resistance", "support", "band_position")


def _low_score(least: float) -> DropRule:
    return DropRule(
        name="low score",
        drops=pl.col("score") <= least,
        reason=RejectionReason.LOW_SCORE,
        detail=f"score {{:.1f}}, more than {least:g} is wanted",
        told=("score",),
    )


def _setup(drops: pl.Expr, detail: str, *told: str) -> DropRule:
    return DropRule(name="no setup", drops=drops, reason=RejectionReason.NO_SETUP, detail=detail, told=told)


def _preset(
    name: str,
    points: tuple[Points, ...],
    last: DropRule,
    *,
    asks: tuple[str, ...] = (),
    direction: pl.Expr = WITH_THE_TREND,
    structure: bool = False,
) -> RuleSet:
    """A later preset: history, figures, gates, then what it wants itself."""
    return RuleSet(
        name=name,
        trend=TREND,
        direction=direction,
        score=pl.sum_horizontal(one.expression for one in points),
        rules=(SHORT_HISTORY, undefined(*_FIGURES, *asks), *GATES, last),
        points=points,
        structure=structure,
    )


SQUEEZE: Final = _preset(
    "squeeze",
    (SQUEEZE_V4, VOLUME, STRENGTH),
    _setup(~_SQUEEZE, "band width {:.3f}", "band_width"),
    asks=("volume_z", "band_position"),
    direction=pl.when(pl.col("band_position") > 0)
    .then(_LONG)
    .when(pl.col("band_position") < 0)
    .then(_SHORT)
    .otherwise(WITH_THE_TREND),
)
"""Narrow bands, taken on the side of their middle on which the price stands."""

EFFICIENCY: Final = _preset(
    "efficiency",
    (EFFICIENT_V4, VOLUME, STRENGTH),
    _setup(_EFFICIENCY <= 0.5, "efficiency ratio {:.2f}", "efficiency"),
    asks=("roc_3",),
    direction=_WITH_THE_MOVE,
)
"""A straight way, taken on with the last three candles."""

Z_SCORE: Final = _preset(
    "z-score",
    (SPIKE_V5, VOLUME, STRENGTH),
    _setup(_VOLUME_Z <= 3, "volume z-score {:.2f}", "volume_z"),
    asks=("volume_z", "roc_3"),
    direction=_WITH_THE_MOVE,
)
"""A volume far outside its last twenty."""

MOVERS: Final = _preset(
    "momentum",
    (MOMENTUM, VOLUME, STRENGTH),
    _setup(~_FAST_MOVE, "{:+.2f} % in three candles, volume ratio {:.2f}", "roc_3", "volume_ratio"),
    asks=("roc_3",),
    direction=_WITH_THE_MOVE,
)
"""A fast move on raised volume, taken on."""

STRUCTURE: Final = _preset(
    "structure",
    (QUALITY, NEAR_LEVEL, VOLUME, STRENGTH),
    _setup(_SWING.is_in(["CHOPPY", "UNCLEAR"]), "swings are {}", "swing"),
    asks=_FORM,
    direction=pl.when(_SWING.is_in(["UPTREND", "ACCUMULATION"])).then(_LONG).otherwise(_SHORT),
    structure=True,
)
"""Swings that rise or fall, with room to the next level."""

V4: Final = _preset(
    "v4", (SQUEEZE_V4, EFFICIENT_V4, STRETCHED_V4, SPIKE_V4, VOLUME, STRENGTH), _low_score(15), asks=("volume_z",)
)

V5: Final = _preset(
    "v5",
    (MOMENTUM, EFFICIENT_V5, SPIKE_V5, SQUEEZE_V5, STRETCHED_V5, TURNING, VOLUME, STRENGTH, CHOPPY, NEAR_LEVEL),
    _low_score(20),
    asks=("volume_z", "roc_3", "rsi_slope", *_FORM),
    direction=pl.when(_FAST_MOVE)
    .then(_WITH_THE_MOVE)
    .when((BULL & (_RSI < 35)) | (~BULL & (_RSI > 65)))
    .then(WITH_THE_TREND)
    .when(_RSI < 30)
    .then(_LONG)
    .when(_RSI > 70)
    .then(_SHORT)
    .otherwise(WITH_THE_TREND),
    structure=True,
)

PRESETS: Final[Mapping[str, RuleSet]] = {
    preset.name: preset for preset in (V3_1, V4, V5, SQUEEZE, EFFICIENCY, Z_SCORE, MOVERS, STRUCTURE)
}
