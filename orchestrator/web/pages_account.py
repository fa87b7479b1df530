"""The pages around a login: landing, register, log in, log out, settings and look."""

from decimal import Decimal
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie

from orchestrator.ports import SettingsChanges, UserRow
from orchestrator.web import format as fmt
from orchestrator.web.arming import allowed_changes, raises_stakes
from orchestrator.web.bodies import MONEY_DECIMALS, given_number
from orchestrator.web.doors import Asked, doors_of
from orchestrator.web.pages_frame import first_time, form_of, frame, see, user_of
from orchestrator.web.pages_real import settings_answer
from orchestrator.web.pages_render import PALETTE_COOKIE, PALETTES, THEME_COOKIE, THEMES, look, notice_of, page
from orchestrator.web.problems import ProblemError
from orchestrator.web.security import address_of, end_login, maybe_viewer, pre_session, session_cookies
from shared.enums import Mode

A_YEAR_SECONDS = 365 * 24 * 3600

BOUNDS: Final = {
    "fixed_order_size": (Decimal(1), Decimal(100_000)),
    "leverage": (Decimal(1), Decimal(125)),
    "max_positions": (Decimal(1), Decimal(100)),
    "max_exposure": (Decimal("0.01"), Decimal(10**9)),
    "max_daily_loss": (Decimal("0.01"), Decimal(10**9)),
}
_WHOLE = frozenset({"leverage", "max_positions"})


@get("/", include_in_schema=False, opt={"open": True})
async def landing_page(request: Asked) -> Response[str]:
    """What this is, and whether anybody's money is in it."""
    context = {**look(request), "mode": "PAPER", "viewer": await maybe_viewer(request)}
    return page("landing.html", context | {"registration_open": doors_of(request).auth.registration_open})


@get("/login", include_in_schema=False, opt={"open": True})
async def login_page(request: Asked) -> Response[str]:
    """The log-in form; the dashboard for somebody who is logged in."""
    if await maybe_viewer(request) is not None:
        return see("/dashboard")
    wish = str(request.query_params.get("next", ""))
    return _before_login(request, "login.html", {"username": "", "next": _safe(wish)}, {})


@post("/login", include_in_schema=False, opt={"open": True, "pre_session": True})
async def login_form(request: Asked) -> Response[str]:
    """Logs in and leads to where somebody was going."""
    form, doors = await form_of(request), doors_of(request)
    name, wish = form.get("username", ""), _safe(form.get("next", ""))
    try:
        logged_in = await doors.auth.log_in(name, await _password(request), address_of(request), form.get("totp"))
    except ProblemError as problem:
        errors = {"_": problem.problem.detail}
        return _before_login(request, "login.html", {"username": name, "next": wish}, errors, problem)
    return _with_cookies(see(wish or "/dashboard"), session_cookies(doors, logged_in))


@get("/register", include_in_schema=False, opt={"open": True})
async def register_page(request: Asked) -> Response[str]:
    """The registration form; the dashboard for somebody who is logged in."""
    if await maybe_viewer(request) is not None:
        return see("/dashboard")
    return _before_login(request, "register.html", {"username": ""}, {})


@post("/register", include_in_schema=False, opt={"open": True, "pre_session": True})
async def register_form(request: Asked) -> Response[str]:
    """Opens a paper account and logs in."""
    form, doors = await form_of(request), doors_of(request)
    name, password = form.get("username", ""), await _password(request)
    try:
        await doors.auth.register(name, password, address_of(request))
        logged_in = await doors.auth.log_in(name, password, address_of(request))
    except ProblemError as problem:
        fields = {key: f"{key.capitalize()} {text}." for key, text in (problem.problem.fields or {}).items()}
        return _before_login(request, "register.html", {"username": name}, fields or {"_": problem.problem.detail}, problem)
    return _with_cookies(see("/dashboard"), session_cookies(doors, logged_in))


@post("/logout", include_in_schema=False)
async def logout_form(request: Asked) -> Response[str]:
    """Ends this login everywhere."""
    doors = doors_of(request)
    await doors.auth.log_out(request.user)
    await doors.bus.publish(request.user.id, "signed_out", {"login_id": str(request.user.login_id)})
    response = see("/login", "logged-out")
    end_login(request, response)
    return response


@get("/dashboard/settings", include_in_schema=False)
async def settings_page(request: Asked) -> Response[str]:
    """What may be done with somebody's money."""
    return await settings_answer(request)


