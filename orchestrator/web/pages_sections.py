"""What the sections of the dashboard show. A page includes them; when something changes the live link has each fetched again by itself."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from orchestrator.core.arming import is_armed
from orchestrator.ports import PositionRow, RealRow, ScanRow, UserRow
from orchestrator.web import format as fmt
from orchestrator.web.doors import Asked, Doors, doors_of
from orchestrator.web.health import Ready
from orchestrator.web.pages_alarms import UNHEARD, alarms_of, is_naked, wallet_of
from orchestrator.web.pages_frame import frame, id_of, user_of
from orchestrator.web.pages_money import PERIODS, Money, PositionView, money_of, view_of, worst_case
from orchestrator.web.pages_render import page
from orchestrator.web.pages_words import REFUSALS, SOURCES, WHALES, word
from orchestrator.web.problems import not_found
from orchestrator.web.replies import is_fresh, real_balance_status
from orchestrator.web.ticks import balance_payload, positions_payload, prices_payload
from orchestrator.web.valuation import LIVE, books_known, day_start, gain, in_wallet, loss_left, value_all, wealth
from orchestrator.web.whale_words import cascade_words
from shared.enums import Mode

SCAN_MINUTES = 15
BRIEF = 5
WHALES_BRIEF = 4
HEALTH_SECONDS = 3.0
HEALTH_PATIENCE_SECONDS = 0.3
"""A page does not wait longer for the sources' answers; its health section asks again by itself."""


async def money_context(request: Asked, user: UserRow) -> dict[str, Any]:
    """Open positions with their marks, the wallet, the curve of the chosen period."""
    doors = doors_of(request)
    now = doors.clock.now()
    period = str(request.query_params.get("period", "all"))
    period = period if period in PERIODS else "all"
    hours = PERIODS[period][1]
    rows = await doors.reads.positions(user.id, statuses=LIVE)
    marks = await doors.market.marks({row.symbol for row in rows}) if rows else {}
    views = [view_of(row, marks.get(row.symbol), now) for row in rows]
    own = [view for view in views if in_wallet(view.row, user.mode)]
    real = await real_context(request, user, rows)
    stats = await doors.reads.stats(user.id, user.mode, day_start(now))
    since = None if hours is None else now - timedelta(hours=hours)
    money = money_of(
        await doors.reads.account(user.id, user.mode),
        stats,
        own,
        known=books_known(user.mode, real["real"]),
        max_daily_loss=user.max_daily_loss,
        points=await doors.reads.equity(user.id, user.mode, since),
        period=period,
        now=now,
    )
    return real | {
        "positions": own,
        "elsewhere": [view for view in views if view.row.mode != user.mode and not view.row.dry_run],
        "dry": [view for view in views if view.row.dry_run],
        "money": money,
        "stats": stats,
        "worst_case": worst_case(own),
        "status": status_of(user, money, own, now, armed=is_sound(real["real"], dry_run=doors_of(request).arm.dry_run)),
        "first_steps": user.mode == Mode.PAPER and stats.trades == 0 and not views,
    }


async def real_context(request: Asked, user: UserRow, rows: Sequence[PositionRow]) -> dict[str, Any]:
    """What is known of the account at the exchange, and what of it should be seen. In REAL whoever looks has the wallet asked for."""
    doors, wall = doors_of(request), doors_of(request).clock.wall()
    if user.mode != Mode.REAL and not user.has_api_key:
        return {"real": None, "wallet": None, "alarms": []}
    real = await doors.reads.real(user.id)
    if user.mode == Mode.REAL and user.has_api_key and not is_fresh(user, wall):
        doors.desk.sync_balance(user.id)
    wallet = wallet_of(user, wall, syncing=doors.desk.balance_syncing(user.id))
    return {
        "real": real,
        "wallet": wallet if user.mode == Mode.REAL else None,
        "alarms": alarms_of(user, real, rows, wall, dry_run=doors.arm.dry_run),
    }


def is_sound(real: RealRow | None, *, dry_run: bool) -> bool:
    """Whether real entries may be made, as far as the account goes."""
    return real is None or is_armed(real, dry_run=dry_run)


def status_of(user: UserRow, money: Money, views: list[PositionView], now: datetime, *, armed: bool = True) -> dict[str, Any]:
    """The status strip: what the system does now and waits for, in words."""
    protected = sum(1 for view in views if view.row.stop_loss is not None and not is_naked(view.row))
    next_scan = f"Next scan at {fmt.clock_time(next_close(now))} market time."
    kind = "on paper" if user.mode == "PAPER" else "with REAL money"
    if money.loss_left is not None and money.loss_left == 0:
        return {
            "title": "The daily-loss stop is reached",
            "tone": "warn",
            "says": ["Nothing new is opened until the next UTC day."],
            "protected": protected,
        }
    if user.mode == Mode.REAL and not armed:
        says = ["Nothing new is opened with real money until REAL is armed. What is open stays protected."]
        return {"title": "Trading waits", "tone": "warn", "says": says, "protected": protected}
    if user.auto_trade_enabled:
        return {
            "title": f"Trading is on, {kind}",
            "tone": "",
            "says": [f"Waiting for a signal. {next_scan}"],
            "protected": protected,
        }
    says = [f"Signals wait for your approval. {next_scan}"]
    return {"title": "Auto-trading is off", "tone": "", "says": says, "protected": protected}


