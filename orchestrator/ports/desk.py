"""What a user can have done to their money, and the small ports that everybody needs: bus, clock, ids, jobs."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import msgspec

from orchestrator.core.order import Refusal


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """What closing did: the quantity closed now, what is left, and the net PnL when nothing is left."""

    position_id: UUID
    symbol: str
    closed_quantity: Decimal
    left: Decimal
    status: str
    pnl: Decimal | None


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """The position that an entry opened."""

    position_id: UUID
    symbol: str


class Amended(msgspec.Struct, frozen=True, kw_only=True):
    """The protection that holds after an amendment."""

    position_id: UUID
    stop_loss: Decimal | None
    take_profit: Decimal | None
    trailing_ratio: Decimal | None


class SymbolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one position: "closed", or why not."""

    symbol: str
    result: str
    detail: str = ""


class PanicReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """The proof of a panic. `flat` only when nothing is open and no order rests. `stored` is False while PostgreSQL is away."""

    receipt_id: UUID
    auto_trade_enabled: bool
    positions: list[SymbolResult]
    open_positions: int
    open_orders: int
    flat: bool
    stored: bool = True


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """Auto-trading is off; the positions were kept protected, or closed one by one."""

    auto_trade_enabled: bool
    positions: list[SymbolResult]


class Desk(Protocol):
    """Everything a user can have done to their money. Each call is safe to repeat and answers a value, never half a change."""

    async def close(self, user_id: UUID, position_id: UUID, quantity: Decimal | None) -> Closed | Refusal:
        """Close a position or a part of it; reduce-only, at the position's own mode."""
        ...

    async def amend(
        self,
        user_id: UUID,
        position_id: UUID,
        *,
        stop_loss: Decimal | None,
        take_profit: Decimal | None,
        trailing_ratio: Decimal | None,
    ) -> Amended | Refusal:
        """Move stop or target, or arm a trailing stop (0.005 trails by 0.5 % of price); absent means unchanged."""
        ...

    async def approve(self, user_id: UUID, approval_id: UUID) -> Entered | Refusal:
        """Enter what waits, priced again now."""
        ...

    async def decline(self, user_id: UUID, approval_id: UUID) -> Refusal | None:
        """Drop what waits; None when it is gone now."""
        ...

    async def stop(self, user_id: UUID, *, close_positions: bool) -> Stopped:
        """Switch auto-trading off; leave positions protected or close them."""
        ...

    async def panic(self, user_id: UUID) -> PanicReceipt:
        """Auto-trading off, approvals cancelled, everything flat, proven."""
        ...

    def sync_balance(self, user_id: UUID) -> None:
        """Begin to hear what the real wallet holds, unless that is under way or was tried a moment ago; nobody waits for it."""
        ...

    def balance_syncing(self, user_id: UUID) -> bool:
        """Whether the real wallet is being asked for now, by this process."""
        ...

    async def request_scan(self) -> str:
        """Queue a scan now; the job's id."""
        ...


class Bus(Protocol):
    """Tells the live pages. Losing a message loses nothing: pages read the database again."""

    async def publish(self, user_id: UUID | None, event: str, data: dict[str, Any]) -> None:
        """Send to one user's pages, or to everyone's where user_id is None. Never raises."""
        ...


class Clock(Protocol):
    """The two clocks."""

    def now(self) -> datetime:
        """Market time, aware UTC."""
        ...

    def wall(self) -> datetime:
        """Wall time, aware UTC."""
        ...


class Ids(Protocol):
    """New ids."""

    def new(self) -> UUID:
        """One that nobody has."""
        ...


class Jobs(Protocol):
    """The queue of the worker."""

    async def enqueue_scan(self) -> str:
        """Queue a scan now; the job's id."""
        ...


class ScannedCloses(Protocol):
    """Which closes were scanned already. Losing a note costs a scan that finds nothing new."""

    async def done(self, candle_close: datetime) -> bool:
        """Whether that close was scanned; raises StoreUnavailable."""
        ...

    async def mark_done(self, candle_close: datetime) -> None:
        """Note that a close was scanned; raises StoreUnavailable."""
        ...
