"""REST: the user who asks and their settings."""

from decimal import Decimal

from litestar import Router, get, patch
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from orchestrator.ports import SettingsChanges, UserRow
from orchestrator.web.arming import allowed_changes, code_of
from orchestrator.web.bodies import Numbers, SettingsBody
from orchestrator.web.doors import Asked, Doors, doors_of
from orchestrator.web.problems import ProblemError, unauthorized
from orchestrator.web.replies import Me, Settings, is_fresh, me_of, settings_of

MAX_ORDER_SIZE = 100_000
MAX_LEVERAGE = 125
MAX_POSITIONS = 100
MAX_MONEY = Decimal(1_000_000_000)


@get("/api/user/me", summary="Who am I")
async def me(request: Asked) -> Me:
    """The user who asks: one row by primary key. In mode REAL a balance that is not fresh begins to be heard at the exchange; nobody waits."""
    doors = doors_of(request)
    row = await user_of(doors, request)
    wall = doors.clock.wall()
    if row.mode == "REAL" and not is_fresh(row, wall):
        doors.desk.sync_balance(row.id)
    return me_of(row, wall, syncing=doors.desk.balance_syncing(row.id))


@get("/api/settings", summary="Read settings")
async def read_settings(request: Asked) -> Settings:
    """What the user may set."""
    return settings_of(await user_of(doors_of(request), request))


@patch("/api/settings", summary="Change settings")
async def change_settings(request: Asked, data: JSONBody[SettingsBody]) -> Settings:
    """Change what is given, leave the rest; every change is kept with its time. REAL must be armed, and asks for a code in X-TOTP."""
    changes = settings_changes(data, await Numbers.of(request, SettingsBody))
    version = None if isinstance(data.version, UnsetType) else data.version
    return settings_of(await save_settings(doors_of(request), request, changes, version, code_of(request)))


async def save_settings(
    doors: Doors, request: Asked, changes: SettingsChanges, version: int | None, code: str | None = None
) -> UserRow:
    """Store changes of settings, once what they need was seen to, and tell the user's other pages.

    Raises:
        ProblemError: 409 when they were changed elsewhere since `version`; as `allowed_changes` for what real money needs.
    """
    user = await user_of(doors, request)
    if version is not None and version != user.settings_version:
        raise ProblemError(409, "changed_elsewhere", "The settings were changed elsewhere. Reload and try again.")
    changes = await allowed_changes(doors, user, changes, code)
    row = await doors.preferences.change(request.user.id, changes, doors.clock.wall(), version)
    if changes.mode is not None:
        await doors.arm.mode_changed(user.id)
    if row is None:
        raise ProblemError(409, "changed_elsewhere", "The settings were changed elsewhere. Reload and try again.")
    await doors.bus.publish(row.id, "settings", {"version": row.settings_version})
    await doors.bus.publish(row.id, "status", {})
    return row


def settings_changes(data: SettingsBody, numbers: Numbers) -> SettingsChanges:
    """The changes that a body asks for, bounds checked.

    Raises:
        ProblemError: 400 with the fields at fault.
    """
    order_size = numbers.read("fixed_order_size", data.fixed_order_size, least=1, most=MAX_ORDER_SIZE)
    leverage = numbers.whole("leverage", data.leverage, least=1, most=MAX_LEVERAGE)
    max_daily_loss = numbers.read("max_daily_loss", data.max_daily_loss, most=MAX_MONEY)
    max_positions = numbers.whole("max_positions", data.max_positions, least=1, most=MAX_POSITIONS)
    max_exposure = numbers.read("max_exposure", data.max_exposure, most=MAX_MONEY)
    numbers.done()
    return SettingsChanges(
        mode=None if isinstance(data.mode, UnsetType) else data.mode,
        fixed_order_size=order_size,
        leverage=leverage,
        auto_trade_enabled=None if data.auto_trade_enabled is UNSET else bool(data.auto_trade_enabled),
        max_daily_loss=max_daily_loss,
        max_positions=None if max_positions is None else int(max_positions),
        max_exposure=max_exposure,
    )


async def user_of(doors: Doors, request: Asked) -> UserRow:
    """The row of the user who asks.

    Raises:
        ProblemError: 401; the user is gone.
    """
    row = await doors.reads.user(request.user.id)
    if row is None:
        raise unauthorized("login_ended", "This login has ended. Please log in again.")
    return row


user_router = Router(
    "/",
    route_handlers=[
        me,
        read_settings,
        change_settings,
    ],
    tags=["user"],
)
