"""What pages and the REST API read: implements the port Reads. A few statements a page, however many rows it shows.

Every statement that names a user is bound to that user's rows; nothing here locks or writes.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from orchestrator.core.ledger import NO_RESULT
from orchestrator.ports import (
    Account,
    AdminUserRow,
    ApprovalRow,
    EquityPoint,
    FillRow,
    LedgerPage,
    LedgerRow,
    PositionRow,
    RealAccounts,
    RealRow,
    ReceiptRow,
    ScanRow,
    SignalView,
    Statistics,
    Stats,
    UserRow,
)
from orchestrator.store.asking import asking, by_key
from orchestrator.store.database import Database
from orchestrator.store.decisions import decisions_for, signal_row
from orchestrator.store.real_reads import real_accounts, real_row
from orchestrator.store.rows import rows_of
from orchestrator.store.tables import (
    Claim,
    Fill,
    LedgerEntry,
    Order,
    PanicReceipt,
    Position,
    Refusal,
    Scan,
    Signal,
    User,
)

LIVE = ("OPEN", "CLOSING")
CLOSED = ("CLOSED_WIN", "CLOSED_LOSS")
NO_RESULT_KINDS = sorted(kind.value for kind in NO_RESULT)
ZERO = Decimal(0)

_BESIDES = {
    "has_api_key": "EXISTS (SELECT 1 FROM exchange_keys WHERE user_id = users.id)",
    "totp_enabled": "EXISTS (SELECT 1 FROM second_factors WHERE user_id = users.id AND confirmed_at IS NOT NULL)",
}
"""What a user's row says of other tables."""


_DRY: Final = aliased(Position)
_OF_DRY_RUN: Final = select(_DRY.id).where(_DRY.id == LedgerEntry.position_id, _DRY.dry_run).correlate(LedgerEntry).exists()
"""What a dry run won or lost is of no wallet: the ledger of REAL is that of the account at the exchange."""


