"""Sealed keys, second factors and arming in PostgreSQL: each change one short transaction with its audit, which holds no secret."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, select, union, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from orchestrator.core.arming import Lack, Readiness
from orchestrator.core.audit import AuditKind
from orchestrator.core.order import LIVE
from orchestrator.ports import FactorRow, SealedRow
from orchestrator.store.asking import asking, audited
from orchestrator.store.database import Database
from orchestrator.store.tables import Arming, ExchangeKey, Order, Position, SecondFactor, User
from shared.enums import Mode
from shared.execution import SealedCredentials

_FACTOR: Final = [getattr(SecondFactor, name) for name in FactorRow.__struct_fields__]
_KNOWN: Final = (
    select(
        User.id,
        User.mode,
        ExchangeKey.key_id,
        ExchangeKey.claimed,
        ExchangeKey.problems,
        ExchangeKey.advice,
        ExchangeKey.audited_at,
        SecondFactor.confirmed_at,
        Arming.armed_at,
        Arming.canary_at,
        Arming.canary_passed,
        Arming.canary_detail,
        Arming.refusal,
    )
    .outerjoin(ExchangeKey, ExchangeKey.user_id == User.id)
    .outerjoin(SecondFactor, SecondFactor.user_id == User.id)
    .outerjoin(Arming, Arming.user_id == User.id)
)


class SqlKeyVault:
    """Implements the port KeyVault."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def readiness(self, user_id: UUID) -> Readiness:
        """What is known of a user."""
        async with asking(self._database) as session:
            row = (await session.execute(_KNOWN.where(User.id == user_id))).one_or_none()
        return Readiness() if row is None else _readiness(row)

    async def credentials(self, user_id: UUID) -> SealedCredentials | None:
        """A user's sealed key."""
        statement = select(ExchangeKey.key_id, ExchangeKey.sealed).where(ExchangeKey.user_id == user_id)
        async with asking(self._database) as session:
            row = (await session.execute(statement)).one_or_none()
        return None if row is None else SealedCredentials(key_id=row.key_id, sealed=row.sealed)

    async def holds_real(self, user_id: UUID) -> list[str]:
        """Symbols in which a user has a position or an order at the exchange."""
        positions = select(Position.symbol).where(
            Position.user_id == user_id,
            Position.mode == Mode.REAL.value,
            ~Position.dry_run,
            Position.status.in_(["OPEN", "CLOSING"]),
        )
        orders = select(Order.symbol).where(
            Order.user_id == user_id,
            Order.mode == Mode.REAL.value,
            ~Order.dry_run,
            Order.status.in_(sorted(status.value for status in LIVE - {"AWAITING_APPROVAL"})),
        )
        async with asking(self._database) as session:
            return sorted((await session.execute(union(positions, orders))).scalars())

    async def keep_key(self, user_id: UUID, credentials: SealedCredentials, at: datetime, *, claimed: bool, stopped: str) -> bool:
        """Keep a key in place of the one before, unaudited, and stop real entries with that reason.

        False where the owner's pair is claimed by somebody else: the table lets one row be claimed.
        """
        values = {
            "key_id": credentials.key_id,
            "sealed": credentials.sealed,
            "claimed": claimed,
            "stored_at": at,
            "audited_at": None,
            "problems": [],
            "advice": [],
        }
        kept = insert(ExchangeKey).values(user_id=user_id, **values)
        try:
            async with audited(self._database) as (session, audit):
                await session.execute(kept.on_conflict_do_update(index_elements=[ExchangeKey.user_id], set_=values))
                await _unproven(session, user_id, stopped)
                audit.note(AuditKind.KEYS_CHANGED, user_id=user_id, subject=credentials.key_id, change="stored", claimed=claimed)
        except IntegrityError:
            return False
        return True

    async def drop_key(self, user_id: UUID, at: datetime, stopped: str) -> bool:
        """Forget a key; False when there was none."""
        gone = delete(ExchangeKey).where(ExchangeKey.user_id == user_id).returning(ExchangeKey.key_id)
        async with audited(self._database) as (session, audit):
            key_id = await session.scalar(gone)
            if key_id is not None:
                await _unproven(session, user_id, stopped)
                audit.note(AuditKind.KEYS_CHANGED, user_id=user_id, subject=key_id, change="deleted", wall=at)
            return key_id is not None

    async def keep_audit(
        self, user_id: UUID, credentials: SealedCredentials, at: datetime, problems: list[Lack], advice: list[Lack]
    ) -> bool:
        """What the exchange says of a key; False when it is not the user's key any more."""
        told = {"problems": msgspec.to_builtins(problems), "advice": msgspec.to_builtins(advice)}
        statement = update(ExchangeKey).where(*_same_key(user_id, credentials)).values(audited_at=at, **told)
        async with audited(self._database) as (session, audit):
            if await session.scalar(statement.returning(ExchangeKey.user_id)) is None:
                return False
            audit.note(AuditKind.KEYS_CHANGED, user_id=user_id, subject=credentials.key_id, change="audited", **told)
            return True

    async def keep_canary(
        self, user_id: UUID, credentials: SealedCredentials, at: datetime, *, passed: bool, detail: str, refusal: str | None
    ) -> bool:
        """How a canary ended, and why entries stop, if they do; False when it is not the user's key any more."""
        return await self._arming(user_id, credentials, canary_at=at, canary_passed=passed, canary_detail=detail, refusal=refusal)

    async def arm(self, user_id: UUID, credentials: SealedCredentials, at: datetime) -> bool:
        """Real entries may be made from now on; False when it is not the user's key any more."""
        return await self._arming(user_id, credentials, armed_at=at, refusal=None)

    async def armed(self) -> list[tuple[UUID, Readiness]]:
        """Everyone who was armed and is in mode REAL."""
        statement = _KNOWN.where(User.mode == Mode.REAL.value, Arming.armed_at.is_not(None))
        async with asking(self._database) as session:
            return [(row.id, _readiness(row)) for row in await session.execute(statement)]

    async def sealed_rows(self) -> list[SealedRow]:
        """Everyone's sealed keys, for sealing them anew."""
        statement = select(ExchangeKey.user_id, ExchangeKey.key_id, ExchangeKey.sealed).order_by(ExchangeKey.user_id)
        async with asking(self._database) as session:
            return [
                SealedRow(user_id=row.user_id, credentials=SealedCredentials(key_id=row.key_id, sealed=row.sealed))
                for row in await session.execute(statement)
            ]

    async def replace_seal(self, row: SealedRow, credentials: SealedCredentials) -> bool:
        """The same pair under another key; False when the row has changed meanwhile."""
        statement = (
            update(ExchangeKey)
            .where(*_same_key(row.user_id, row.credentials))
            .values(key_id=credentials.key_id, sealed=credentials.sealed)
            .returning(ExchangeKey.user_id)
        )
        async with audited(self._database) as (session, audit):
            if await session.scalar(statement) is None:
                return False
            old, new = row.credentials.key_id, credentials.key_id
            audit.note(AuditKind.KEYS_CHANGED, user_id=row.user_id, subject=new, change="sealed anew", before=old)
            return True

    async def _arming(self, user_id: UUID, credentials: SealedCredentials, **values: Any) -> bool:
        """Writes behind the key's lock, so that what was proven of one key is never kept for another."""
        new = {"canary_passed": False, "canary_detail": ""} | values
        kept = insert(Arming).values(user_id=user_id, **new)
        async with audited(self._database) as (session, audit):
            held = select(ExchangeKey.user_id).where(*_same_key(user_id, credentials)).with_for_update()
            if await session.scalar(held) is None:
                return False
            await session.execute(kept.on_conflict_do_update(index_elements=[Arming.user_id], set_=values))
            told = {name: value for name, value in values.items() if value is None or isinstance(value, bool | str)}
            audit.note(AuditKind.ARMING_CHANGED, user_id=user_id, subject=credentials.key_id, **told)
            return True


