"""Keys and the way to real money: stored sealed, audited by the exchange, armed by a canary that passed now, proven again each day.

An armed account whose proof fails stays in REAL, and its positions keep their protection: only new entries stop, with the reason.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from orchestrator.core.arming import CANARY_OVERDUE, Lack, Need, Readiness, before_asking, canary_is_due, lacks, only_read
from orchestrator.errors import EngineRefused, EngineUnavailable, StoreUnavailable
from orchestrator.log import logger
from orchestrator.ports import Bus, Clock, Engine, KeyVault, Lifeline, Refusal, RefusalReason, Sealer
from orchestrator.trading import announce
from orchestrator.trading.bounded import each
from shared.execution import RealAccount, SealedCredentials, VenueState
from shared.problem import Problem

KEY_CHANGED: Final = "the exchange key was changed; switch to REAL again, so that it is checked"
KEY_DELETED: Final = "the exchange key was deleted"
PANIC_NOT_PREPARED: Final = "panic_not_prepared"
AT_ONCE: Final = 4


class NotReady(msgspec.Struct, frozen=True, kw_only=True):
    """What is missing before real money, the first to mend first; never empty. `away`: only because nobody answered."""

    lacks: list[Lack]
    away: bool = False


class Arm:
    """Stores keys, audits them, arms accounts and lets the canary sing."""

    def __init__(
        self, vault: KeyVault, sealer: Sealer, engine: Engine, lifeline: Lifeline, bus: Bus, clock: Clock, *, dry_run: bool
    ) -> None:
        self._vault = vault
        self._sealer = sealer
        self._engine = engine
        self._lifeline = lifeline
        self._bus = bus
        self._clock = clock
        self.dry_run = dry_run

    async def readiness(self, user_id: UUID) -> Readiness:
        """How far a user is."""
        return await self._vault.readiness(user_id)

    async def store_key(self, user_id: UUID, api_key: str, api_secret: str) -> Refusal | None:
        """Seals and keeps a pair; real entries stop until the account is armed with it.

        Raises:
            EngineUnavailable: Nothing could be sealed.
        """
        return await self._keep(user_id, await self._sealer.seal(user_id, api_key, api_secret), claimed=False)

    async def claim_key(self, user_id: UUID) -> Refusal | None:
        """Takes the pair of the engine's environment for this one admin; who is an admin is the caller's to know.

        Raises:
            EngineUnavailable: The engine did not seal it.
        """
        return await self._keep(user_id, await self._engine.claim_keys(str(user_id)), claimed=True)

    async def drop_key(self, user_id: UUID) -> Refusal | None:
        """Forgets a key, unless something at the exchange still needs it.

        Raises:
            StoreUnavailable: It could not be forgotten everywhere; nothing is changed.
        """
        held = await self._vault.holds_real(user_id)
        if held:
            return Refusal(reason=RefusalReason.REAL_IN_USE, detail=f"{', '.join(held)} at the exchange still needs this key")
        await self._lifeline.forget(user_id)
        if not await self._vault.drop_key(user_id, self._clock.wall(), KEY_DELETED):
            return Refusal(reason=RefusalReason.NO_CREDENTIALS, detail="there is no key")
        await self._bus.publish(user_id, "status", {})
        return None

    async def audit(self, user_id: UUID) -> NotReady | None:
        """Has the exchange asked what the key may do, and keeps its answer; what stops arming, if anything does."""
        credentials = await self._vault.credentials(user_id)
        if credentials is None:
            return NotReady(lacks=before_asking(Readiness(totp=True)))
        try:
            told = await self._engine.check_keys(_account(user_id, credentials))
        except EngineUnavailable as unavailable:
            return _unanswered(unavailable, Need.AUDIT)
        problems = _lacks_of(told.problems)
        if not await self._vault.keep_audit(user_id, credentials, self._clock.wall(), problems, _lacks_of(told.advice)):
            return _changed_meanwhile()
        return NotReady(lacks=problems) if problems else None

    async def may_ask(self, user_id: UUID) -> NotReady | None:
        """What is missing before the exchange is worth asking; with it everything else that is."""
        known = await self.readiness(user_id)
        return NotReady(lacks=lacks(known)) if before_asking(known) else None

    async def arm(self, user_id: UUID) -> NotReady | None:
        """Audits the key and lets the canary sing, both now; when both are well, real entries may be made.

        Whether the second factor was given is the door's to see to, and the mode is the settings' to change.
        """
        missing = await self.may_ask(user_id) or await self.audit(user_id) or await self._sing(user_id)
        if missing is not None:
            return missing
        credentials = await self._vault.credentials(user_id)
        if credentials is None:
            return _changed_meanwhile()
        try:
            if not self.dry_run:
                await self._lifeline.keep(user_id, credentials)
        except StoreUnavailable:
            return NotReady(
                lacks=[Lack(code=PANIC_NOT_PREPARED, detail="What panic needs could not be kept. Try again.")], away=True
            )
        if not await self._vault.arm(user_id, credentials, self._clock.wall()):
            return _changed_meanwhile()
        logger().info("real money was armed", user_id=str(user_id))
        return None

    async def mode_changed(self, user_id: UUID) -> None:
        """What panic needs without the store follows the user's mode at once; while Redis is away the next round sees to it."""
        try:
            await self._keep_lifeline(user_id)
        except StoreUnavailable as unavailable:
            logger().warning("a lifeline waits for the next round", user_id=str(user_id), error=str(unavailable))

    async def run(self) -> int:
        """A canary for everyone armed whose last one is old or failed; how many were due."""
        wall = self._clock.wall()
        armed = await self._vault.armed()
        kept = sorted({user_id for user_id, _ in armed} | await self._kept_lifelines())
        await each(kept, self._keep_lifeline, what="keeping a lifeline", at_once=AT_ONCE)
        due = [user_id for user_id, known in armed if canary_is_due(known, wall, dry_run=self.dry_run)]
        await each(due, self._prove_again, what="a canary", at_once=AT_ONCE)
        return len(due)

    async def _kept_lifelines(self) -> set[UUID]:
        """Who has one, in PAPER too, who is forgotten now. None is known of while Redis is away."""
        try:
            return set(await self._lifeline.all_kept())
        except StoreUnavailable:
            return set()

    async def _keep_lifeline(self, user_id: UUID) -> None:
        """Redis may have forgotten, or know an older seal or key: what panic needs without the store is written again and again.

        Only while real money may move: a panic without the store sends for whoever has a lifeline, and asks nobody else.
        """
        credentials = await self._vault.credentials(user_id)
        if credentials is not None and await self._is_live(user_id):
            await self._lifeline.keep(user_id, credentials)
            if await self._is_live(user_id):
                return  # Else the user left REAL, and was forgotten, between the two.
        await self._lifeline.forget(user_id)

    async def _is_live(self, user_id: UUID) -> bool:
        """Whether real money may move: also of who left REAL with something open there, as a panic with the store sees it."""
        if self.dry_run:
            return False
        return (await self._vault.readiness(user_id)).in_real or bool(await self._vault.holds_real(user_id))

    async def _prove_again(self, user_id: UUID) -> None:
        before = await self.readiness(user_id)
        missing = await self.audit(user_id)
        if missing is None:
            missing = await self._sing(user_id)
        elif not missing.away or _overdue(before, self._clock.wall()):
            await self._stop(user_id, missing)
        if missing is not None and not missing.away and before.refusal is None:
            detail = missing.lacks[0].detail
            logger().error("real entries stop: the daily proof of protection failed", user_id=str(user_id), detail=detail)
            await announce.alert(self._bus, user_id, f"No new real entries: {detail} Open positions stay protected.")

    async def _sing(self, user_id: UUID) -> NotReady | None:
        credentials = await self._vault.credentials(user_id)
        if credentials is None:
            return _changed_meanwhile()
        account = RealAccount(user_id=str(user_id), dry_run=self.dry_run, credentials=credentials)
        try:
            told = await self._engine.canary(account)
        except EngineUnavailable as unavailable:
            missing = _unanswered(unavailable, Need.CANARY)
            if not missing.away or _overdue(await self.readiness(user_id), self._clock.wall()):
                await self._stop(user_id, missing)
            return missing
        passed = told.passed and only_read(told.detail, dry_run=self.dry_run) is None
        said = told.detail if passed or not told.passed else f"{told.detail}, since the engine is in dry run"
        refusal = None if passed else f"the proof of protection failed: {said}"
        kept = await self._vault.keep_canary(
            user_id, credentials, self._clock.wall(), passed=passed, detail=said, refusal=refusal
        )
        if not kept:
            return _changed_meanwhile()
        return None if passed else NotReady(lacks=[Lack(code=Need.CANARY, detail=said)])

    async def _stop(self, user_id: UUID, missing: NotReady) -> None:
        credentials = await self._vault.credentials(user_id)
        if credentials is not None:
            detail = missing.lacks[0].detail
            await self._vault.keep_canary(
                user_id, credentials, self._clock.wall(), passed=False, detail=detail, refusal=f"not proven today: {detail}"
            )

    async def _keep(self, user_id: UUID, credentials: SealedCredentials, *, claimed: bool) -> Refusal | None:
        other = await self._other_account(user_id, credentials)
        if other is not None:
            return other
        if not await self._vault.keep_key(user_id, credentials, self._clock.wall(), claimed=claimed, stopped=KEY_CHANGED):
            return Refusal(reason=RefusalReason.KEY_CLAIMED, detail="the owner's key is claimed by another admin")
        logger().info("an exchange key was stored, sealed", user_id=str(user_id))
        await self._bus.publish(user_id, "status", {})
        await self.audit(user_id)
        return None

    async def _other_account(self, user_id: UUID, credentials: SealedCredentials) -> Refusal | None:
        """While something is at the exchange, only a key of that account may take the old one's place: another would see it flat."""
        held = await self._vault.holds_real(user_id)
        if not held:
            return None
        seen = await self._engine.positions(_account(user_id, credentials))
        known = {position.symbol for position in seen.positions}
        if seen.state is VenueState.OPEN and known & set(held):
            return None
        detail = f"the new key does not show {', '.join(held)}, which is open at the exchange; close it first"
        return Refusal(reason=RefusalReason.REAL_IN_USE, detail=detail)


def _account(user_id: UUID, credentials: SealedCredentials) -> RealAccount:
    return RealAccount(user_id=str(user_id), dry_run=False, credentials=credentials)


def _lacks_of(problems: list[Problem]) -> list[Lack]:
    return [Lack(code=problem.code, detail=problem.detail) for problem in problems]


def _unanswered(unavailable: EngineUnavailable, need: Need) -> NotReady:
    if isinstance(unavailable, EngineRefused) and unavailable.status < 500:
        return NotReady(lacks=[Lack(code=unavailable.code, detail=unavailable.detail)])
    return NotReady(lacks=[Lack(code=need, detail="The exchange could not be asked just now. Try again.")], away=True)


def _changed_meanwhile() -> NotReady:
    return NotReady(lacks=[Lack(code=Need.API_KEY, detail="The key was changed meanwhile. Try again.")])


def _overdue(known: Readiness, wall: datetime) -> bool:
    return known.canary_at is None or wall - known.canary_at > CANARY_OVERDUE