class SqlReads:
    """Implements the port Reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def user(self, user_id: UUID) -> UserRow | None:
        """One user by primary key."""
        return await by_key(self._database, User, user_id, UserRow, _BESIDES)

    async def account(self, user_id: UUID, mode: str) -> Account:
        """The wallet of a mode, by one statement."""
        booked = (
            select(func.coalesce(func.sum(LedgerEntry.amount), ZERO))
            .where(LedgerEntry.user_id == user_id, LedgerEntry.mode == mode, ~_OF_DRY_RUN)
            .scalar_subquery()
        )
        live = (
            select(func.coalesce(func.sum(Position.margin), ZERO).label("margin"), func.count().label("number"))
            .where(Position.user_id == user_id, Position.mode == mode, Position.status.in_(LIVE), ~Position.dry_run)
            .subquery()
        )
        held = select(Position.symbol).where(Position.user_id == user_id, Position.mode == mode, Position.status.in_(LIVE))
        claimed = (
            select(func.coalesce(func.sum(Claim.margin), ZERO).label("margin"), func.count().label("number"))
            .where(Claim.user_id == user_id, Claim.mode == mode, Claim.symbol.not_in(held))
            .subquery()
        )
        statement = select(
            booked.label("balance"),
            live.c.margin.label("used"),
            live.c.number.label("open"),
            claimed.c.margin.label("claimed"),
            claimed.c.number.label("waiting"),
        ).select_from(live.join(claimed, onclause=live.c.number >= 0))
        async with asking(self._database) as session:
            found = (await session.execute(statement)).one()
        return Account(
            balance=found.balance,
            margin_used=found.used,
            margin_claimed=found.claimed,
            open_positions=found.open,
            waiting=found.waiting,
        )

    async def real(self, user_id: UUID) -> RealRow:
        """What is known of the account at the exchange."""
        async with asking(self._database) as session:
            return await real_row(session, user_id)

    async def real_accounts(self) -> RealAccounts:
        """How the accounts at the exchange stand, by one statement."""
        async with asking(self._database) as session:
            return await real_accounts(session)

    async def positions(
        self, user_id: UUID, *, statuses: Sequence[str], mode: str | None = None, limit: int = 200, offset: int = 0
    ) -> list[PositionRow]:
        """Positions in these states, the newest first."""
        statement = rows_of(PositionRow, Position).where(Position.user_id == user_id, Position.status.in_(statuses))
        if mode is not None:
            statement = statement.where(Position.mode == mode)
        newest = statement.order_by(Position.opened_at.desc(), Position.id).limit(limit).offset(offset)
        return await self._rows(newest, PositionRow)

    async def position(self, user_id: UUID, position_id: UUID) -> PositionRow | None:
        """One position of this user."""
        statement = rows_of(PositionRow, Position).where(Position.user_id == user_id, Position.id == position_id)
        found = await self._rows(statement, PositionRow)
        return found[0] if found else None

    async def fills(self, user_id: UUID, position_id: UUID) -> list[FillRow]:
        """A position's fills, oldest first."""
        statement = rows_of(FillRow, Fill).where(Fill.user_id == user_id, Fill.position_id == position_id)
        return await self._rows(statement.order_by(Fill.at, Fill.id), FillRow)

    async def history(self, user_id: UUID, mode: str, *, limit: int, offset: int) -> list[PositionRow]:
        """Closed positions, the last closed first."""
        statement = rows_of(PositionRow, Position).where(
            Position.user_id == user_id, Position.mode == mode, Position.status.in_(CLOSED)
        )
        last = statement.order_by(Position.closed_at.desc(), Position.id).limit(limit).offset(offset)
        return await self._rows(last, PositionRow)

    async def stats(self, user_id: UUID, mode: str, day_start: datetime) -> Stats:
        """Totals of closed positions, by SQL; dry runs are of no wallet and count nowhere."""
        won = func.count().filter(Position.status == "CLOSED_WIN")
        today = Position.closed_at >= day_start
        closed = select(
            func.count().label("trades"),
            won.label("wins"),
            _total(Position.pnl).label("net_pnl"),
            _total(Position.realized_pnl).label("gross_pnl"),
            _total(Position.fees).label("fees"),
            _total(Position.funding).label("funding"),
            func.max(Position.pnl).label("best"),
            func.min(Position.pnl).label("worst"),
            func.count().filter(today).label("today_trades"),
            func.coalesce(func.sum(Position.pnl).filter(today), ZERO).label("today_pnl"),
        ).where(Position.user_id == user_id, Position.mode == mode, Position.status.in_(CLOSED), ~Position.dry_run)
        running = (
            select(
                LedgerEntry.amount.label("amount"),
                func.sum(LedgerEntry.amount).over(order_by=LedgerEntry.id).label("result"),
            )
            .where(
                LedgerEntry.user_id == user_id,
                LedgerEntry.mode == mode,
                LedgerEntry.at >= day_start,
                LedgerEntry.kind.not_in(NO_RESULT_KINDS),
                ~_OF_DRY_RUN,
            )
            .subquery()
        )
        booked = select(_total(running.c.amount), func.least(func.coalesce(func.min(running.c.result), ZERO), ZERO))
        async with asking(self._database) as session:
            found = dict((await session.execute(closed)).one()._mapping)
            today_booked, today_lowest = (await session.execute(booked)).one()
        losses = found["trades"] - found["wins"]
        return Stats(losses=losses, today_booked=today_booked, today_lowest=today_lowest, **found)

    async def equity(self, user_id: UUID, mode: str, since: datetime | None, points: int = 200) -> list[EquityPoint]:
        """The booked balance over time, oldest first, thinned to about `points` by SQL.

        It starts with the balance at `since`, or with the first entry where the wallet is younger.
        """
        mine = (LedgerEntry.user_id == user_id, LedgerEntry.mode == mode, ~_OF_DRY_RUN)
        order = (LedgerEntry.at, LedgerEntry.id)
        sums = (
            select(
                LedgerEntry.at.label("at"),
                func.sum(LedgerEntry.amount).over(order_by=order).label("value"),
                func.row_number().over(order_by=order).label("place"),
                func.count().over().label("number"),
            )
            .where(*mine)
            .subquery()
        )
        start = select(func.sum(LedgerEntry.amount)).where(*mine, LedgerEntry.at < since) if since else None
        inside = select(sums).where(sums.c.at >= since).subquery() if since else sums
        every = case((func.count().over() > points, func.count().over() // points), else_=1)
        numbered = select(inside.c.at, inside.c.value, inside.c.place, inside.c.number, every.label("every")).subquery()
        kept = select(numbered.c.at, numbered.c.value).where(
            (numbered.c.place % numbered.c.every == 0) | (numbered.c.place == numbered.c.number)
        )
        async with asking(self._database) as session:
            before = None if start is None else await session.scalar(start)
            found = (await session.execute(kept.order_by(numbered.c.place))).all()
        first = [] if since is None or before is None else [EquityPoint(at=since, value=before)]
        return first + [EquityPoint(at=row.at, value=row.value) for row in found]

    async def ledger(self, user_id: UUID, mode: str, *, limit: int, offset: int, dry_run: bool = False) -> LedgerPage:
        """The wallet's changes, newest first; with `dry_run` those that dry runs made, which are of no wallet."""
        mine = (LedgerEntry.user_id == user_id, LedgerEntry.mode == mode, _OF_DRY_RUN if dry_run else ~_OF_DRY_RUN)
        page = _entries().where(*mine).order_by(LedgerEntry.id.desc()).limit(limit).offset(offset)
        totals = select(func.count().label("number"), _total(LedgerEntry.amount).label("balance")).where(*mine)
        async with asking(self._database) as session:
            found = (await session.execute(totals)).one()
            entries = await _read(session, page, LedgerRow)
        return LedgerPage(entries=entries, total=found.number, balance=found.balance)

    async def approvals(self, user_id: UUID, at: datetime) -> list[ApprovalRow]:
        """Entries that wait and have not expired at that wall time, the first to expire first."""
        statement = (
            select(Order, Signal)
            .join(Signal, Signal.id == Order.signal_id)
            .where(Order.user_id == user_id, Order.status == "AWAITING_APPROVAL", Order.expires_at > at)
            .order_by(Order.expires_at)
        )
        async with asking(self._database) as session:
            found = (await session.execute(statement)).all()
        return [_approval(order, signal) for order, signal in found]

    async def signals(self, user_id: UUID, *, limit: int, offset: int = 0, symbol: str | None = None) -> list[SignalView]:
        """The newest signals with what was done for this user."""
        statement = select(Signal).order_by(Signal.created_at.desc(), Signal.id).limit(limit).offset(offset)
        return await self._views(user_id, statement if symbol is None else statement.where(Signal.symbol == symbol))

    async def signal(self, user_id: UUID, signal_id: UUID) -> SignalView | None:
        """One signal with what was done for this user."""
        found = await self._views(user_id, select(Signal).where(Signal.id == signal_id))
        return found[0] if found else None

    async def receipt(self, user_id: UUID, receipt_id: UUID | None = None) -> ReceiptRow | None:
        """A panic's receipt of this user; the newest without an id."""
        statement = rows_of(ReceiptRow, PanicReceipt).where(PanicReceipt.user_id == user_id)
        if receipt_id is not None:
            statement = statement.where(PanicReceipt.id == receipt_id)
        found = await self._rows(statement.order_by(PanicReceipt.started_at.desc()).limit(1), ReceiptRow)
        return found[0] if found else None

    async def scans(self, limit: int = 20) -> list[ScanRow]:
        """The newest scans."""
        return await self._rows(rows_of(ScanRow, Scan).order_by(Scan.as_of.desc()).limit(limit), ScanRow)

    async def admin_users(self, *, limit: int, offset: int) -> list[AdminUserRow]:
        """Everyone, for admins."""
        open_positions = (
            select(func.count())
            .where(Position.user_id == User.id, Position.status.in_(LIVE))
            .correlate(User)
            .scalar_subquery()
            .label("open_positions")
        )
        statement = (
            select(User.id, User.username, User.role, User.mode, User.auto_trade_enabled, open_positions, User.created_at)
            .order_by(User.created_at, User.id)
            .limit(limit)
            .offset(offset)
        )
        return await self._rows(statement, AdminUserRow)

    async def statistics(self) -> Statistics:
        """Counts over everyone, for admins."""
        counts = select(
            _count(User).label("users"),
            _count(Scan).label("scans"),
            _count(Signal).label("signals"),
            _count(Order).label("orders"),
            _count(Position, Position.status.in_(LIVE)).label("open_positions"),
            _count(Position, Position.status == "CLOSED_WIN").label("closed_wins"),
            _count(Position, Position.status == "CLOSED_LOSS").label("closed_losses"),
        )
        reasons = select(Refusal.reason, func.count()).group_by(Refusal.reason)
        async with asking(self._database) as session:
            found = (await session.execute(counts)).one()._mapping
            refusals = {str(reason): int(number) for reason, number in (await session.execute(reasons)).all()}
        return Statistics(refusals=refusals, **found)

    async def _rows[T](self, statement: Select[Any], kind: type[T]) -> list[T]:
        async with asking(self._database) as session:
            return await _read(session, statement, kind)

    async def _views(self, user_id: UUID, statement: Select[Signal]) -> list[SignalView]:
        async with asking(self._database) as session:
            found = list(await session.scalars(statement))
            decided = await decisions_for(session, user_id, [signal.id for signal in found])
        return [SignalView(signal=signal_row(signal), decision=decided[signal.id]) for signal in found]


def user_row(user: User) -> UserRow:
    """A loaded user as the pages see them."""
    return UserRow(**{name: getattr(user, name) for name in UserRow.__struct_fields__ if name not in _BESIDES})


async def _read[T](session: AsyncSession, statement: Select[Any], kind: type[T]) -> list[T]:
    return [kind(**row._mapping) for row in await session.execute(statement)]


def _entries() -> Select[Any]:
    own = (getattr(LedgerEntry, name) for name in LedgerRow.__struct_fields__ if name != "symbol")
    return select(*own, Position.symbol).outerjoin(Position, Position.id == LedgerEntry.position_id)


def _total(column: Any) -> Any:
    return func.coalesce(func.sum(column), ZERO)


def _count(table: type[Any], *conditions: Any) -> Any:
    return select(func.count()).select_from(table).where(*conditions).scalar_subquery()


def _approval(order: Order, signal: Signal) -> ApprovalRow:
    return ApprovalRow(
        id=order.id,
        symbol=order.symbol,
        side=order.side,
        margin=order.margin,
        notional=order.notional,
        leverage=order.leverage,
        expires_at=cast("datetime", order.expires_at),
        created_at=order.created_at,
        signal=signal_row(signal),
    )
