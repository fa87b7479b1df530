"""The market-side use cases: the scan of /analyze, the bars of /marks, the window of /whales. They read like the arrow."""

from engine.analysis.marks import look
from engine.analysis.scan import ScanPlan, scan
from engine.analysis.sources import Sources
from engine.analysis.whales import show_window

__all__ = ["ScanPlan", "Sources", "look", "scan", "show_window"]
