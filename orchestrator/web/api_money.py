"""REST: closed positions, totals, the equity curve and the ledger, each of one mode."""

from datetime import timedelta

from litestar import Router, get
from litestar.params import FromQuery

from orchestrator.web.api_positions import MAX_ROWS, marks_for, mode_of, page_limit, page_offset
from orchestrator.web.doors import Asked, Doors, doors_of
from orchestrator.web.problems import bad_fields
from orchestrator.web.replies import Positions, amount, maybe, position_of
from orchestrator.web.replies_money import Equity, ExchangeReply, Ledger, Point, StatsReply, Today, entry_of, exchange_of
from orchestrator.web.valuation import LIVE, Wealth, day_start, value_all, wealth

PERIODS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30), "all": None}
MAX_ENTRIES = 10_000
"""The ledger is read whole by whoever adds it up."""


@get("/history", summary="Closed positions")
async def history(
    request: Asked, mode: FromQuery[str | None] = None, limit: FromQuery[int] = MAX_ROWS, offset: FromQuery[int] = 0
) -> Positions:
    """Closed positions, the last closed first."""
    chosen, length = mode_of(mode) or request.user.mode, page_limit(limit, MAX_ROWS)
    found = await doors_of(request).reads.history(request.user.id, chosen, limit=length + 1, offset=page_offset(offset))
    return Positions(positions=[position_of(each) for each in value_all(found[:length], {})], more=len(found) > length)


@get("/stats", summary="Totals, win rate, today")
async def stats(request: Asked, mode: FromQuery[str | None] = None) -> StatsReply:
    """Totals over closed positions, and what is open now."""
    doors = doors_of(request)
    chosen = mode_of(mode) or request.user.mode
    since = day_start(doors.clock.now())
    totals = await doors.reads.stats(request.user.id, chosen, since)
    worth, open_positions = await wealth_of(doors, request, chosen)
    return StatsReply(
        mode=chosen,
        trades=totals.trades,
        wins=totals.wins,
        losses=totals.losses,
        win_rate=totals.win_rate,
        net_pnl=amount(totals.net_pnl),
        gross_pnl=amount(totals.gross_pnl),
        fees=amount(totals.fees),
        funding=amount(totals.funding),
        best=maybe(totals.best),
        worst=maybe(totals.worst),
        open_positions=open_positions,
        unrealized_pnl=maybe(worth.unrealized),
        balance=amount(worth.balance),
        equity=maybe(worth.equity),
        today=Today(since=since, trades=totals.today_trades, pnl=amount(totals.today_pnl), booked=amount(totals.today_booked)),
    )


@get("/equity", summary="The equity curve")
async def equity(request: Asked, period: FromQuery[str] = "7d", mode: FromQuery[str | None] = None) -> Equity:
    """Booked balances over a period of market time, and equity now."""
    if period not in PERIODS:
        raise bad_fields({"period": f"must be one of {', '.join(PERIODS)}"})
    doors = doors_of(request)
    chosen = mode_of(mode) or request.user.mode
    span = PERIODS[period]
    points = await doors.reads.equity(request.user.id, chosen, None if span is None else doors.clock.now() - span)
    worth, _ = await wealth_of(doors, request, chosen)
    return Equity(
        mode=chosen,
        period=period,
        points=[Point(at=point.at, value=amount(point.value)) for point in points],
        balance=amount(worth.balance),
        unrealized_pnl=maybe(worth.unrealized),
        equity=maybe(worth.equity),
    )


@get("/ledger", summary="The ledger")
async def ledger(
    request: Asked,
    mode: FromQuery[str | None] = None,
    limit: FromQuery[int] = MAX_ENTRIES,
    offset: FromQuery[int] = 0,
    dry_run: FromQuery[bool] = False,
) -> Ledger:
    """Every change of the wallet, the newest first; the sum of all amounts is the balance.

    In REAL it is the wallet at the exchange; with `dry_run` what dry runs would have made of it, from zero.
    """
    chosen = mode_of(mode) or request.user.mode
    page = await doors_of(request).reads.ledger(
        request.user.id, chosen, limit=page_limit(limit, MAX_ENTRIES), offset=page_offset(offset), dry_run=dry_run
    )
    return Ledger(mode=chosen, entries=[entry_of(row) for row in page.entries], total=page.total, balance=amount(page.balance))


@get("/exchange", summary="The account at the exchange")
async def exchange(request: Asked) -> ExchangeReply:
    """What is known of the account at the exchange: wallet, difference to the ledger, what is not ours, why entries are stopped."""
    doors = doors_of(request)
    return exchange_of(await doors.reads.real(request.user.id), dry_run=doors.arm.dry_run)


async def wealth_of(doors: Doors, request: Asked, mode: str) -> tuple[Wealth, int]:
    """The wallet of a mode with what is open in it, and how many positions that is."""
    account = await doors.reads.account(request.user.id, mode)
    rows = await doors.reads.positions(request.user.id, statuses=LIVE, mode=mode)
    return wealth(account, value_all(rows, await marks_for(doors, rows))), account.open_positions


money_router = Router("/api/user", route_handlers=[history, stats, equity, ledger, exchange], tags=["money"])
