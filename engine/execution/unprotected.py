"""How long entries stood without a stop, each told once: where its report is made, not each time that it is read."""

from collections import OrderedDict
from typing import Final

from prometheus_client import Histogram

from shared.execution import ExecutionReport

KEPT_IDS: Final = 10_000
"""Entries of which this process remembers that they were told: many days of them. One that is resumed makes its report anew."""

UNPROTECTED: Final = Histogram(
    "neurotrade_engine_unprotected_seconds",
    "Wall time from an entry's fill to its confirmed stop, or to flat; real positions only.",
    buckets=(0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0),
)

_TOLD: Final[OrderedDict[str, None]] = OrderedDict()


def note_unprotected(report: ExecutionReport) -> ExecutionReport:
    """Counts an entry at the exchange that this process has not counted yet, and hands the report on."""
    if report.unprotected_seconds is None or report.dry_run or report.venue == "paper" or report.client_order_id in _TOLD:
        return report
    _TOLD[report.client_order_id] = None
    if len(_TOLD) > KEPT_IDS:
        _TOLD.popitem(last=False)
    UNPROTECTED.observe(report.unprotected_seconds)
    return report
