"""What a change of settings needs before it is kept: arming for REAL, a code of two-step sign-in wherever real money could move more."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Final
from uuid import UUID

from orchestrator.core.arming import Need, Readiness, is_armed, lacks, stopped_by
from orchestrator.core.order import Refusal
from orchestrator.errors import EngineRefused
from orchestrator.ports import SettingsChanges, UserRow
from orchestrator.trading.arm import NotReady
from orchestrator.web.auth import Viewer
from orchestrator.web.doors import Asked, Doors
from orchestrator.web.problems import ProblemError, refused
from orchestrator.web.replies import Arming, LackReply
from orchestrator.web.security import end_others
from shared.enums import Mode

CODE_HEADER: Final = "X-TOTP"
KEY_BOUNDS: Final = (8, 256)


def code_of(request: Asked) -> str | None:
    """The code that travels with a request."""
    return request.headers.get(CODE_HEADER)


async def allowed_changes(doors: Doors, user: UserRow, changes: SettingsChanges, code: str | None) -> SettingsChanges:
    """The changes, once everything that they need was seen to. To PAPER leads no gate, and no mode touches what is open in the other.

    Raises:
        ProblemError: 409 with all that is missing before REAL, the first of it as the code; 403 without a right code; 503 when the exchange
            could not be asked.
    """
    real = user.mode == Mode.REAL
    arming = changes.mode == Mode.REAL and not (real and await may_enter(doors, user.id))
    if arming:
        raise_if(await doors.arm.may_ask(user.id))
    if arming or ((real or changes.mode == Mode.REAL) and changes.mode != Mode.PAPER and raises_stakes(user, changes)):
        await demand_enrolled(doors, user.id, code)
    if arming:
        raise_if(await doors.arm.arm(user.id))
    return changes


async def may_enter(doors: Doors, user_id: UUID) -> bool:
    """Whether real entries may be made now."""
    return is_armed(await doors.arm.readiness(user_id), dry_run=doors.arm.dry_run)


async def demand_enrolled(doors: Doors, user_id: UUID, code: str | None) -> None:
    """Takes a code from somebody who must have two-step sign-in on.

    Raises:
        ProblemError: 409 it is not on; 403 no right code; 429 too many wrong ones.
    """
    if not await doors.factors.demand(user_id, code):
        raise_if(NotReady(lacks=[lack for lack in lacks(Readiness(has_key=True)) if lack.code == Need.TOTP]))


def raises_stakes(user: UserRow, changes: SettingsChanges) -> bool:
    """Whether each trade would put up more margin, or borrow more on it."""
    return _more(changes.leverage, user.leverage) or _more(changes.fixed_order_size, user.fixed_order_size)


def raise_if(missing: NotReady | None) -> None:
    """Turns what is missing into a problem: the first is its code, `fields` has them all.

    Raises:
        ProblemError: 409, or 503 when nobody answered.
    """
    if missing is None:
        return
    first = missing.lacks[0]
    fields = {str(lack.code): lack.detail for lack in missing.lacks}
    raise ProblemError(503 if missing.away else 409, str(first.code), first.detail, fields=fields)


async def store_key(doors: Doors, user_id: UUID, api_key: str, api_secret: str, code: str | None) -> None:
    """Keeps a key pair, sealed.

    Raises:
        ProblemError: 400 it is none; 403 a code is missing or wrong; 409 it may not replace the old one now.
        EngineUnavailable: Nothing could be sealed.
    """
    faults = {name: fault for name, text in (("api_key", api_key), ("api_secret", api_secret)) if (fault := _fault(text))}
    if faults:
        raise ProblemError(400, "bad_request", "Some fields cannot be accepted.", fields=faults)
    await doors.factors.demand(user_id, code)
    with _said_by_engine():
        _done(await doors.arm.store_key(user_id, api_key, api_secret))


async def claim_key(doors: Doors, user_id: UUID, code: str | None) -> None:
    """Takes the pair of the engine's environment for one admin, who alone may use it.

    Raises:
        ProblemError: 403 a code is missing or wrong; 409 somebody else has claimed it.
        EngineUnavailable: There is no such pair, or no engine.
    """
    await doors.factors.demand(user_id, code)
    with _said_by_engine():
        _done(await doors.arm.claim_key(user_id))


async def drop_key(doors: Doors, user_id: UUID, code: str | None) -> None:
    """Forgets a key.

    Raises:
        ProblemError: 403 a code is missing or wrong; 409 something at the exchange still needs it, or there is none.
    """
    await doors.factors.demand(user_id, code)
    _done(await doors.arm.drop_key(user_id))


async def begin_factor(doors: Doors, viewer: Viewer, code: str) -> list[str]:
    """Switches two-step sign-in on, and ends the logins that were begun without it; the recovery codes.

    Raises:
        ProblemError: As `Factors.confirm`.
    """
    codes = await doors.factors.confirm(viewer.id, code)
    await end_others(doors, viewer)
    return codes


async def end_factor(doors: Doors, user: UserRow, code: str | None) -> None:
    """Switches two-step sign-in off.

    Raises:
        ProblemError: 409 while REAL needs it; 404 it is not on; 403 a code is missing or wrong.
    """
    if user.mode == Mode.REAL:
        raise ProblemError(409, "real_needs_totp", "Real money needs two-step sign-in. Switch to PAPER first.")
    await doors.factors.end(user.id, code)


def arming_of(known: Readiness, *, dry_run: bool) -> Arming:
    """How far somebody is, as the API tells it."""
    return Arming(
        armed=is_armed(known, dry_run=dry_run),
        dry_run=dry_run,
        armed_at=known.armed_at,
        audited_at=known.audited_at,
        canary_at=known.canary_at,
        canary_detail=known.canary_detail,
        refusal=stopped_by(known, dry_run=dry_run),
        missing=[LackReply(code=str(lack.code), detail=lack.detail) for lack in lacks(known)],
        advice=[LackReply(code=str(lack.code), detail=lack.detail) for lack in known.key_advice],
    )


@contextmanager
def _said_by_engine() -> Iterator[None]:
    """The engine's "no" to its caller's caller: it has no seal, or no pair to claim."""
    try:
        yield
    except EngineRefused as said:
        raise ProblemError(409, said.code, said.detail) from said


def _done(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise refused(refusal)


def _more(wanted: Decimal | None, held: Decimal) -> bool:
    return wanted is not None and wanted > held


def _fault(text: str) -> str:
    low, high = KEY_BOUNDS
    fits = low <= len(text) <= high and text.isascii() and text.isprintable() and " " not in text
    return "" if fits else f"must have {low} to {high} letters, digits or signs, without spaces"
