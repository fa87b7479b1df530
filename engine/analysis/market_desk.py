"""What the market side's doors are handed: one per process, composed by `engine.app`."""

from collections.abc import Callable

import msgspec

from engine.analysis.scan import ScanPlan
from engine.analysis.sources import Sources, Widen
from engine.ports import Analyst, Heart


class MarketDesk(msgspec.Struct, frozen=True, kw_only=True):
    """Sources, analyst and plan; `weight_used` tells the request weight spent in this market minute."""

    sources: Sources
    plan: ScanPlan
    analyst: Analyst
    widen: Widen | None
    exchange: Heart
    redis: Heart
    weight_used: Callable[[], int]
