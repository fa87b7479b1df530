"""Writes the exchange's truth into the rows, in one transaction that holds the user's row: exits, income, wallet, what is not ours.

Everything is booked once, by trade and by income row, so that late, doubled and reordered truths cannot hurt. What cannot be explained
yet is left, and asked for again from further back.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec
from msgspec import structs

from orchestrator.core.ledger import OF_TRADES, Entry, EntryKind, entry_of_income, paid_elsewhere, source_of_trade
from orchestrator.core.order import UNDER_WAY, OrderStatus
from orchestrator.core.position import CloseReason, after_late_booking
from orchestrator.core.truth import POSITION, confirmed, exits_of, fill_of, foreign_of, held_of, is_ours, name_of, request_of
from orchestrator.ports import (
    ClaimRecord,
    FillRecord,
    ForeignRecord,
    OrderRecord,
    PositionRecord,
    Trader,
    TruthRecord,
    UnitOfWork,
)
from orchestrator.trading.booking import book_entry, book_exit, book_more, book_wallet, change_position
from shared.enums import ExecutionStatus, Mode
from shared.execution import ExecutionReport, Income, TruthReply, VenueTrade
from shared.margin import ZERO

FIRST_LOOK: Final = timedelta(minutes=10)
"""Market time before the first truth from which on the exchange's records are booked one by one; what was before is the opening deposit."""

OVERLAP: Final = timedelta(minutes=30)
"""Market time that is asked for again each round: records may come late, and market time may run faster than they do."""

FARTHEST: Final = timedelta(days=2)
"""Market time; a difference that no record of so long explains is left to the alert."""

FEE_AFTER_CLOSE: Final = timedelta(minutes=5)
"""Market time after a liquidation in which its insurance fee may be booked."""


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """A user's REAL rows as they stood before the exchange was asked."""

    trader: Trader
    positions: list[PositionRecord]
    orders: list[OrderRecord]
    foreign: list[ForeignRecord]
    truth: TruthRecord | None

    @property
    def symbols(self) -> list[str]:
        """What the exchange is asked for in detail."""
        held = {row.symbol for row in self.positions} | {row.symbol for row in self.orders}
        return sorted(held | {row.symbol for row in self.foreign})

    def since(self, now: datetime) -> datetime:
        """From when on trades and income are wanted."""
        begun = [order.sent_at for order in self.orders if order.sent_at is not None]
        if self.truth is None:
            return min([now, *begun, *(position.opened_at for position in self.positions)]) - FIRST_LOOK
        reach = min([self.truth.known_until, *begun]) - OVERLAP
        return max(self.truth.begun_at, min(reach, self.truth.look_back_to or reach))


class Exited(msgspec.Struct, frozen=True, kw_only=True):
    """A position that the exchange reduced."""

    position: PositionRecord
    quantity: Decimal
    reason: CloseReason


class Booked(msgspec.Struct, kw_only=True):
    """What one truth did to the rows; `positions` are live and orders `under_way` after it, `unsettled` symbols in motion, not judged."""

    positions: list[PositionRecord] = []
    under_way: list[OrderRecord] = []
    unsettled: set[str] = set()
    exits: list[Exited] = []
    revived: list[PositionRecord] = []
    grown: list[PositionRecord] = []
    late_fees: int = 0
    held_back: list[Income] = []
    look_back_to: datetime | None = None
    difference: Decimal = ZERO
    newly_foreign: list[ForeignRecord] = []
    foreign_positions: set[str] = set()
    unsure_foreign: bool = False
    newly_alarmed: TruthRecord | None = None


async def read_before(unit: UnitOfWork, user_id: UUID) -> Before | None:
    """A user's REAL rows; None where there is no such user."""
    trader = await unit.traders.lock(user_id)
    if trader is None:
        return None
    return Before(
        trader=trader,
        positions=await _positions(unit, user_id),
        orders=await _orders(unit, user_id),
        foreign=await unit.foreign.of_user(user_id),
        truth=await unit.truths.get(user_id),
    )


