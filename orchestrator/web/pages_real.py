"""The forms on the way to real money: the exchange key, two-step sign-in, the switch between PAPER and REAL. Each works without a script."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import segno
from litestar import Response, post
from markupsafe import Markup

from orchestrator.core.arming import Lack, Need, Readiness, is_armed, stopped_by
from orchestrator.ports import SettingsChanges, UserRow
from orchestrator.web.arming import allowed_changes, begin_factor, claim_key, drop_key, end_factor, store_key
from orchestrator.web.doors import Asked, Doors, doors_of
from orchestrator.web.pages_frame import first_time, form_of, frame, see, user_of
from orchestrator.web.pages_render import page
from orchestrator.web.problems import ProblemError
from shared.enums import Mode
from shared.wire import plain

LIMITS = ("fixed_order_size", "leverage", "max_positions", "max_exposure", "max_daily_loss")
SETTINGS = "/dashboard/settings"


@post("/dashboard/settings/key", include_in_schema=False)
async def key_form(request: Asked) -> Response[str]:
    """Seals a key pair; the form never shows it again."""
    form = await form_of(request)

    async def work(doors: Doors) -> None:
        await store_key(doors, request.user.id, form.get("api_key", ""), form.get("api_secret", ""), form.get("totp"))

    return await _done(request, work, "key-stored")


@post("/dashboard/settings/key/delete", include_in_schema=False)
async def key_delete_form(request: Asked) -> Response[str]:
    """Forgets the key pair."""
    form = await form_of(request)
    return await _done(request, lambda doors: drop_key(doors, request.user.id, form.get("totp")), "key-deleted")


@post("/dashboard/settings/key/claim", include_in_schema=False, opt={"role": "ADMIN"})
async def key_claim_form(request: Asked) -> Response[str]:
    """Takes the pair of the engine's environment."""
    form = await form_of(request)
    return await _done(request, lambda doors: claim_key(doors, request.user.id, form.get("totp")), "key-stored")


@post("/dashboard/settings/totp", include_in_schema=False)
async def totp_form(request: Asked) -> Response[str]:
    """Begins two-step sign-in; the settings show the picture to scan."""

    async def work(doors: Doors) -> None:
        await doors.factors.begin(request.user.id, request.user.username)

    return await _done(request, work, "totp-begun")


@post("/dashboard/settings/totp/confirm", include_in_schema=False)
async def totp_confirm_form(request: Asked) -> Response[str]:
    """Switches it on and shows the recovery codes, this once."""
    form = await form_of(request)
    try:
        codes = await begin_factor(doors_of(request), request.user, form.get("code", ""))
    except ProblemError as problem:
        return await settings_answer(request, errors=_faults(problem), status=problem.status)
    return await settings_answer(request, recovery_codes=codes)


@post("/dashboard/settings/totp/end", include_in_schema=False)
async def totp_end_form(request: Asked) -> Response[str]:
    """Switches it off."""
    form, user = await form_of(request), await user_of(request)
    return await _done(request, lambda doors: end_factor(doors, user, form.get("totp")), "totp-ended")


@post("/dashboard/settings/mode", include_in_schema=False)
async def mode_form(request: Asked) -> Response[str]:
    """Arms REAL, or goes back to PAPER; what is open in the other mode stays as it is."""
    form, user = await form_of(request), await user_of(request)
    mode = Mode.REAL if form.get("mode") == Mode.REAL else Mode.PAPER
    if not await first_time(request, form):
        return see(SETTINGS, "again")

    async def work(doors: Doors) -> None:
        changes = await allowed_changes(doors, user, SettingsChanges(mode=mode), form.get("totp"))
        changed = await doors.preferences.change(user.id, changes, doors.clock.wall(), None)
        if changed is not None:
            await doors.bus.publish(user.id, "settings", {"rev": changed.settings_version})
            await doors.bus.publish(user.id, "status", {})

    return await _done(request, work, "mode-real" if mode is Mode.REAL else "mode-paper")


async def settings_answer(
    request: Asked,
    *,
    values: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    recovery_codes: list[str] | None = None,
    status: int = 200,
) -> Response[str]:
    """The settings page."""
    context = await frame(request, "settings")
    user: UserRow = context["user"]
    shown = {"values": values or values_of(user), "errors": errors or {}, "recovery_codes": recovery_codes or []}
    return page("settings.html", context | shown | await _real_context(request, user), status)


def values_of(user: UserRow) -> dict[str, str]:
    """The limits as a form shows them."""
    shown = {name: plain(Decimal(getattr(user, name)).normalize()) for name in LIMITS}
    return shown | {"version": str(user.settings_version)}


async def _real_context(request: Asked, user: UserRow) -> dict[str, Any]:
    doors = doors_of(request)
    known = await doors.arm.readiness(user.id)
    begun = None if user.totp_enabled else await doors.factors.begun(user.id, user.username)
    return {
        "known": known,
        "stopped": stopped_by(known, dry_run=doors.arm.dry_run),
        "armed": is_armed(known, dry_run=doors.arm.dry_run),
        "dry_run": doors.arm.dry_run,
        "needs": needs_of(known),
        "advice": known.key_advice,
        "begun": begun,
        "qr": None if begun is None else picture_of(begun.otpauth_uri),
    }


def needs_of(known: Readiness) -> list[tuple[str, bool, str]]:
    """The checklist of arming: what, whether it is met, and what is wrong."""
    problems = {lack.code: lack for lack in known.key_problems}
    audited = known.has_key and known.audited_at is not None
    withdraw, trade, hedge, multi = (
        problems.get(code) for code in ("key_can_withdraw", "key_cannot_trade", "hedge_mode", "multi_assets")
    )
    return [
        ("A key of yours, stored sealed", known.has_key, ""),
        ("The exchange lets it trade", audited and trade is None, _said(trade)),
        ("It cannot withdraw", audited and withdraw is None, _said(withdraw)),
        ("The account is in one-way mode", audited and hedge is None, _said(hedge)),
        ("The account is in single-asset mode", audited and multi is None, _said(multi)),
        ("Two-step sign-in", known.totp, ""),
        ("A stop placed and cancelled as a proof of protection", known.canary_passed, known.canary_detail),
    ]


def picture_of(text: str) -> Markup:
    """A QR code as SVG inside the page: no image is loaded, and nothing of it is styled inline."""
    svg = segno.make(text, error="m", micro=False).svg_inline(scale=4, border=3, dark="#000", light="#fff", svgclass="qr")
    return Markup(svg)  # noqa: S704 - made of squares by segno; no text of anybody's is in it


async def _done(request: Asked, work: Callable[[Doors], Awaitable[None]], say: str) -> Response[str]:
    try:
        await work(doors_of(request))
    except ProblemError as problem:
        return await settings_answer(request, errors=_faults(problem), status=problem.status)
    return see(SETTINGS, say)


def _faults(problem: ProblemError) -> dict[str, str]:
    """The faults of fields under their fields; anything else above the page, all of it where much is missing."""
    fields = problem.problem.fields or {}
    own = {name: f"It {text}." for name, text in fields.items() if name in ("api_key", "api_secret")}
    if own:
        return own
    codes = set(Need)
    listed = [text for code, text in fields.items() if code in codes]
    return {"_": " ".join(listed) if len(listed) > 1 else problem.problem.detail}


def _said(lack: Lack | None) -> str:
    return "" if lack is None else lack.detail
