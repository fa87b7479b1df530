"""The rule-based analyst behind the Analyst port."""

from engine.core.rules import argue
from engine.core.verdict import AnalystFailure, Case, Verdict
from shared.enums import AnalystKind


class RulesAnalyst:
    """Judges by `engine.core.rules`; used when no model's key is set."""

    kind = AnalystKind.RULES
    model = ""
    answered_ms: int | None = None
    failing = False

    async def argue(self, case: Case) -> Verdict | AnalystFailure:
        """The rules' verdict, at once."""
        return argue(case)
