"""For how long real positions were known to have no working stop, told once that was put right here: a measure, which decides nothing.

What rights itself is not told: a look may be behind, and positions are read before the orders that closed them.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from orchestrator.ports import Clock


class Lapses:
    """Since when which position is known to be bare.

    Args:
        clock: Wall time.
    """

    def __init__(self, clock: Clock) -> None:
        self.told: Callable[[float], None] = lambda seconds: None  # noqa: ARG005 - nobody counts until somebody is set
        """Takes the seconds of each lapse that was put right; whoever counts sets it."""
        self._clock = clock
        self._since: dict[UUID, datetime] = {}

    def seen(self, position_id: UUID, *, bare: bool) -> None:
        """A look showed a position with its stop, without one, or not at all."""
        if bare:
            self._since.setdefault(position_id, self._clock.wall())
        else:
            self._since.pop(position_id, None)

    def put_right(self, position_id: UUID) -> None:
        """Its stop rests again, or it was closed."""
        since = self._since.pop(position_id, None)
        if since is not None:
            self.told((self._clock.wall() - since).total_seconds())
