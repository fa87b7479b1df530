"""The market-side use cases: the scan of /analyze, the bars of /marks, the window of /whales. They read like the arrow."""

from engine.analysis.by_rules import RulesAnalyst
from engine.analysis.market_desk import MarketDesk
from engine.analysis.marks import look
from engine.analysis.ready import Readiness, readiness
from engine.analysis.scan import ScanPlan, scan
from engine.analysis.sources import CANDLE_SETTLES_MS, Governor, Sources, Widen
from engine.analysis.whales import show_window

__all__ = [
    "CANDLE_SETTLES_MS",
    "Governor",
    "MarketDesk",
    "Readiness",
    "RulesAnalyst",
    "ScanPlan",
    "Sources",
    "Widen",
    "look",
    "readiness",
    "scan",
    "show_window",
]