def next_close(now: datetime) -> datetime:
    """The next close of a 15-minute candle."""
    whole = now.astimezone(UTC).replace(second=0, microsecond=0)
    return whole + timedelta(minutes=SCAN_MINUTES - whole.minute % SCAN_MINUTES)


async def signals_context(request: Asked, *, brief: bool, limit: int = BRIEF, offset: int = 0) -> dict[str, Any]:
    """The newest signals and what became of them."""
    found = await doors_of(request).reads.signals(request.user.id, limit=limit, offset=offset)
    return {"signals": found, "brief": brief}


async def whales_context(request: Asked, *, brief: bool) -> dict[str, Any]:
    """The liquidation window, what the last scan made of it, and the newest forced orders; None when the engine does not answer."""
    doors = doors_of(request)
    reply = await doors.market.whales()
    if reply is None:
        return {"whales": None, "brief": brief}
    scans = await doors.reads.scans(1)
    whales = {
        "age": None if reply.feed_age_ms is None else reply.feed_age_ms / 1000,
        "views": reply.views[: WHALES_BRIEF if brief else 20],
        "scanned": _suspects(scans[0]) if scans else [],
        "scanned_at": scans[0].candle_close if scans else None,
        "recent": doors.market.liquidations()[: WHALES_BRIEF if brief else 30],
    }
    return {"whales": whales, "brief": brief}


async def health_context(request: Asked, patience: float = HEALTH_PATIENCE_SECONDS) -> dict[str, Any]:
    """Every source with the age of its last proof, and the last scan."""
    doors = doors_of(request)
    scans = await doors.reads.scans(1)
    ready = await _ready(doors, patience)
    asked = 0.0 if ready is None else (doors.clock.wall() - ready.as_of).total_seconds()
    sources = [
        {"label": word(SOURCES, name), "ok": state.ok, "age": None if state.age_seconds is None else state.age_seconds + asked}
        for name, state in (ready.sources if ready else {}).items()
    ]
    user = await user_of(request)
    real = await doors.reads.real(user.id) if user.mode == Mode.REAL else None
    return {"sources": sources, "scan": scans[0] if scans else None, "account_read": _account_read(real, doors.clock.wall())}


async def scan_context(request: Asked) -> dict[str, Any]:
    """The last scan: candidates best first, and why the other symbols were dropped."""
    scans = await doors_of(request).reads.scans(1)
    scan = scans[0] if scans else None
    return {
        "scan": scan,
        "candidates": [_candidate(item) for item in scan.candidates if isinstance(item, dict)] if scan else [],
        "rejections": _rejections(scan),
    }


async def position_context(request: Asked, position_id: str) -> dict[str, Any]:
    """One position of whoever asks, with its fills and its signal.

    Raises:
        ProblemError: 404; not there, or not theirs.
    """
    doors, viewer = doors_of(request), request.user
    row = await doors.reads.position(viewer.id, id_of(position_id))
    if row is None:
        raise not_found("This position")
    marks = await doors.market.marks({row.symbol}) if row.status in LIVE else {}
    return {
        "view": view_of(row, marks.get(row.symbol), doors.clock.now()),
        "fills": await doors.reads.fills(viewer.id, row.id),
        "signal": await doors.reads.signal(viewer.id, row.signal_id) if row.signal_id else None,
    }


async def receipt_context(request: Asked, receipt_id: str) -> dict[str, Any]:
    """A panic's receipt.

    Raises:
        ProblemError: 404; not there, or not theirs.
    """
    receipt = await doors_of(request).reads.receipt(request.user.id, id_of(receipt_id))
    if receipt is None:
        raise not_found("This receipt")
    return {"receipt": receipt}


@get("/dashboard/_/{section:str}", include_in_schema=False)
async def section_page(request: Asked, section: FromPath[str]) -> Response[str]:
    """One section of a page, as it stands now.

    Raises:
        ProblemError: 404; there is no such section.
    """
    context = await frame(request, "")
    everything = request.query_params.get("all") == "1"
    if section in ("equity", "positions", "limits", "status", "steps", "alarms", "wallet"):
        context |= await money_context(request, context["user"])
    elif section == "signals":
        context |= await signals_context(request, brief=not everything, limit=50 if everything else BRIEF)
    elif section == "whales":
        context |= await whales_context(request, brief=not everything)
    elif section == "health":
        context |= await health_context(request, patience=3.0)
    elif section == "scan":
        context |= await scan_context(request)
    elif section not in ("approvals", "waiting"):
        raise not_found("This section")
    return page(f"sections/{section}.html", context)


