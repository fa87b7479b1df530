"""How accounts stood a little while ago, for reads that lag behind writes. Kept only while a rule wants such reads."""

from collections import deque

import msgspec
from msgspec.structs import replace

from deploy.sandbox.core.account import Account

LONGEST_MS = 10_000
"""Wall time for which states are kept."""


class _State(msgspec.Struct, frozen=True):
    until_ms: int
    account: Account


class Past:
    """Recent states of each account."""

    def __init__(self) -> None:
        self._states: dict[str, deque[_State]] = {}

    def remember(self, account: Account, wall_ms: int) -> None:
        """Keep how an account stood until this moment; to be called before anything happens to it."""
        states = self._states.setdefault(account.key, deque())
        while states and states[0].until_ms < wall_ms - LONGEST_MS:
            states.popleft()
        states.append(_State(wall_ms, copied(account)))

    def seen(self, account: Account, wall_ms: int) -> Account:
        """How an account stood at a moment, as far as that is remembered; as it is, where nothing has happened since."""
        kept = self._states.get(account.key, ())
        return next((state.account for state in kept if state.until_ms >= wall_ms), account)

    def forget(self) -> None:
        """Keep nothing."""
        self._states.clear()


def copied(account: Account) -> Account:
    """An account that no longer changes: what is done and over is shared, what may change is copied."""
    orders = {order.id: replace(order) for order in account.open_orders()}
    algos = {algo.id: replace(algo) for algo in account.unfinished()}
    return replace(
        account,
        positions={key: replace(position) for key, position in account.positions.items()},
        settings={symbol: replace(settings) for symbol, settings in account.settings.items()},
        orders=account.orders | orders,
        algos=account.algos | algos,
        resting={symbol: [orders[o.id] for o in rows if o.id in orders] for symbol, rows in account.resting.items()},
        armed={symbol: [algos[a.id] for a in rows if a.id in algos] for symbol, rows in account.armed.items()},
        trades=list(account.trades),
        incomes=list(account.incomes),
        called=set(account.called),
    )
