"""POST /execute/balance and /execute/positions: what an account holds, at the live mark price."""

import asyncio
from decimal import Decimal

from engine.core.fills import MONEY
from engine.core.order import MAX_PRICE_AGE_MS, OrderRefusal, no
from engine.errors import ExchangeError
from engine.execution.desk import Desk
from engine.execution.protect import liquidation_of
from shared.execution import Account, BalanceReply, PaperPosition, PositionsReply, VenuePosition, VenueState
from shared.margin import price_pnl
from shared.problem import Problem

MARK_SECONDS = 3.0
"""Below the five seconds that the caller waits: a slow mark is told as missing."""


async def balance(desk: Desk, account: Account) -> BalanceReply | Problem:
    """The wallet in USDT. Free is the wallet less the isolated margins in use; unrealized profit is never free."""
    wallet = await desk.venues.of(account).wallet()
    if wallet is None:
        return no(OrderRefusal.REAL_NOT_AVAILABLE, "only a signed call knows this balance, and a dry run makes none")
    if isinstance(wallet, Problem):
        return wallet
    return BalanceReply(asset="USDT", total=wallet.total, free=wallet.free, as_of=desk.clock.now())


async def positions(desk: Desk, account: Account) -> PositionsReply:
    """What is open; a position whose mark is missing or stale is told without mark and profit, the others are not touched by it."""
    holdings = await desk.venues.of(account).holdings()
    if isinstance(holdings, Problem):
        return PositionsReply(state=VenueState.UNKNOWN, positions=[], as_of=desk.clock.now())
    if holdings.told is not None:
        return PositionsReply(state=holdings.state, positions=list(holdings.told), as_of=desk.clock.now())
    told = await asyncio.gather(*(_told(desk, position) for position in holdings.positions))
    return PositionsReply(state=holdings.state, positions=list(told), as_of=desk.clock.now())


async def _told(desk: Desk, position: PaperPosition) -> VenuePosition:
    mark = await _mark(desk, position.symbol)
    profit = price_pnl(position.side, position.quantity, position.entry_price, mark) if mark is not None else None
    return VenuePosition(
        symbol=position.symbol,
        side=position.side,
        quantity=position.quantity,
        entry_price=position.entry_price,
        mark_price=mark,
        leverage=position.leverage,
        margin=position.margin,
        unrealized_pnl=profit.quantize(MONEY) if profit is not None else None,
        liquidation_price=liquidation_of(position).quantize(MONEY),
    )


async def _mark(desk: Desk, symbol: str) -> Decimal | None:
    try:
        async with asyncio.timeout(MARK_SECONDS):
            mark = await desk.market.mark(symbol)
    except (ExchangeError, TimeoutError):
        return None
    return mark.price if desk.clock.wall_ms() - mark.received_ms <= MAX_PRICE_AGE_MS else None
