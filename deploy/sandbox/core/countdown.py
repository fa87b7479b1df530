"""The dead man's switch: a trader who stops renewing it has his resting orders of a symbol canceled.

Source: Binance USDⓈ-M "Auto-Cancel All Open Orders" (read 2026-11): the time is the caller's, so it runs on the wall; 0 switches it off.
"""

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.trading import Trading


class Countdowns:
    """Every switch that is on.

    Args:
        trading: Where orders are canceled.
    """

    def __init__(self, trading: Trading) -> None:
        self._trading = trading
        self._due: dict[tuple[str, str], int] = {}

    def set(self, account: Account, symbol: str, countdown_ms: int, wall_ms: int) -> None:
        """Switch on from now, on again, or off with 0."""
        if countdown_ms:
            self._due[account.key, symbol] = wall_ms + countdown_ms
        else:
            self._due.pop((account.key, symbol), None)

    def run(self, wall_ms: int, now: int) -> None:
        """Cancel what is due; `now` is market time."""
        for (key, symbol), due in list(self._due.items()):
            if due <= wall_ms:
                del self._due[key, symbol]
                account = self._trading.accounts[key]
                for order in account.open_orders(symbol):
                    self._trading.cancel(account, order, now)