class Booking:
    """One user's booking of one truth, inside one transaction.

    Args:
        unit: Begun, nothing read yet.
        before: What was known when the exchange was asked.
        truth: What it said.
        since: From when on it was asked for, market time.
        now: Market time.
        asked_at: Wall time before the question left.
    """

    def __init__(
        self, unit: UnitOfWork, before: Before, truth: TruthReply, since: datetime, now: datetime, asked_at: datetime
    ) -> None:
        self._unit = unit
        self._before = before
        self._truth = truth
        self._now = now
        self._since = since
        self._begun = since if before.truth is None else before.truth.begun_at
        self._asked_at = asked_at
        self._booked = Booked()
        self._live: dict[str, PositionRecord] = {}
        self._orders: list[OrderRecord] = []
        self._trader = before.trader

    async def run(self) -> Booked | None:
        """Books it; None where the user is gone or a newer truth was booked meanwhile."""
        after = await read_before(self._unit, self._before.trader.id)
        if after is None or (after.truth is not None and after.truth.heard_at > self._asked_at):
            return None
        self._trader, self._orders = after.trader, after.orders
        self._live = {position.symbol: position for position in after.positions}
        self._booked.unsettled = _in_motion(self._before, after)
        await self._entries()
        for position in list(self._live.values()):
            await self._exits(position)
        await self._income()
        await self._fees_in_other_coins()
        await self._close_the_books(after.truth)
        await self._foreign(after.foreign, after.truth)
        self._booked.positions, self._booked.under_way = list(self._live.values()), self._orders
        return self._booked

    async def _entries(self) -> None:
        """Trades of entries that are ended here: one that was given up opens its position after all, one that is booked grows by them."""
        trades: dict[str, list[VenueTrade]] = {}
        for trade in self._truth.trades:
            if trade.client_order_id.startswith("nt-e-"):
                trades.setdefault(trade.client_order_id, []).append(trade)
        for name, fills in trades.items():
            order = await self._unit.orders.named(self._trader.id, name)
            if order is None:
                continue
            held = self._live.get(order.symbol)
            if order.status is OrderStatus.REFUSED and held is None:
                await self._open(order, fills)
            elif order.status is OrderStatus.FILLED and held is not None and held.id == order.position_id:
                await self._grow(held, order, fills)

    async def _grow(self, position: PositionRecord, order: OrderRecord, trades: Sequence[VenueTrade]) -> None:
        known = {fill.trade_id for fill in await self._unit.fills.of_position(position.id)}
        late = {trade.trade_id: fill_of(trade) for trade in trades if trade.trade_id not in known}
        if not late:
            return
        grown = await book_more(self._unit, self._trader, position, order, list(late.values()))
        self._live[grown.symbol] = grown
        self._booked.grown.append(grown)

    async def _open(self, order: OrderRecord, trades: Sequence[VenueTrade]) -> None:
        claim = ClaimRecord(
            user_id=order.user_id,
            symbol=order.symbol,
            mode=order.mode,
            order_id=order.id,
            margin=order.margin,
            notional=order.notional,
            created_at=self._now,
        )
        if not await self._unit.claims.add(claim):
            return
        report = _report_of(order, trades, self._now)
        position = await book_entry(self._unit, self._trader, order.id, report, order.id, self._now, proven=True)
        if position is not None:
            self._live[position.symbol] = position
            self._booked.revived.append(position)

    async def _exits(self, position: PositionRecord) -> None:
        fills = await self._unit.fills.of_position(position.id)
        carried = {order.client_order_id for order in self._orders if order.status in UNDER_WAY}
        exits = exits_of(position, _last_entry(fills, position), {fill.trade_id for fill in fills}, self._truth, carried)
        for one in exits:
            reason = await self._reason(one.client_order_id, one.reason)
            position = await book_exit(self._unit, self._trader, position, one.client_order_id, one.fills, reason, self._now)
            quantity = sum((fill.quantity for fill in one.fills), ZERO)
            self._booked.exits.append(Exited(position=position, quantity=quantity, reason=reason))
        if position.size == 0:
            del self._live[position.symbol]
            return
        self._live[position.symbol] = position
        held = held_of(self._truth, position.symbol, position.side)
        if held is None or held.quantity < position.size:
            self._look_back(position.opened_at)

    async def _reason(self, client_order_id: str, guess: CloseReason) -> CloseReason:
        """A close of ours that was given up and executed after all keeps its own reason."""
        name = request_of(client_order_id)
        order = await self._unit.orders.named(self._trader.id, name) if is_ours(name) else None
        return order.close_reason if order is not None and order.close_reason is not None else guess

    async def _income(self) -> None:
        rows = [(income, entry) for income in self._truth.income if (entry := entry_of_income(income)) is not None]
        known = await self._unit.ledger.known(self._trader.id, Mode.REAL, [entry.source for _, entry in rows])
        for income, entry in sorted(rows, key=lambda row: (row[0].at, row[1].source)):
            if entry.source in known or income.at < self._begun:
                continue
            known.add(entry.source)
            if entry.kind in OF_TRADES:
                await self._income_of_trade(income, entry)
            else:
                await self._other_income(income, entry)

    async def _fees_in_other_coins(self) -> None:
        """A fee of ours paid in BNB is a cost of its trade, but not of the wallet in USDT."""
        for income in self._truth.income:
            if income.asset == "USDT" or income.kind != "COMMISSION" or not income.trade_id or income.at < self._begun:
                continue
            source = source_of_trade(EntryKind.FEE, income.symbol, income.trade_id)
            fee = await self._unit.ledger.amount(self._trader.id, Mode.REAL, source)
            if fee is not None:
                await self._wallet(paid_elsewhere(income, fee), None)
            elif self._still_to_come(income):
                self._booked.held_back.append(income)

    async def _income_of_trade(self, income: Income, entry: Entry) -> None:
        """What of a trade is not booked with its fill is not ours, unless its fill is still to come."""
        if self._still_to_come(income):
            self._booked.held_back.append(income)
            return
        await self._wallet(structs.replace(entry, kind=EntryKind.EXTERNAL), None)

    def _still_to_come(self, income: Income) -> bool:
        """Whether the trade of an income row may yet be booked as ours."""
        trade = next((one for one in self._truth.trades if (one.symbol, one.trade_id) == (income.symbol, income.trade_id)), None)
        under_way = any(order.symbol == income.symbol for order in self._orders)
        ours = trade is None or is_ours(name_of(trade)) or self._works(trade)
        return under_way or (income.symbol in self._live and ours)

    def _works(self, trade: VenueTrade) -> bool:
        names = {order.venue_order_id for order in self._truth.orders if order.state == "WORKING"}
        return trade.venue_order_id in names

    async def _other_income(self, income: Income, entry: Entry) -> None:
        if entry.kind not in (EntryKind.FUNDING, EntryKind.LIQUIDATION_FEE):
            await self._wallet(entry, None)
            return
        position = await self._position_of(income, entry.kind)
        if position is None and any(order.symbol == income.symbol for order in self._orders):
            self._booked.held_back.append(income)
        elif position is None:
            await self._wallet(structs.replace(entry, kind=EntryKind.EXTERNAL), None)
        else:
            await self._wallet(entry, position.id)
            funding = entry.amount if entry.kind is EntryKind.FUNDING else ZERO
            late = after_late_booking(position, funding=funding, liquidation_fee=funding - entry.amount)
            changed = await change_position(self._unit, position, late)
            self._booked.late_fees += 1
            if changed.symbol in self._live and self._live[changed.symbol].id == changed.id:
                self._live[changed.symbol] = changed

    async def _position_of(self, income: Income, kind: EntryKind) -> PositionRecord | None:
        late = FEE_AFTER_CLOSE if kind is EntryKind.LIQUIDATION_FEE else timedelta(0)
        found = await self._unit.positions.real_since(self._trader.id, income.symbol, income.at - late)
        return next((one for one in reversed(found) if one.opened_at <= income.at), None)

    async def _wallet(self, entry: Entry, position_id: UUID | None) -> None:
        await book_wallet(self._unit, self._trader, Mode.REAL, [entry], position_id)

    async def _close_the_books(self, kept: TruthRecord | None) -> None:
        truth, user_id = self._truth, self._trader.id
        begun = kept.begun_at if kept is not None else self._begun
        waiting = sum((income.amount for income in self._booked.held_back if income.asset == "USDT"), ZERO)
        if kept is None or not kept.opened:
            opening = truth.balance.total - waiting - await self._unit.ledger.at_exchange(user_id)
            await self._wallet(Entry(at=begun, kind=EntryKind.DEPOSIT, amount=opening, source="opening"), None)
        difference = truth.balance.total - await self._unit.ledger.at_exchange(user_id)
        self._booked.difference = difference
        for income in self._booked.held_back:
            self._look_back(income.at)
        since = None if difference == 0 else (kept.differs_since if kept is not None else None) or self._asked_at
        record = TruthRecord(
            user_id=user_id,
            begun_at=begun,
            known_until=max(truth.as_of, kept.known_until) if kept is not None else truth.as_of,
            look_back_to=self._reach(difference),
            heard_at=self._asked_at,
            wallet=truth.balance.total,
            free=truth.balance.free,
            position_mode=truth.position_mode,
            opened=True,
            difference=difference,
            differs_since=since,
            alarmed_at=kept.alarmed_at if kept is not None and difference != 0 else None,
        )
        await self._unit.truths.save(self._alarmed(record))
        await self._unit.traders.set_real_balance(user_id, truth.balance.total, self._asked_at)

    def _reach(self, difference: Decimal) -> datetime | None:
        """How far back the next question goes. While wallet and ledger differ it goes twice as far each time: a record came too late."""
        if difference == 0:
            return self._booked.look_back_to
        further = self._since - max(OVERLAP, self._truth.as_of - self._since)
        reach = max(self._begun, self._truth.as_of - FARTHEST, further)
        return reach if self._booked.look_back_to is None else min(reach, self._booked.look_back_to)

    def _alarmed(self, record: TruthRecord) -> TruthRecord:
        """A difference that lasted over a whole round of the clock is no lag any more: said once."""
        if record.differs_since is None or record.alarmed_at is not None:
            return record
        if self._asked_at - record.differs_since < LASTS:
            return record
        self._booked.newly_alarmed = structs.replace(record, alarmed_at=self._asked_at)
        return self._booked.newly_alarmed

    async def _foreign(self, kept: Sequence[ForeignRecord], before: TruthRecord | None) -> None:
        """What is not ours counts from the second truth that shows it; what counted stays so while its symbol moves."""
        told = {
            (one.symbol, one.name)
            for one in kept
            if confirmed(one.first_seen_at, before.heard_at if before is not None else None)
        }
        seen = {(holding.symbol, holding.name): holding for holding in kept}
        moving = self._booked.unsettled
        found = [
            ForeignRecord(
                user_id=self._trader.id,
                symbol=one.symbol,
                name=one.name,
                side=one.side,
                quantity=one.quantity,
                first_seen_at=seen[one.symbol, one.name].first_seen_at if (one.symbol, one.name) in seen else self._asked_at,
            )
            for one in foreign_of(self._truth, self._live, moving)
        ]
        names = {(one.symbol, one.name) for one in found}
        stays = [one for one in kept if one.symbol in moving and (one.symbol, one.name) in told - names]
        if [*found, *stays] != list(kept):
            await self._unit.foreign.replace(self._trader.id, [*found, *stays])
        sure = [one for one in found if confirmed(one.first_seen_at, self._asked_at)]
        self._booked.newly_foreign = [one for one in sure if (one.symbol, one.name) not in told]
        self._booked.foreign_positions = {one.symbol for one in sure if one.name == POSITION}
        self._booked.unsure_foreign = len(sure) < len(found)

    def _look_back(self, to: datetime) -> None:
        reach = self._booked.look_back_to
        self._booked.look_back_to = to if reach is None else min(reach, to)


