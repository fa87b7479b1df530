"""What a dry run may ask of an account that has a key: readings alone, each of which may fail without stopping it."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

from engine.core.order import OrderRefusal, Wallet, no
from engine.execution.asking import Patience, answered
from engine.execution.modes import unfit
from engine.ports import Exchange, Terms
from shared.enums import BracketsSource
from shared.problem import Problem

FREE_MARGIN, OPEN_POSITION, BRACKETS, MODE = "free_margin", "open_position", "account_brackets", "position_mode"


class SignedReads:
    """Readings of one account; `checked` names what they have told.

    Args:
        opened: Opens the account, or says why not.
        patience: Bounds.
    """

    def __init__(self, opened: Callable[[], Exchange | Problem], patience: Patience) -> None:
        self._opened, self._patience = opened, patience
        self.checked: set[str] = set()

    async def wallet(self, used: Decimal) -> Wallet | None:
        """The exchange's, less what dry positions tie up; None where it did not come."""
        exchange = self._opened()
        told = exchange if isinstance(exchange, Problem) else await answered(exchange.wallet(), self._patience.read)
        if isinstance(told, Problem):
            return None
        self.checked.add(FREE_MARGIN)
        return Wallet(total=told.total, free=max(told.free - used, Decimal(0)))

    async def terms(self, symbol: str) -> Terms | Problem | None:
        """What a live entry would meet; None where it did not come."""
        exchange = self._opened()
        if isinstance(exchange, Problem):
            return None
        asked = asyncio.gather(exchange.modes(), exchange.brackets(symbol), exchange.positions())
        told = await answered(asked, self._patience.read)
        if isinstance(told, Problem):
            return None
        modes, brackets, positions = told
        self.checked |= {MODE, BRACKETS, OPEN_POSITION}
        if lacks := unfit(modes):
            return lacks[0]
        if any(position.symbol == symbol and position.quantity > 0 for position in positions):
            return no(OrderRefusal.POSITION_OPEN, f"a position in {symbol} is open at the exchange already")
        return Terms(brackets=brackets, source=BracketsSource.EXCHANGE)