@get("/dashboard/_/position/{position_id:str}", include_in_schema=False)
async def position_section(request: Asked, position_id: FromPath[str]) -> Response[str]:
    """The live part of a position's page."""
    return page("sections/position.html", await frame(request, "positions") | await position_context(request, position_id))


@get("/dashboard/_/life/{position_id:str}", include_in_schema=False)
async def life_section(request: Asked, position_id: FromPath[str]) -> Response[str]:
    """What a position has paid and done so far."""
    return page("sections/life.html", await frame(request, "positions") | await position_context(request, position_id))


@get("/dashboard/_/tick", include_in_schema=False)
async def tick(request: Asked) -> Response[dict[str, Any]]:
    """The numbers of one moment, for a page that has no live stream: the same patches, asked for."""
    doors, user = doors_of(request), await user_of(request)
    rows = await doors.reads.positions(user.id, statuses=LIVE)
    marks = await doors.market.marks({row.symbol for row in rows})
    valued = value_all(rows, marks)
    own = [each for each in valued if in_wallet(each.row, user.mode)]
    real = await doors.reads.real(user.id) if user.mode == Mode.REAL else None
    worth = wealth(await doors.reads.account(user.id, user.mode), own, known=books_known(user.mode, real))
    gained = gain(worth, await doors.reads.stats(user.id, user.mode, day_start(doors.clock.now())), own)
    wall = doors.clock.wall()
    parts = [
        prices_payload(marks, rows, wall),
        positions_payload(valued, user.mode, worth, wall, gained, loss_left(gained, user.max_daily_loss)),
        balance_payload(user.mode, worth, wall, real_balance_status(user, wall, syncing=doors.desk.balance_syncing(user.id))),
    ]
    patches: dict[str, Any] = {name: {} for name in ("t", "s", "x")}
    for part in parts:
        for name, patch in patches.items():
            patch.update(part.get(name, {}))
    return Response(patches | {"prices": parts[0]["prices"], "server_now": fmt.iso(wall)}, headers={"Cache-Control": "no-store"})


@get("/dashboard/_/receipt/{receipt_id:str}", include_in_schema=False)
async def receipt_section(request: Asked, receipt_id: FromPath[str]) -> Response[str]:
    """The progress of a panic."""
    return page("sections/receipt.html", await frame(request, "panic") | await receipt_context(request, receipt_id))


async def _ready(doors: Doors, patience: float) -> Ready | None:
    """The sources' state, at most HEALTH_SECONDS old; None when they take longer than a page waits."""
    kept = doors.health.last
    if kept is not None and (doors.clock.wall() - kept.as_of).total_seconds() < HEALTH_SECONDS:
        return kept
    try:
        async with asyncio.timeout(patience):
            return await doors.health.ready()
    except TimeoutError:
        return kept


def _account_read(real: RealRow | None, wall: datetime) -> dict[str, Any] | None:
    """How long ago the account at the exchange was read, and whether the ledger equals its wallet; None on paper."""
    if real is None:
        return None
    heard = None if real.heard_at is None else max(0.0, (wall - real.heard_at).total_seconds())
    return {"age": heard, "ok": heard is not None and heard <= UNHEARD.total_seconds(), "equal": real.alarmed_at is None}


def _suspects(scan: ScanRow) -> list[dict[str, Any]]:
    """Candidates of a scan from whose order flow the detector expected something, or in which a cascade was under way."""
    found = [item for item in scan.candidates if isinstance(item, dict) and (item.get("whale") or {}).get("signal")]
    return [
        {
            "symbol": item.get("symbol"),
            "signal": item["whale"]["signal"],
            "reasons": item["whale"].get("reasons") or [],
            "whale": item["whale"],
        }
        for item in found
        if item["whale"]["signal"] != "NEUTRAL" or cascade_words(item["whale"])
    ]


def _candidate(item: dict[str, Any]) -> dict[str, Any]:
    features = item.get("features") or {}
    whale = item.get("whale") or {}
    return {
        "symbol": item.get("symbol", fmt.UNKNOWN),
        "direction": item.get("direction", fmt.UNKNOWN),
        "score": item.get("score"),
        "rsi": features.get("rsi"),
        "volume_ratio": features.get("volume_ratio"),
        "trend": features.get("trend"),
        "whale": ", ".join(filter(None, (word(WHALES, whale["signal"]), cascade_words(whale))))
        if whale.get("signal")
        else fmt.UNKNOWN,
    }


def _rejections(scan: ScanRow | None) -> list[tuple[str, Any]]:
    if scan is None:
        return []
    return [(word(REFUSALS, reason), count) for reason, count in sorted(scan.rejections.items(), key=lambda pair: str(pair[0]))]
