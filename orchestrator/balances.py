"""What a wallet holds, from what is known already: the paper wallet stands in the user's row, a real one in its cache with an age."""

from datetime import timedelta
from typing import Final

from orchestrator.ports import Clock, Trader, Wallet
from shared.enums import Mode

REAL_BALANCE_FRESH: Final = timedelta(seconds=30)
"""Wall time; nothing is decided on a balance that was heard longer ago."""


class KnownBalances:
    """Implements the port Balances; no call leaves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def of(self, trader: Trader, mode: Mode) -> Wallet:
        """PAPER: the locked row's. REAL: the last balance heard, with its age."""
        if mode is Mode.PAPER:
            return Wallet(balance=trader.paper_balance, fresh=True)
        if trader.real_balance_cache is None or trader.real_balance_at is None:
            return Wallet(balance=None, fresh=False)
        return Wallet(balance=trader.real_balance_cache, fresh=self._clock.wall() - trader.real_balance_at <= REAL_BALANCE_FRESH)