LASTS: Final = timedelta(seconds=45)
"""Wall time that ledger and wallet may differ: two rounds of the minute, or many nudged ones."""


def _in_motion(before: Before, after: Before) -> set[str]:
    """Symbols whose rows changed while the exchange was asked, or in which an order of ours is under way."""
    was, now = _versions(before), _versions(after)
    return {symbol for symbol, _, _ in was ^ now} | {order.symbol for order in after.orders}


def _versions(rows: Before) -> set[tuple[str, UUID, int]]:
    positions = {(row.symbol, row.id, row.version) for row in rows.positions}
    return positions | {(row.symbol, row.id, row.version) for row in rows.orders}


def _last_entry(fills: Sequence[FillRecord], position: PositionRecord) -> tuple[datetime, str]:
    opening = [(fill.at, len(fill.trade_id), fill.trade_id) for fill in fills if fill.opens]
    at, _, trade_id = max(opening, default=(position.opened_at, 0, ""))
    return at, trade_id


def _report_of(order: OrderRecord, trades: Sequence[VenueTrade], now: datetime) -> ExecutionReport:
    """What the engine would have reported of an entry with these trades and nothing that rests."""
    fills = [fill_of(trade) for trade in trades]
    filled = sum((fill.quantity for fill in fills), ZERO)
    return ExecutionReport(
        client_order_id=order.client_order_id,
        venue="binance",
        dry_run=False,
        status=ExecutionStatus.FILLED,
        symbol=order.symbol,
        side=order.side,
        order_side=trades[0].order_side,
        reduce_only=False,
        requested_quantity=filled,
        filled_quantity=filled,
        fills=fills,
        as_of=now,
    )


async def _positions(unit: UnitOfWork, user_id: UUID) -> list[PositionRecord]:
    return [row for row in await unit.positions.live_of_user(user_id, Mode.REAL) if not row.simulated]


async def _orders(unit: UnitOfWork, user_id: UUID) -> list[OrderRecord]:
    """Orders that may be at the exchange; what waits for approval or has not left cannot be."""
    live = await unit.orders.live_of_user(user_id)
    return [row for row in live if row.mode is Mode.REAL and not row.dry_run and row.status is not OrderStatus.AWAITING_APPROVAL]
