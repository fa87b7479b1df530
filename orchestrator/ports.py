"""What the orchestrator needs from outside, as protocols; and what the pages may ask of trading.

Sections: the desk (what a user can have done), then the ports of trading (engine, unit of work, mutex, bus, clock), then the
read models of the pages. Adapters stand beside this module, never below it.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

import msgspec


class RefusalReason(StrEnum):
    """Why an entry or a request was not carried out: the word a user can look up."""

    # the three layers
    SCAN_RUNNING = "scan_running"
    DUPLICATE_IN_BATCH = "duplicate_in_batch"
    RECENT_SIGNAL = "recent_signal"
    POSITION_HELD = "position_held"
    ENTRY_UNDER_WAY = "entry_under_way"
    # risk
    NOT_ENOUGH_MARGIN = "not_enough_margin"
    TOO_MANY_POSITIONS = "too_many_positions"
    TOO_MUCH_EXPOSURE = "too_much_exposure"
    DAILY_LOSS_REACHED = "daily_loss_reached"
    STOP_BEYOND_LIQUIDATION = "stop_beyond_liquidation"
    LEVERAGE_ABOVE_BRACKET = "leverage_above_bracket"
    BELOW_MIN_NOTIONAL = "below_min_notional"
    BALANCE_UNKNOWN = "balance_unknown"
    BALANCE_STALE = "balance_stale"
    SIGNAL_STALE = "signal_stale"
    # approvals and requests
    APPROVAL_EXPIRED = "approval_expired"
    DECLINED = "declined"
    NOT_FOUND = "not_found"
    NOT_OPEN = "not_open"
    BAD_QUANTITY = "bad_quantity"
    BAD_PRICE = "bad_price"
    STOPPED = "stopped"
    # the venue
    VENUE_REFUSED = "venue_refused"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A "no" with the reason and a sentence that a user can read."""

    reason: RefusalReason
    detail: str


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
    """The proof of a panic. `flat` only when nothing is open and no order rests."""

    receipt_id: UUID
    auto_trade_enabled: bool
    positions: list[SymbolResult]
    open_positions: int
    open_orders: int
    flat: bool


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
