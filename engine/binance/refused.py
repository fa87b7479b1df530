"""The door to the account at Binance, the only module that may import ccxt. It cannot trade yet, and says so.

Adapter of the Venue port for REAL accounts. Until private calls exist here every question is refused, so that nothing is ever
mistaken for done; a dry run is filled by `engine.paper`.
"""

from decimal import Decimal

from engine.core.order import EntryPlan, OrderRefusal, Wallet, no
from engine.ports import Closing, Executed, Holdings
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
