"""Makes the rows of a real account agree with the exchange, which is the authority: asks for the truth, books it, acts on it.

Runs at the worker's start, each minute for everybody, and at once after each nudge of a user's stream. The truth is asked for outside
any transaction and booked in one; a truth that did not come changes nothing: unknown is not flat. Two workers may do it at once.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from orchestrator.core.position import CloseReason
from orchestrator.core.truth import orphans_of
from orchestrator.errors import EngineRefused, EngineUnavailable
from orchestrator.log import bound_trace, logger
from orchestrator.ports import Bus, Clock, Engine, Ids, Transactions
from orchestrator.trading import announce
from orchestrator.trading.accounts import account_of
from orchestrator.trading.bounded import each
from orchestrator.trading.close import Close
from orchestrator.trading.reconcile_acts import Actor, Acts
from orchestrator.trading.reconcile_booking import Before, Booked, Booking, Exited, read_before
from orchestrator.trading.settle import Settle
from shared.enums import Mode, PositionMode
from shared.execution import Account, Guarded, GuardsRequest, TruthReply, TruthRequest
from shared.wire import plain

ACCOUNTS_AT_ONCE: Final = 8

EVERYWHERE_EVERY: Final = timedelta(seconds=20)
"""Wall time between two truths of an account that show the orders of every symbol: what is not ours, or rests for nothing, elsewhere."""

CLOSED_LATELY: Final = timedelta(hours=1)
"""Market time for which an account that has left REAL is still looked at after its last close: what that left open has to be cancelled."""

NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """How a round went.

    `soon` asks for another truth within seconds: something was triggered, or could not be explained yet. `wrong` asks for glances until
    then: a position is not protected as it should be. `everywhere` says that working orders of every symbol were seen. `refused`: what was not
    heard is an account whose key the exchange does not take, or that has none.
    """

    heard: bool
    refused: bool = False
    soon: bool = False
    wrong: bool = False
    everywhere: bool = False


class _Asks(NamedTuple):
    """What is to be done for an account, under which trace."""

    trace: str
    account: Account
    acts: Acts


class Glanced(msgspec.Struct, frozen=True, kw_only=True):
    """What a glance showed, and what it asks for."""

    said: Reconciled
    asks: _Asks | None = None


class Reconcile:
    """Reconciles real accounts."""

    def __init__(
        self, transactions: Transactions, engine: Engine, close: Close, settle: Settle, bus: Bus, clock: Clock, ids: Ids
    ) -> None:
        self._transactions = transactions
        self._engine = engine
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._actor = Actor(transactions, engine, close, settle, bus, clock, ids)
        self.lapses = self._actor.lapses
        self._everywhere_at: dict[UUID, datetime] = {}

    async def run(self) -> int:
        """One round for everybody with something real; how many accounts were heard."""
        async with self._transactions() as unit:
            users = await unit.traders.with_real(self._clock.now() - CLOSED_LATELY)
        done = await each(users, self.user, what="reconciling an account", at_once=ACCOUNTS_AT_ONCE)
        return sum(one.heard for one in done)

    async def user(self, user_id: UUID) -> Reconciled:
        """One round for one user."""
        with bound_trace(self._ids.new().hex):
            async with self._transactions() as unit:
                before = await read_before(unit, user_id)
            if before is None:
                return Reconciled(heard=False)
            return await self._reconcile(before)

    async def glance(self, user_id: UUID, *, light: bool = False) -> Glanced:
        """Between two truths, while something is wrong or was not heard: looks at what guards the positions alone.

        Nothing is booked: that waits for a truth. What was not heard counts as wrong, and what the last look showed is judged once more. A
        light one, where nothing is known to be wrong, ends with the stops where all of them stand.
        """
        trace = self._ids.new().hex
        with bound_trace(trace):
            async with self._transactions() as unit:
                before = await read_before(unit, user_id)
            symbols = [] if before is None else before.symbols
            if before is None or not symbols:
                return Glanced(said=Reconciled(heard=True))
            account = account_of(before.trader, Mode.REAL, [], None, dry_run=False)
            try:
                shown = await self._engine.guards(
                    GuardsRequest(account=account, symbols=symbols, guarded=_guarded(before) if light else [])
                )
            except EngineUnavailable as unavailable:
                logger().warning("what guards an account was not heard", user_id=str(user_id), error=str(unavailable))
                said = Reconciled(heard=False, refused=isinstance(unavailable, EngineRefused), wrong=True)
                known = self._actor.unheard(before)
                return Glanced(said=said, asks=None if known is None else _Asks(trace, account, known))
            if shown.sound:
                self._actor.forget(user_id)
                return Glanced(said=Reconciled(heard=True))
            self._actor.saw(user_id, before.positions, shown)
            acts = self._actor.glance(before, shown)
            return Glanced(said=Reconciled(heard=True, wrong=acts.wrong), asks=_Asks(trace, account, acts))

    async def act(self, user_id: UUID, glanced: Glanced) -> None:
        """Does what a glance asks for, which may take many times as long as the glance."""
        if glanced.asks is not None:
            with bound_trace(glanced.asks.trace):
                await self._actor.act(user_id, glanced.asks.account, glanced.asks.acts)

    async def _reconcile(self, before: Before) -> Reconciled:
        user_id, since = before.trader.id, before.since(self._clock.now())
        account = account_of(before.trader, Mode.REAL, [], None, dry_run=False)
        asked_at = self._clock.wall()
        everywhere = asked_at - self._everywhere_at.get(user_id, NEVER) >= EVERYWHERE_EVERY
        if everywhere:
            self._everywhere_at.pop(user_id, None)  # until all of it is done
        try:
            truth = await self._engine.truth(
                TruthRequest(account=account, symbols=before.symbols, since=since, everywhere=everywhere)
            )
        except EngineUnavailable as unavailable:
            logger().warning("an account was not heard; nothing is changed", user_id=str(user_id), error=str(unavailable))
            certain = isinstance(unavailable, EngineRefused)  # halted, or without a key: asking again soon does not help
            return Reconciled(heard=False, soon=not certain or bool(before.positions or before.orders))
        async with self._transactions() as unit:
            booked = await Booking(unit, before, truth, since, self._clock.now(), asked_at).run()
            if booked is None:
                return Reconciled(heard=False, soon=True)
            await unit.commit()
        await self._tell(user_id, booked, truth)
        self._actor.saw(user_id, [one for one in booked.positions if one.symbol not in booked.unsettled], truth)
        acts = self._actor.judge(booked, truth)
        await self._actor.note(acts)
        await self._actor.act(user_id, account, acts)
        if booked.exits or acts.cancel or booked.unsure_foreign or _waits_to_be_swept(booked, truth):
            self._everywhere_at.pop(
                user_id, None
            )  # what rests for a position that is gone, or is nobody's, is looked for until it is
        elif everywhere:
            self._everywhere_at[user_id] = asked_at
        return Reconciled(heard=True, soon=acts.soon, wrong=acts.wrong, everywhere=everywhere)

    async def _tell(self, user_id: UUID, booked: Booked, truth: TruthReply) -> None:
        for one in booked.exits:
            await self._tell_exit(one)
        for position in booked.revived:
            logger().error("an entry that was given up stands at the exchange", user_id=str(user_id), symbol=position.symbol)
            await announce.opened(self._bus, position)
        for position in booked.grown:
            logger().warning(
                "an entry filled more than was told", user_id=str(user_id), symbol=position.symbol, quantity=plain(position.size)
            )
            await announce.opened(self._bus, position)
        for holding in booked.newly_foreign:
            what = f"{plain(holding.quantity.normalize())} {holding.side} of {holding.symbol} ({holding.name})"
            logger().warning("something at the exchange is not ours", user_id=str(user_id), symbol=holding.symbol, detail=what)
            await announce.alert(
                self._bus, user_id, f"At the exchange: {what} is not of NeuroTrade. Nothing of ours enters there."
            )
        if booked.newly_alarmed is not None:
            ledger = booked.newly_alarmed.wallet - booked.newly_alarmed.difference
            figures = f"the exchange's wallet holds {booked.newly_alarmed.wallet:.8f} USDT, the ledger {ledger:.8f}"
            logger().error("ledger and wallet differ", user_id=str(user_id), detail=figures)
            await announce.alert(self._bus, user_id, f"Ledger and exchange differ: {figures}.")
        if truth.position_mode is PositionMode.HEDGE:
            logger().warning("the account is in hedge mode; entries are refused", user_id=str(user_id))
        if booked.exits or booked.late_fees:
            await self._bus.publish(user_id, "balance", {})

    async def _tell_exit(self, one: Exited) -> None:
        position = one.position
        logger().info(
            "the exchange reduced a position",
            user_id=str(position.user_id), position_id=str(position.id), symbol=position.symbol, reason=one.reason.value,
            quantity=plain(one.quantity.normalize()), status=position.status.value,
        )  # fmt: skip
        await announce.reduced(self._bus, position, one.quantity)
        if one.reason in (CloseReason.LIQUIDATION, CloseReason.ADL):
            what = "liquidated" if one.reason is CloseReason.LIQUIDATION else "reduced by auto-deleveraging"
            logger().warning(f"a position was {what}", user_id=str(position.user_id), symbol=position.symbol)
            await announce.alert(self._bus, position.user_id, f"{position.symbol} was {what} by the exchange.")


def _guarded(before: Before) -> list[Guarded]:
    """What stops should cover; nothing where an order is under way, of which more must be known."""
    if before.orders:
        return []
    return [Guarded(symbol=one.symbol, side=one.side, quantity=one.size) for one in before.positions]


def _waits_to_be_swept(booked: Booked, truth: TruthReply) -> bool:
    """Whether something rests for nothing where an order is still under way: once that has ended, nothing of ours asks for the symbol."""
    held = {position.symbol for position in booked.positions}
    return not booked.unsettled.isdisjoint(orphans_of(truth, held))
