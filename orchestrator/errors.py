"""Broken promises of the orchestrator. A "no" to a user is a Refusal, a value; these are raised.

OrchestratorError
├── SettingsError           a setting is missing or malformed
├── EngineUnavailable       the engine did not answer or not in the wire's form; nothing is known of what it did
│   └── EngineRefused       it answered with a problem: it did nothing
├── ClockUnavailable        the sandbox's clock did not answer at the start
├── LeaseLost               a lock expired while its work went on
├── StoreUnavailable        PostgreSQL or Redis did not answer
│   └── StoreSilent         nor did it fail: it hangs
└── Conflict                a row changed under a compare-and-set
"""


class OrchestratorError(Exception):
    """The head of the tree."""


class SettingsError(OrchestratorError):
    """A setting is missing or malformed; the message names it."""


class EngineUnavailable(OrchestratorError):
    """The engine did not answer in time or not in the wire's form: what it did is unknown."""


class EngineRefused(EngineUnavailable):
    """The engine answered with a problem before doing anything.

    Attributes:
        code: The problem's stable word.
        status: HTTP status.
    """

    def __init__(self, code: str, detail: str, status: int) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status


class ClockUnavailable(OrchestratorError):
    """The market clock named by the settings did not answer."""


class LeaseLost(OrchestratorError):
    """A lock expired or was taken while its work went on."""


class StoreUnavailable(OrchestratorError):
    """PostgreSQL or Redis did not answer."""


class StoreSilent(StoreUnavailable):
    """It hangs: no error will come from it."""


class Conflict(OrchestratorError):
    """A row changed between reading and writing it."""
