"""The engine's broken promises. A "no" of the market is a value (`shared.analysis.Rejection`), never one of these.

EngineError
├── SettingsError            a setting is missing or malformed; the start stops with its name
├── ClockUnavailable         the market clock did not answer within its bound
├── SnapshotsUnavailable     Redis does not answer
├── LeaseLost                another feed leads by now: nothing was written
├── ReportStoreUnavailable   Redis does not answer for a report: whether it was kept is unknown
├── ClientOrderIdReused      an id came again with another order behind it
├── SealBroken               sealed credentials do not open: another user's, another key's, or damaged
├── VenueError               a signed call did not end with an answer
│   ├── VenueUnsure          it may or may not have been carried out: look it up, never send it again
│   ├── VenueAway            it was certainly not carried out: wait, then it may be sent
│   └── VenueHalted          key, signature, address or clock: nothing goes for this account until that is mended
└── ExchangeError            public data did not come
    ├── ExchangeUnreachable  no connection, a time-out, or 5xx
    ├── ExchangeThrottled    429, 418, or our own weight budget is spent
    ├── ExchangeRefused      the exchange answered with an error code
    ├── ReplyMalformed       the reply does not fit the documented form
    └── UnknownSymbol        the exchange lists no such symbol
"""


class EngineError(Exception):
    """Everything below is one of these."""


class SettingsError(EngineError):
    """A setting is missing or malformed."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name


class ClockUnavailable(EngineError):
    """The market clock did not answer within its bound."""


class SnapshotsUnavailable(EngineError):
    """Redis does not answer."""


class LeaseLost(EngineError):
    """Another feed leads by now: nothing was written, and nothing more is to be."""


class ReportStoreUnavailable(EngineError):
    """Redis does not answer for a report."""


class ClientOrderIdReused(EngineError):
    """An id came again with another order behind it; nothing was done."""

    def __init__(self, client_order_id: str) -> None:
        super().__init__(f"{client_order_id} already names another order")
        self.client_order_id = client_order_id


class SealBroken(EngineError):
    """Sealed credentials do not open; nothing of them is told."""


class VenueError(EngineError):
    """A signed call did not end with an answer. `code` is the exchange's number, where it gave one."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class VenueUnsure(VenueError):
    """It may or may not have been carried out."""


class VenueAway(VenueError):
    """It was certainly not carried out."""

    def __init__(self, message: str, code: int | None = None, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message, code)
        self.retry_after_seconds = retry_after_seconds


class VenueHalted(VenueError):
    """Key, signature, address or clock is wrong."""


class ExchangeError(EngineError):
    """Public data of the exchange did not come."""


class ExchangeUnreachable(ExchangeError):
    """No connection, a time-out, or a server error."""


class ExchangeThrottled(ExchangeError):
    """The exchange told us to slow down, or our own budget is spent."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ExchangeRefused(ExchangeError):
    """The exchange answered with an error code of its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ReplyMalformed(ExchangeError):
    """A reply does not fit the documented form."""


class UnknownSymbol(ExchangeError):
    """The exchange lists no such symbol."""