class SqlFactorVault:
    """Implements the port FactorVault."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def factor(self, user_id: UUID) -> FactorRow | None:
        """A user's, confirmed or not."""
        async with asking(self._database) as session:
            row = (await session.execute(select(*_FACTOR).where(SecondFactor.user_id == user_id))).one_or_none()
        return None if row is None else FactorRow(**row._mapping)

    async def begin_factor(self, row: FactorRow) -> bool:
        """Keep a new one in place of one that was never confirmed; False when one is confirmed."""
        values = msgspec.structs.asdict(row)
        kept = (
            insert(SecondFactor)
            .values(**values)
            .on_conflict_do_update(
                index_elements=[SecondFactor.user_id],
                set_={name: value for name, value in values.items() if name != "user_id"},
                where=SecondFactor.confirmed_at.is_(None),
            )
            .returning(SecondFactor.user_id)
        )
        async with audited(self._database) as (session, audit):
            done = await session.scalar(kept) is not None
            if done:
                audit.note(AuditKind.FACTOR_CHANGED, user_id=row.user_id, subject="totp", change="begun")
            return done

    async def confirm_factor(self, row: FactorRow, at: datetime, step: int, recovery_hashes: list[str]) -> bool:
        """It counts from now on; False when it was changed or confirmed meanwhile."""
        same = (SecondFactor.user_id == row.user_id, SecondFactor.secret == row.secret, SecondFactor.confirmed_at.is_(None))
        values = {"confirmed_at": at, "last_step": step, "recovery_hashes": recovery_hashes}
        return await self._change(row.user_id, "confirmed", update(SecondFactor).where(*same).values(**values))

    async def spend_step(self, user_id: UUID, step: int) -> bool:
        """Take a time step; False when it, or a later one, was taken."""
        mine = (SecondFactor.user_id == user_id, SecondFactor.confirmed_at.is_not(None), SecondFactor.last_step < step)
        return await self._change(user_id, "code used", update(SecondFactor).where(*mine).values(last_step=step))

    async def spend_recovery(self, user_id: UUID, hashed: str) -> bool:
        """Take a recovery code; False when there is none such."""
        held = SecondFactor.recovery_hashes
        mine = (SecondFactor.user_id == user_id, SecondFactor.confirmed_at.is_not(None), held.contains([hashed]))
        left = func.coalesce(held.op("-")(hashed), held)
        return await self._change(user_id, "recovery code used", update(SecondFactor).where(*mine).values(recovery_hashes=left))

    async def end_factor(self, user_id: UUID) -> bool:
        """Forget it; False when there was none."""
        return await self._change(user_id, "ended", delete(SecondFactor).where(SecondFactor.user_id == user_id))

    async def _change(self, user_id: UUID, change: str, statement: Any) -> bool:
        async with audited(self._database) as (session, audit):
            done = await session.scalar(statement.returning(SecondFactor.user_id)) is not None
            if done:
                audit.note(AuditKind.FACTOR_CHANGED, user_id=user_id, subject="totp", change=change)
            return done


