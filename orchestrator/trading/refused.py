"""How often the venue refused to close each triggered position, and when to try again: at once, then less often, never not at all."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

LONGEST_PAUSE: Final = timedelta(seconds=15)
"""Wall time; a position that should be closed is tried at least so often."""

ALARM_AT: Final = 3
"""Refusals in a row that are no blip any more: said once, loudly."""


class RefusedCloses:
    """What one process knows of refusals; it forgets at its end, and then tries at once.

    Args:
        wall: The wall clock.
    """

    def __init__(self, wall: Callable[[], datetime]) -> None:
        self._wall = wall
        self._rows: dict[UUID, tuple[int, datetime]] = {}
        self._counted = 0

    def may_try(self, position_id: UUID) -> bool:
        """Whether its pause is over."""
        _, until = self._rows.get(position_id, (0, None))
        return until is None or self._wall() >= until

    def refused(self, position_id: UUID) -> bool:
        """Notes one more refusal; whether it is time to raise the alarm."""
        times = self._rows.get(position_id, (0, None))[0] + 1
        self._rows[position_id] = times, self._wall() + min(timedelta(seconds=2 ** min(times, 10) - 2), LONGEST_PAUSE)
        self._counted += 1
        return times == ALARM_AT

    def done(self, position_id: UUID) -> None:
        """It was closed after all, or is on its way."""
        self._rows.pop(position_id, None)

    def count(self) -> int:
        """Refusals since the last time this was asked."""
        counted, self._counted = self._counted, 0
        return counted
