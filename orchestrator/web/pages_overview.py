"""The pages that only show: overview, positions, signals, market, history, ledger, and the phone's menu."""

from litestar import Response, get
from litestar.params import FromPath

from orchestrator.ports import UserRow
from orchestrator.web.doors import Asked, doors_of
from orchestrator.web.pages_curve import draw
from orchestrator.web.pages_frame import PAGE_SIZE, frame, id_of, offset_of, pager
from orchestrator.web.pages_money import from_first_money
from orchestrator.web.pages_render import page
from orchestrator.web.pages_sections import (
    health_context,
    money_context,
    scan_context,
    signals_context,
    whales_context,
)
from orchestrator.web.problems import not_found
from shared.enums import Mode

DRY = "DRY"
"""The ledger of dry runs, which is of no wallet."""


@get("/dashboard", include_in_schema=False)
async def overview_page(request: Asked) -> Response[str]:
    """Where somebody stands, and whether it is safe."""
    context = await frame(request, "overview")
    context |= await money_context(request, context["user"])
    context |= await signals_context(request, brief=True)
    context |= await whales_context(request, brief=True)
    context |= await health_context(request)
    return page("overview.html", context)


@get("/dashboard/positions", include_in_schema=False)
async def positions_page(request: Asked) -> Response[str]:
    """What is open, and what it could cost."""
    context = await frame(request, "positions")
    return page("positions.html", context | await money_context(request, context["user"]))


@get("/dashboard/signals", include_in_schema=False)
async def signals_page(request: Asked) -> Response[str]:
    """What was seen, and why it was not traded."""
    offset = offset_of(request)
    context = await frame(request, "signals")
    context |= await signals_context(request, brief=False, limit=PAGE_SIZE, offset=offset)
    return page("signals.html", context | {"pager": pager(offset, len(context["signals"]))})


@get("/dashboard/signals/{signal_id:str}", include_in_schema=False)
async def signal_page(request: Asked, signal_id: FromPath[str]) -> Response[str]:
    """One signal: reasoning, figures, and what became of it.

    Raises:
        ProblemError: 404; there is no such signal.
    """
    item = await doors_of(request).reads.signal(request.user.id, id_of(signal_id))
    if item is None:
        raise not_found("This signal")
    return page("signal.html", await frame(request, "signals") | {"item": item})


@get("/dashboard/market", include_in_schema=False)
async def market_page(request: Asked) -> Response[str]:
    """What will be looked at next."""
    context = await frame(request, "market")
    context |= await scan_context(request)
    return page("market.html", context | await whales_context(request, brief=False))


@get("/dashboard/history", include_in_schema=False)
async def history_page(request: Asked) -> Response[str]:
    """What happened to the money, position by position."""
    offset, doors = offset_of(request), doors_of(request)
    context = await frame(request, "history")
    shown = _shown_mode(request, context["user"])
    rows = await doors.reads.history(request.user.id, shown, limit=PAGE_SIZE, offset=offset)
    stats = await doors.reads.stats(request.user.id, shown, context["now"])
    return page(
        "history.html",
        context | _kinds(request, context["user"], shown) | {"rows": rows, "stats": stats, "pager": pager(offset, len(rows))},
    )


@get("/dashboard/ledger", include_in_schema=False)
async def ledger_page(request: Asked) -> Response[str]:
    """Every change of the wallet; their sum is the balance."""
    offset = offset_of(request)
    context = await frame(request, "ledger")
    reads, user = doors_of(request).reads, context["user"]
    dry = request.query_params.get("mode") == DRY
    shown = Mode.REAL.value if dry else _shown_mode(request, user)
    found = await reads.ledger(user.id, shown, limit=PAGE_SIZE, offset=offset, dry_run=dry)
    curve = None if dry else draw(from_first_money(await reads.equity(user.id, shown, None)))
    real = await reads.real(user.id) if shown == Mode.REAL else None
    more = {"page": found, "curve": curve, "real": real, "pager": pager(offset, len(found.entries))}
    return page("ledger.html", context | _kinds(request, user, DRY if dry else shown) | more)


@get("/dashboard/more", include_in_schema=False)
async def more_page(request: Asked) -> Response[str]:
    """The menu of a phone, and log out."""
    return page("more.html", await frame(request, "more"))


@get("/dashboard/{tab:str}", include_in_schema=False)
async def unknown_page(request: Asked, tab: FromPath[str]) -> Response[str]:  # noqa: ARG001 - the router wants the parameter
    """Any other tab.

    Raises:
        ProblemError: 404.
    """
    raise not_found("This page")


def _shown_mode(request: Asked, user: UserRow) -> str:
    """Which money a page of the past is about: the one asked for, else the present mode's."""
    asked = str(request.query_params.get("mode", ""))
    return asked if asked in (Mode.PAPER, Mode.REAL) else user.mode


def _kinds(request: Asked, user: UserRow, shown: str) -> dict[str, object]:
    """What a page needs to lead to the other money's; somebody who never had a key has but one."""
    several = user.mode == Mode.REAL or user.has_api_key or shown != Mode.PAPER
    dry = doors_of(request).arm.dry_run or shown == DRY
    return {"shown": shown, "kinds": [Mode.PAPER.value, Mode.REAL.value, *([DRY] if dry else [])] if several else [shown]}
