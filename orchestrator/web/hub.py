"""One listener on the bus for all live streams of this process."""

from orchestrator.ports import LiveLog


class Hub:
    """Holds the live streams of this process."""

    def __init__(self, log: LiveLog) -> None:
        self._log = log
        self.streams = 0
