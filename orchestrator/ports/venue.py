"""What trading asks of others than its own store: the engine over the wire, leases, balances."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

import msgspec

from orchestrator.ports.desk import PanicReceipt
from orchestrator.ports.records import Trader
from shared import execution as wire
from shared.analysis import AnalyzeReply, AnalyzeRequest, MarksReply
from shared.enums import Mode
from shared.execution import (
    AccountEvent,
    BalanceReply,
    CanaryReply,
    CancelReply,
    CancelRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    FlattenReply,
    FlattenRequest,
    GuardsReply,
    GuardsRequest,
    KeyCheckReply,
    OrderReply,
    PositionsReply,
    ProtectReport,
    ProtectRequest,
    PublicKeyReply,
    ResealRequest,
    SealedCredentials,
    TruthReply,
    TruthRequest,
)


class Engine(Protocol):
    """The other service. Every call raises EngineUnavailable where its outcome is unknown, EngineRefused where it did nothing.

    The trace id bound in `orchestrator.log` travels in X-Trace-Id.
    """

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeReply:
        """POST /analyze."""
        ...

    async def marks(self, since: Mapping[str, datetime]) -> MarksReply:
        """POST /marks; it may be asked again."""
        ...

    async def enter(self, request: EntryRequest) -> ExecutionReport:
        """POST /execute/entry, sent once."""
        ...

    async def close(self, request: CloseRequest) -> ExecutionReport:
        """POST /execute/close, sent once."""
        ...

    async def protect(self, request: ProtectRequest) -> ProtectReport:
        """POST /execute/protect, sent once."""
        ...

    async def order(self, client_order_id: str, account: wire.Account, symbol: str | None = None) -> OrderReply:
        """POST /execute/orders/{client_order_id}; it may be asked again."""
        ...

    async def balance(self, account: wire.Account) -> BalanceReply:
        """POST /execute/balance."""
        ...

    async def positions(self, account: wire.Account) -> PositionsReply:
        """POST /execute/positions."""
        ...

    async def flatten(self, request: FlattenRequest) -> FlattenReply:
        """POST /execute/flatten; it may be asked again under the same prefix."""
        ...

    async def truth(self, request: TruthRequest) -> TruthReply:
        """POST /execute/truth, REAL only; it may be asked again."""
        ...

    async def guards(self, request: GuardsRequest) -> GuardsReply:
        """POST /execute/guards, REAL only; it may be asked again."""
        ...

    async def cancel(self, request: CancelRequest) -> CancelReply:
        """POST /execute/cancel, REAL only; it may be asked again."""
        ...

    async def canary(self, account: wire.Account) -> CanaryReply:
        """POST /execute/canary, REAL only."""
        ...

    def events(self, account: wire.Account) -> AsyncIterator[AccountEvent]:
        """POST /execute/events, REAL only: nudges of the user data stream, one JSON line each; ends with EngineUnavailable."""
        ...

    async def public_key(self) -> PublicKeyReply:
        """GET /keys."""
        ...

    async def reseal(self, request: ResealRequest) -> SealedCredentials:
        """POST /keys/reseal."""
        ...

    async def check_keys(self, account: wire.Account) -> KeyCheckReply:
        """POST /keys/check."""
        ...

    async def claim_keys(self, user_id: str) -> SealedCredentials:
        """POST /keys/claim."""
        ...


class Lease(Protocol):
    """A lock that ends by itself."""

    async def extend(self) -> None:
        """Hold it for its full time from now; raises LeaseLost when it had expired or was taken."""
        ...


class Mutex(Protocol):
    """Locks over all processes."""

    def hold(self, name: str, seconds: float) -> AbstractAsyncContextManager[Lease | None]:
        """A lease of that many wall seconds, released at the end by its token; None when another holds it."""
        ...


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet's balance in USDT; None where nobody knows it. `fresh` is False when it is too old to decide on."""

    balance: Decimal | None
    fresh: bool


class Balances(Protocol):
    """What a user's wallet holds in a mode, from what is known already: no call leaves."""

    def of(self, trader: Trader, mode: Mode) -> Wallet:
        """PAPER: the locked row's. REAL: the last balance heard, with its age."""
        ...


class Lifeline(Protocol):
    """What panic needs while PostgreSQL is away, kept in Redis: sealed credentials of who has real money to lose, and who said stop.

    Every method raises StoreUnavailable.
    """

    async def keep(self, user_id: UUID, credentials: SealedCredentials) -> None:
        """From arming on, while the user is in REAL, or has something open there, and entries are live."""
        ...

    async def forget(self, user_id: UUID) -> None:
        """The key is gone, or the user left REAL, or entries are dry runs."""
        ...

    async def credentials(self, user_id: UUID) -> SealedCredentials | None:
        """What was kept."""
        ...

    async def all_kept(self) -> list[UUID]:
        """Whose credentials are kept; who left REAL meanwhile is to be forgotten."""
        ...

    async def stop(self, user_id: UUID, at: datetime) -> None:
        """Nothing new is entered for this user, whatever the store says, until the flag is taken down."""
        ...

    async def stopped(self, user_id: UUID) -> bool:
        """Whether the flag is up."""
        ...

    async def all_stopped(self) -> list[UUID]:
        """Whose flags are up: they are to be written into the store."""
        ...

    async def keep_receipt(self, user_id: UUID, receipt: PanicReceipt) -> None:
        """What a panic without the store came to, until the store has it."""
        ...

    async def receipt(self, user_id: UUID) -> PanicReceipt | None:
        """What was kept."""
        ...

    async def take_down(self, user_id: UUID) -> None:
        """The store has it: flag and receipt go."""
        ...
