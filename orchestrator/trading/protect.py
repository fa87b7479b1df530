"""Moves a position's stop or target, or arms a trailing stop; never to worse than was locked, never beyond the liquidation price."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from msgspec import structs

from orchestrator.core.order import Refusal, RefusalReason, request_id
from orchestrator.core.position import PositionStatus, activation_price, trailing_armed
from orchestrator.errors import EngineRefused, EngineUnavailable
from orchestrator.ports import Amended, Balances, Bus, Engine, Ids, PositionRecord, Trader, Transactions, UnitOfWork
from orchestrator.trading import announce
from orchestrator.trading.accounts import account_of
from orchestrator.trading.booking import change_position
from orchestrator.trading.booking_rows import with_protection
from orchestrator.trading.watch import Watch
from shared.enums import ExecutionStatus
from shared.execution import ProtectReport, ProtectRequest, RealAccount, Trailing
from shared.margin import round_to_tick

TRAILING_BOUNDS: Final = (Decimal("0.001"), Decimal("0.2"))
"""Of price: nearer than 0.1 % is noise, farther than 20 % is no stop. 0 disarms."""


class Protect:
    """Changes the protection of an open position."""

    def __init__(self, transactions: Transactions, engine: Engine, watch: Watch, balances: Balances, bus: Bus, ids: Ids) -> None:
        self._transactions = transactions
        self._engine = engine
        self._watch = watch
        self._balances = balances
        self._bus = bus
        self._ids = ids

    async def run(
        self,
        user_id: UUID,
        position_id: UUID,
        *,
        stop_loss: Decimal | None,
        take_profit: Decimal | None,
        trailing_ratio: Decimal | None,
    ) -> Amended | Refusal:
        """Absent means unchanged. The old protection is judged up to now first; the new one is checked against the live price."""
        judged = await self._watch.catch_up(user_id, position_id)
        async with self._transactions() as unit:
            position = await _open(unit, user_id, position_id)
            trader = await unit.traders.lock(user_id)
            if trader is None or isinstance(position, Refusal):
                return position if isinstance(position, Refusal) else _not_found()
            request = await self._request(unit, trader, position, stop_loss, take_profit, trailing_ratio)
        report = _unsound(position, request.stop_loss, trailing_ratio) or await self._protect(request)
        if isinstance(report, Refusal):
            return report
        async with self._transactions() as unit:
            await unit.traders.lock(user_id)
            now = await _open(unit, user_id, position_id)
            if isinstance(now, Refusal):
                return now
            refusal = _gone_on(now, request, trailing_ratio, judged) if now.simulated else None
            if refusal is not None:
                return refusal
            amended = _amended(now, request, trailing_ratio, judged.get(now.id))
            changed = await change_position(unit, now, with_protection(amended, report.protection if report else None))
            await unit.commit()
        await announce.stop_moved(self._bus, changed)
        return Amended(
            position_id=changed.id,
            stop_loss=changed.stop_loss,
            take_profit=changed.take_profit,
            trailing_ratio=changed.trailing_ratio,
        )

    async def _request(
        self,
        unit: UnitOfWork,
        trader: Trader,
        position: PositionRecord,
        stop_loss: Decimal | None,
        take_profit: Decimal | None,
        trailing: Decimal | None,
    ) -> ProtectRequest:
        """What the engine is asked for; what trails a position that no exchange holds, we trail ourselves."""
        at_exchange = not position.simulated
        book = await unit.positions.live_of_user(trader.id, position.mode)
        balance = self._balances.of(trader, position.mode).balance
        return ProtectRequest(
            account=account_of(trader, position.mode, book, balance, dry_run=position.dry_run),
            client_order_id=request_id("p", self._ids.new().bytes),
            symbol=position.symbol,
            side=position.side,
            stop_loss=None if stop_loss is None else round_to_tick(stop_loss, position.tick_size),
            take_profit=None if take_profit is None else round_to_tick(take_profit, position.tick_size),
            trailing=_trailing(position, trailing) if at_exchange and trailing else None,
            end_trailing=at_exchange and trailing == 0,
        )

    async def _protect(self, request: ProtectRequest) -> ProtectReport | Refusal | None:
        asked = (request.stop_loss, request.take_profit, request.trailing)
        if asked == (None, None, None) and not request.end_trailing:
            return None
        try:
            report = await self._engine.protect(request)
        except EngineRefused as refused:
            return Refusal(reason=RefusalReason.VENUE_REFUSED, detail=f"{refused.code}: {refused.detail}")
        except EngineUnavailable:
            return Refusal(reason=RefusalReason.ENGINE_UNAVAILABLE, detail=_no_answer(request))
        if report.status is ExecutionStatus.FILLED or report.protection is not None:
            return report
        detail = report.refusal.detail if report.refusal else "the engine refused"
        return Refusal(reason=RefusalReason.BAD_PRICE, detail=detail)


async def _open(unit: UnitOfWork, user_id: UUID, position_id: UUID) -> PositionRecord | Refusal:
    position = await unit.positions.get(position_id)
    if position is None or position.user_id != user_id:
        return _not_found()
    if position.status is not PositionStatus.OPEN:
        return Refusal(reason=RefusalReason.NOT_OPEN, detail=f"{position.symbol} is closed, or a close is under way")
    return position


def _trailing(position: PositionRecord, ratio: Decimal) -> Trailing | None:
    low, high = TRAILING_BOUNDS
    return Trailing(ratio=ratio, activation_price=activation_price(position, ratio)) if low <= ratio <= high else None


def _no_answer(request: ProtectRequest) -> str:
    if isinstance(request.account, RealAccount) and not request.account.dry_run:
        return "the engine did not answer; what rests at the exchange now is being read, and shown here in a moment"
    return "the engine did not answer; nothing was changed"


def _not_found() -> Refusal:
    return Refusal(reason=RefusalReason.NOT_FOUND, detail="there is no such position")


def _gone_on(
    now: PositionRecord, request: ProtectRequest, trailing: Decimal | None, judged: Mapping[UUID, datetime]
) -> Refusal | None:
    """Why a change that was sound a moment ago must not be written: nobody judged the old protection, or its stop has moved since."""
    if now.id not in judged:
        return Refusal(reason=RefusalReason.PRICE_UNKNOWN, detail=f"no fresh price of {now.symbol}; nothing was changed")
    return _unsound(now, request.stop_loss, trailing)


def _unsound(position: PositionRecord, stop: Decimal | None, trailing: Decimal | None) -> Refusal | None:
    low, high = TRAILING_BOUNDS
    if trailing is not None and trailing != 0 and not low <= trailing <= high:
        return Refusal(
            reason=RefusalReason.BAD_PRICE, detail=f"a trailing stop keeps {low:f} to {high:f} of the price behind, 0 ends it"
        )
    if stop is None:
        return None
    sign, liquidation = position.side.sign, position.liquidation_price
    if liquidation is not None and sign * (stop - liquidation) <= 0:
        return Refusal(
            reason=RefusalReason.BAD_PRICE, detail=f"a stop at {stop:f} is beyond the liquidation price {liquidation:.6g}"
        )
    if position.stop_loss is not None and trailing_armed(position) and sign * (stop - position.stop_loss) < 0:
        return Refusal(
            reason=RefusalReason.BAD_PRICE, detail="the trailing stop has locked a gain; its stop only moves in your favour"
        )
    return None


def _amended(
    position: PositionRecord, request: ProtectRequest, trailing: Decimal | None, judged: datetime | None
) -> PositionRecord:
    """The new protection, in force from where the old one was judged to: what happened before must not touch it."""
    amended = structs.replace(
        position,
        judged_until=max(position.judged_until, judged or position.judged_until),
        stop_loss=position.stop_loss if request.stop_loss is None else request.stop_loss,
        take_profit=position.take_profit if request.take_profit is None else request.take_profit,
    )
    if trailing is None:
        return amended
    return structs.replace(amended, trailing_ratio=trailing or None, trailing_best=None)
