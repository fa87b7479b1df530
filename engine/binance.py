"""The door to the account at Binance, the only module that may import ccxt. It cannot trade yet, and says so.

Adapter of the Venue port for REAL accounts. Until private calls exist here every question is refused, so that nothing is ever
mistaken for done; a dry run is filled by `engine.paper`.
"""

from decimal import Decimal

from engine.core.order import EntryPlan, OrderRefusal, Wallet, no
from engine.errors import ExchangeError
from engine.log import logger
from engine.ports import Closing, Executed, Holdings, MarketData
from shared.enums import Side
from shared.execution import Protection
from shared.problem import Problem

NOT_YET = no(OrderRefusal.REAL_NOT_AVAILABLE, "trading with real money is not available yet; nothing was sent to the exchange")


class BinanceVenue:
    """A REAL account that is not dry: every answer is a refusal."""

    name = "binance"
    executor = "BinanceExecutor LIVE"
    dry_run = False
    unchecked: tuple[str, ...] = ()

    async def wallet(self) -> Wallet | Problem | None:
        """Refused."""
        return NOT_YET

    async def holdings(self) -> Holdings | Problem:
        """Refused."""
        return NOT_YET

    async def enter(self, plan: EntryPlan) -> Executed | Problem:
        """Refused."""
        del plan
        return NOT_YET

    async def close(self, closing: Closing) -> Executed | Problem:
        """Refused."""
        del closing
        return NOT_YET

    async def protect(self, symbol: str, side: Side, stop_loss: Decimal, take_profit: Decimal | None) -> Protection | Problem:
        """Refused."""
        del symbol, side, stop_loss, take_profit
        return NOT_YET


async def announce(market: MarketData, *, dry_run: bool) -> bool:
    """Logs the executor by name, whether it is DRY_RUN or LIVE, and whether the exchange answers; True if it does."""
    executor = f"BinanceExecutor {'DRY_RUN' if dry_run else 'LIVE'}"
    try:
        listed = len(await market.instruments())
    except ExchangeError as error:
        logger().warning(f"{executor}: the exchange does not answer", dry_run=dry_run, error=str(error))
        return False
    logger().info(f"{executor}: the exchange answers", dry_run=dry_run, count=listed)
    return True