async def _unproven(session: AsyncSession, user_id: UUID, stopped: str) -> None:
    """Whatever was proven was proven of another key."""
    values = {"canary_at": None, "canary_passed": False, "canary_detail": "", "refusal": stopped}
    kept = insert(Arming).values(user_id=user_id, armed_at=None, **values)
    await session.execute(kept.on_conflict_do_update(index_elements=[Arming.user_id], set_={"armed_at": None, **values}))


def _same_key(user_id: UUID, credentials: SealedCredentials) -> tuple[Any, ...]:
    return ExchangeKey.user_id == user_id, ExchangeKey.key_id == credentials.key_id, ExchangeKey.sealed == credentials.sealed


def _readiness(row: Any) -> Readiness:
    return Readiness(
        in_real=row.mode == Mode.REAL.value,
        has_key=row.key_id is not None,
        claimed=bool(row.claimed),
        key_problems=msgspec.convert(row.problems or [], list[Lack]),
        key_advice=msgspec.convert(row.advice or [], list[Lack]),
        audited_at=row.audited_at,
        totp=row.confirmed_at is not None,
        armed_at=row.armed_at,
        canary_at=row.canary_at,
        canary_passed=bool(row.canary_passed),
        canary_detail=row.canary_detail or "",
        refusal=row.refusal,
    )
