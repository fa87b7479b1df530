"""A user's money in one mode, read under their row's lock: what risk judges and what travels to the engine as the paper book.

Unrealized results enter with the marks that the caller fetched before the transaction. A position without a fresh mark counts with
what its stop would lose, so that a missing price never makes an account look better than it is.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from msgspec import structs

from orchestrator.core.position import Position
from orchestrator.core.risk import AccountState
from orchestrator.ports import Balances, ClaimRecord, OrderRecord, PositionRecord, Trader, Transactions, UnitOfWork
from shared.enums import Mode
from shared.execution import (
    Account,
    CloseRequest,
    EntryRequest,
    PaperAccount,
    PaperBook,
    PaperPosition,
    RealAccount,
    SealedCredentials,
)
from shared.margin import TAKER_FEE_RATIO, ZERO, fee_of, price_pnl
from shared.wire import to_builtins

type Marks = Mapping[str, Decimal]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is open and claimed, and what it sums up to. `waiting` are claims that no position has taken over yet."""

    state: AccountState
    positions: list[PositionRecord]
    waiting: list[ClaimRecord]


async def standing_of(
    unit: UnitOfWork,
    balances: Balances,
    trader: Trader,
    mode: Mode,
    marks: Marks,
    now: datetime,
    *,
    dry: bool,
    without: UUID | None = None,
) -> Standing:
    """The account as it stands now.

    The day counts dry runs for a dry run and nothing of them for real money: what was only rehearsed neither stops the account at the
    exchange nor is excused by what that account won.

    Args:
        unit: Holding the trader's row.
        balances: Where a wallet's balance is known.
        trader: The locked row.
        mode: Which wallet.
        marks: Fresh mark prices; symbols may be missing.
        now: Market time; the day begins at 00:00 UTC.
        dry: Whether the entry that is judged would be a dry run.
        without: An order whose own claim does not count, because it is being judged again.
    """
    positions = await unit.positions.live_of_user(trader.id, mode)
    claims = await unit.claims.of_user(trader.id, mode)
    held = {position.symbol for position in positions}
    waiting = [claim for claim in claims if claim.symbol not in held and claim.order_id != without]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    booked_today = await unit.ledger.net_since(trader.id, mode, midnight, dry=dry)
    same = [position for position in positions if position.dry_run == dry]
    wallet = balances.of(trader, mode)
    state = AccountState(
        balance=wallet.balance,
        fresh=wallet.fresh,
        margin_in_use=sum((position.isolated_margin for position in positions), ZERO),
        margin_claimed=sum((claim.margin + fee_of(claim.notional, TAKER_FEE_RATIO) for claim in waiting), ZERO),
        exposure=sum((_exposure(position, marks) for position in positions), ZERO)
        + sum((claim.notional for claim in waiting), ZERO),
        positions=len(positions) + len(waiting),
        lowest_today=await unit.ledger.lowest_since(trader.id, mode, midnight, dry=dry),
        today=booked_today + min(ZERO, sum((unrealized(position, marks) for position in same), ZERO)),
    )
    return Standing(state=state, positions=positions, waiting=waiting)


def account_of(trader: Trader, mode: Mode, positions: Sequence[Position], balance: Decimal | None, *, dry_run: bool) -> Account:
    """The account as it travels to the engine: a paper one whole, a real one by its owner, with their sealed credentials and its dry positions.

    The type is what separates the two: no path in the engine leads from a paper book to an exchange client.
    """
    if mode is Mode.REAL:
        held = [_in_book(position) for position in positions if position.dry_run] if dry_run else None
        return RealAccount(user_id=str(trader.id), dry_run=dry_run, credentials=trader.credentials, dry_positions=held)
    return PaperAccount(book=PaperBook(balance=balance or ZERO, positions=[_in_book(position) for position in positions]))


def without_keys[R: (EntryRequest, CloseRequest)](request: R) -> dict[str, Any]:
    """A request as it is kept with its order: sealed keys stay in their own row, where they may be rotated meanwhile."""
    body: dict[str, Any] = to_builtins(_with_credentials(request, None))
    return body


async def with_keys[R: (EntryRequest, CloseRequest)](transactions: Transactions, order: OrderRecord, request: R) -> R:
    """A kept request with the credentials that its user has now; a paper one as it is."""
    if order.mode is not Mode.REAL:
        return request
    async with transactions() as unit:
        return _with_credentials(request, await unit.traders.credentials(order.user_id))


def _with_credentials[R: (EntryRequest, CloseRequest)](request: R, credentials: SealedCredentials | None) -> R:
    if not isinstance(request.account, RealAccount):
        return request
    return structs.replace(request, account=structs.replace(request.account, credentials=credentials))


def unrealized(position: Position, marks: Marks) -> Decimal:
    """What the position would win or lose now before fees, USDT; at its stop, or its margin, where no mark is known."""
    price = marks.get(position.symbol, position.stop_loss)
    if price is None:
        return -position.isolated_margin
    return price_pnl(position.side, position.size, position.entry_price, price)


def _exposure(position: Position, marks: Marks) -> Decimal:
    return position.size * marks.get(position.symbol, position.entry_price)


def _in_book(position: Position) -> PaperPosition:
    return PaperPosition(
        symbol=position.symbol,
        side=position.side,
        quantity=position.size,
        entry_price=position.entry_price,
        leverage=position.leverage,
        margin=position.isolated_margin,
        stop_loss=position.stop_loss,
        take_profit=position.take_profit,
    )