@post("/dashboard/settings", include_in_schema=False)
async def settings_form(request: Asked) -> Response[str]:
    """Saves size and limits, all or nothing; a form that is older than the settings is told so."""
    form, doors = await form_of(request), doors_of(request)
    found, errors = read_limits(form)
    values = {name: form.get(name, "") for name in (*BOUNDS, "version")}
    if errors:
        return await settings_answer(request, values=values, errors=errors)
    changes = SettingsChanges(**{name: int(value) if name == "max_positions" else value for name, value in found.items()})  # type: ignore[arg-type]
    user = await user_of(request)
    asks = user.mode == Mode.REAL and raises_stakes(user, changes)
    if asks and not form.get("totp"):
        return await _confirm(request, user, changes, values, {})
    if not await first_time(request, form):
        return see("/dashboard/settings", "again")
    version = int(form["version"]) if form.get("version", "").isdecimal() else None
    try:
        changes = await allowed_changes(doors, user, changes, form.get("totp"))
    except ProblemError as problem:
        if asks:
            return await _confirm(request, user, changes, values, {"totp": problem.problem.detail}, problem.status)
        return await settings_answer(request, values=values, errors={"_": problem.problem.detail}, status=problem.status)
    changed = await doors.preferences.change(request.user.id, changes, doors.clock.wall(), version)
    if changed is None:
        changed_elsewhere = "The settings were changed elsewhere meanwhile. These are the present ones."
        return await settings_answer(request, errors={"_": changed_elsewhere})
    await doors.bus.publish(request.user.id, "settings", {"rev": changed.settings_version})
    return see("/dashboard/settings", "saved")


@post("/dashboard/look", include_in_schema=False)
async def look_form(request: Asked) -> Response[str]:
    """Keeps theme and palette in cookies, so that the first paint is right without a script."""
    form, secure = await form_of(request), doors_of(request).secure
    theme = form.get("theme") if form.get("theme") in THEMES else THEMES[0]
    palette = form.get("palette") if form.get("palette") in PALETTES else PALETTES[0]
    kept = [(THEME_COOKIE, theme), (PALETTE_COOKIE, palette)]
    return _with_cookies(
        see("/dashboard/settings", "saved"),
        [
            Cookie(key=key, value=value, path="/", secure=secure, httponly=True, samesite="strict", max_age=A_YEAR_SECONDS)
            for key, value in kept
        ],
    )


def read_limits(form: dict[str, str]) -> tuple[dict[str, Decimal], dict[str, str]]:
    """The limits of a form, and a sentence for each field that cannot be accepted."""
    found: dict[str, Decimal] = {}
    errors: dict[str, str] = {}
    for name, (low, high) in BOUNDS.items():
        try:
            value = given_number(form.get(name, ""), MONEY_DECIMALS)
        except ValueError:
            errors[name] = "Enter a number such as 100 or 12.5."
            continue
        if not low <= value <= high:
            errors[name] = f"Between {low:,f} and {high:,f}."
        elif name in _WHOLE and value != value.to_integral_value():
            errors[name] = "A whole number."
        else:
            found[name] = value
    return found, errors


async def _confirm(
    request: Asked, user: UserRow, changes: SettingsChanges, values: dict[str, str], errors: dict[str, str], status: int = 200
) -> Response[str]:
    """Asks for a code before real money is put at a greater stake, on a page of its own that says by how much."""
    size, leverage = changes.fixed_order_size or user.fixed_order_size, changes.leverage or user.leverage
    raised = [
        (label, said(before), said(after))
        for label, said, before, after in (
            ("Margin per trade", fmt.money, user.fixed_order_size, size),
            ("Leverage", fmt.leverage, user.leverage, leverage),
        )
        if before != after
    ]
    notional = (user.fixed_order_size * user.leverage, size * leverage)
    context = await frame(request, "settings") | {"raised": raised, "notional": notional, "values": values, "errors": errors}
    return page("confirm.html", context, status)


def _before_login(
    request: Request[Any, Any, Any],
    template: str,
    values: dict[str, str],
    errors: dict[str, str],
    problem: ProblemError | None = None,
) -> Response[str]:
    token, cookie = pre_session(request)
    context = {
        **look(request),
        "mode": "PAPER",
        "csrf": token,
        "values": values,
        "errors": errors,
        "notice": notice_of(request.query_params.get("say")),
        "registration_open": doors_of(request).auth.registration_open,
    }
    response = page(template, context, 200 if problem is None else problem.status)
    response.headers.update(problem.headers if problem else {})
    return _with_cookies(response, [cookie])


def _with_cookies(response: Response[str], cookies: list[Cookie]) -> Response[str]:
    for cookie in cookies:
        response.set_cookie(cookie)
    return response


async def _password(request: Asked) -> str:
    """As typed: spaces at its ends count, and the door judges its length."""
    value = (await request.form()).get("password")
    return value if isinstance(value, str) else ""


def _safe(path: str) -> str:
    """A place inside the dashboard to go on to, nothing else."""
    inside = path == "/dashboard" or path.startswith("/dashboard/")
    return path if inside and path.isascii() and not set(path) & set("\\\r\n\t ") and len(path) < 200 else ""
