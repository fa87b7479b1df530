"""The forms of the dashboard: close, protect, approve, decline, stop, panic, scan. Each works without JavaScript and twice does once."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath

from orchestrator.errors import StoreUnavailable
from orchestrator.ports import PanicReceipt, PositionRow, Refusal, SettingsChanges
from orchestrator.trading.silence import heard
from orchestrator.web.auth import STORE_SILENT_SECONDS
from orchestrator.web.bodies import PRICE_DECIMALS, given_number
from orchestrator.web.doors import Asked, doors_of
from orchestrator.web.pages_frame import first_time, form_of, frame, id_of, see
from orchestrator.web.pages_render import look, page
from orchestrator.web.pages_sections import health_context, money_context, position_context, receipt_context
from orchestrator.web.pages_words import REFUSALS, word
from orchestrator.web.problems import refused
from orchestrator.web.valuation import LIVE
from shared.margin import floor_to_step
from shared.wire import plain

_PERCENT = Decimal(100)
_NOT_A_NUMBER = "Enter a number such as 12.5."


@get("/dashboard/positions/{position_id:str}", include_in_schema=False)
async def position_page(request: Asked, position_id: FromPath[str]) -> Response[str]:
    """One position: is it protected, why is it here, and what can be changed."""
    return await _position(request, position_id, {}, {})


@get("/dashboard/positions/{position_id:str}/close", include_in_schema=False)
async def close_page(request: Asked, position_id: FromPath[str]) -> Response[str]:
    """Asks before a position is closed; a closed one is shown instead."""
    context = await frame(request, "positions") | await position_context(request, position_id)
    if not context["view"].live:
        return see(f"/dashboard/positions/{position_id}")
    return page("close.html", context)


@post("/dashboard/positions/{position_id:str}/close", include_in_schema=False)
async def close_form(request: Asked, position_id: FromPath[str]) -> Response[str]:
    """Closes all, half or a quantity of a position."""
    form, doors, back = await form_of(request), doors_of(request), f"/dashboard/positions/{id_of(position_id)}"
    row: PositionRow = (await position_context(request, position_id))["view"].row
    quantity, fault = _quantity_of(form, row)
    if fault:
        return await _position(request, position_id, form, {"quantity": fault})
    if not await first_time(request, form):
        return see(back, "again")
    done = await doors.desk.close(request.user.id, row.id, quantity)
    if isinstance(done, Refusal):
        return await _position(request, position_id, form, {"quantity" if quantity else "_": done.detail})
    return see(back, "closed" if done.left == 0 else "partly-closed")


@post("/dashboard/positions/{position_id:str}/protect", include_in_schema=False)
async def protect_form(request: Asked, position_id: FromPath[str]) -> Response[str]:
    """Moves stop and target, or arms a trailing stop. What the form left as it was is not sent."""
    form, back = await form_of(request), f"/dashboard/positions/{id_of(position_id)}"
    row: PositionRow = (await position_context(request, position_id))["view"].row
    wanted, faults = _protection_of(form, row)
    if faults:
        return await _position(request, position_id, form, faults)
    if not await first_time(request, form):
        return see(back, "again")
    done = await doors_of(request).desk.amend(
        request.user.id,
        row.id,
        stop_loss=wanted.get("stop_loss"),
        take_profit=wanted.get("take_profit"),
        trailing_ratio=wanted.get("trailing_percent"),
    )
    if isinstance(done, Refusal):
        return await _position(request, position_id, form, {next(iter(wanted), "stop_loss"): done.detail})
    return see(back, "protected")


@post("/dashboard/approvals/{approval_id:str}/approve", include_in_schema=False)
async def approve_form(request: Asked, approval_id: FromPath[str]) -> Response[str]:
    """Enters what waits, priced again now.

    Raises:
        ProblemError: It could not be entered, with the reason.
    """
    if not await first_time(request, await form_of(request)):
        return see("/dashboard/positions", "again")
    done = await doors_of(request).desk.approve(request.user.id, id_of(approval_id))
    if isinstance(done, Refusal):
        raise refused(_readable(done))
    return see(f"/dashboard/positions/{done.position_id}", "approved")


@post("/dashboard/approvals/{approval_id:str}/decline", include_in_schema=False)
async def decline_form(request: Asked, approval_id: FromPath[str]) -> Response[str]:
    """Drops what waits.

    Raises:
        ProblemError: It was not there any more, with the reason.
    """
    if not await first_time(request, await form_of(request)):
        return see("/dashboard", "again")
    refusal = await doors_of(request).desk.decline(request.user.id, id_of(approval_id))
    if refusal is not None:
        raise refused(_readable(refusal))
    return see("/dashboard", "declined")


@post("/dashboard/auto-trading", include_in_schema=False)
async def auto_trading_form(request: Asked) -> Response[str]:
    """Switches auto-trading on. Off is the stop page, which asks about the positions."""
    doors = doors_of(request)
    await doors.preferences.change(request.user.id, SettingsChanges(auto_trade_enabled=True), doors.clock.wall(), None)
    await doors.bus.publish(request.user.id, "settings", {})
    await doors.bus.publish(request.user.id, "status", {})
    return see("/dashboard", "auto-on")


@get("/dashboard/stop", include_in_schema=False)
async def stop_page(request: Asked) -> Response[str]:
    """Asks what should become of the open positions."""
    context = await frame(request, "overview")
    return page("stop.html", context | await money_context(request, context["user"]))


@post("/dashboard/stop", include_in_schema=False)
async def stop_form(request: Asked) -> Response[str]:
    """Auto-trading off; positions kept or closed."""
    form = await form_of(request)
    close = form.get("positions") == "close"
    if not await first_time(request, form):
        return see("/dashboard", "again")
    done = await doors_of(request).desk.stop(request.user.id, close_positions=close)
    left = [item for item in done.positions if item.result != "closed"] if close else []
    if left:
        return see("/dashboard/positions", "stopped-left")
    return see("/dashboard", "stopped-closed" if close else "stopped")


@get("/dashboard/panic", include_in_schema=False, opt={"without_store": True})
async def panic_page(request: Asked) -> Response[str]:
    """Step one: what happens, in which order; while the store is away, that it works without it."""
    try:
        context = await heard(frame(request, "panic"), STORE_SILENT_SECONDS)
    except StoreUnavailable:
        return page("panic_away.html", _away(request, None))
    receipt = await doors_of(request).reads.receipt(request.user.id)
    return page("panic.html", context | await money_context(request, context["user"]) | {"receipt": receipt})


@post("/dashboard/panic", include_in_schema=False, opt={"without_store": True})
async def panic_form(request: Asked) -> Response[str]:
    """Step two: everything flat, and the receipt. Pressed twice it is one panic: the desk sees to that."""
    done = await doors_of(request).desk.panic(request.user.id)
    if not done.stored:
        return page("panic_away.html", _away(request, done), status=207)
    return see(f"/dashboard/panic/{done.receipt_id}")


@get("/dashboard/panic/{receipt_id:str}", include_in_schema=False)
async def receipt_page(request: Asked, receipt_id: FromPath[str]) -> Response[str]:
    """What a panic did, and whether it is over."""
    return page("receipt.html", await frame(request, "panic") | await receipt_context(request, receipt_id))


@get("/dashboard/admin", include_in_schema=False, opt={"role": "ADMIN"})
async def admin_page(request: Asked) -> Response[str]:
    """Which source is sick; scans with their timings; users without balances."""
    reads = doors_of(request).reads
    context = await frame(request, "admin") | await health_context(request)
    return page(
        "admin.html",
        context
        | {
            "scans": await reads.scans(20),
            "totals": await reads.statistics(),
            "people": await reads.admin_users(limit=50, offset=0),
        },
    )


@post("/dashboard/admin/scan", include_in_schema=False, opt={"role": "ADMIN"})
async def scan_form(request: Asked) -> Response[str]:
    """Queues a scan."""
    if await first_time(request, await form_of(request)):
        await doors_of(request).desk.request_scan()
    return see("/dashboard/admin", "scan")


async def _position(request: Asked, position_id: str, form: Mapping[str, str], errors: dict[str, str]) -> Response[str]:
    context = await frame(request, "positions") | await position_context(request, position_id)
    row: PositionRow = context["view"].row
    kept = {
        "quantity": "",
        "stop_loss": _text(row.stop_loss, row.tick_size),
        "take_profit": _text(row.take_profit, row.tick_size),
        "trailing_percent": "" if row.trailing_ratio is None else plain((row.trailing_ratio * _PERCENT).normalize()),
    }
    context["values"] = kept | {name: text for name, text in form.items() if name in kept}
    context["errors"] = errors
    if "_" in errors:
        context["notice"] = {"tone": "danger", "text": errors["_"]}
    return page("position.html", context)


def _text(price: Decimal | None, tick: Decimal) -> str:
    if price is None:
        return ""
    return plain(price.quantize(tick.normalize()) if tick > 0 else price.normalize())


def _quantity_of(form: Mapping[str, str], row: PositionRow) -> tuple[Decimal | None, str]:
    """The quantity that a form asks to close, None for all of it, and what is wrong with it."""
    if row.status not in LIVE:
        return None, "This position is closed already."
    if form.get("part") == "half":
        half = floor_to_step(row.size / 2, row.step_size) if row.step_size > 0 else row.size / 2
        return (half, "") if half > 0 else (None, "Half of it is less than the exchange's step. Close all of it instead.")
    if form.get("part") != "quantity":
        return None, ""
    found = _number(form.get("quantity", ""))
    if found is None or found <= 0:
        return None, _NOT_A_NUMBER
    return (found, "") if found <= row.size else (None, f"Only {plain(row.size.normalize())} is open.")


def _protection_of(form: Mapping[str, str], row: PositionRow) -> tuple[dict[str, Decimal], dict[str, str]]:
    before = {"stop_loss": row.stop_loss, "take_profit": row.take_profit, "trailing_percent": row.trailing_ratio}
    wanted: dict[str, Decimal] = {}
    faults: dict[str, str] = {}
    for name, held in before.items():
        text = form.get(name, "")
        if not text:
            continue
        found = _number(text)
        if found is None or found <= 0:
            faults[name] = _NOT_A_NUMBER
            continue
        value = found / _PERCENT if name == "trailing_percent" else found
        if value != held:
            wanted[name] = value
    return wanted, faults


def _number(text: str) -> Decimal | None:
    try:
        return given_number(text, PRICE_DECIMALS)
    except ValueError:
        return None


def _readable(refusal: Refusal) -> Refusal:
    return refusal if refusal.detail else Refusal(reason=refusal.reason, detail=word(REFUSALS, refusal.reason))


def _away(request: Asked, receipt: PanicReceipt | None) -> dict[str, Any]:
    """What a page can say that the store is not asked for."""
    return look(request) | {"csrf": request.user.csrf, "receipt": receipt, "mode": "REAL", "known": False}
