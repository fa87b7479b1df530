"""One running exchange: its market, its clocks and what its doors share. The only place where wall time is read."""

import time
from collections.abc import Callable
from typing import Any

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.board import TapeBoard
from deploy.sandbox.core.clock import MarketClock
from deploy.sandbox.core.conditional import Conditional
from deploy.sandbox.core.countdown import Countdowns
from deploy.sandbox.core.events import Events
from deploy.sandbox.core.facts import Facts
from deploy.sandbox.core.faults import Faults
from deploy.sandbox.core.faults_past import Past
from deploy.sandbox.core.limits import Ledger
from deploy.sandbox.core.liquidation import Forced
from deploy.sandbox.core.listen_keys import ListenKeys
from deploy.sandbox.core.market import Liquidation, Market
from deploy.sandbox.core.order_counts import OrderCount, OrderCounter, OrderLimits
from deploy.sandbox.core.passage import Passage
from deploy.sandbox.core.replies import Prices
from deploy.sandbox.core.rules import SymbolRules
from deploy.sandbox.core.trading import Trading
from deploy.sandbox.files import open_market
from deploy.sandbox.options import SandboxOptions


class Exchange:
    """What the doors open on.

    Args:
        options: How it was started.
        wall: Wall time, Unix milliseconds; the machine's where absent.
        opened: A market that is open already, and where it begins.
    """

    def __init__(
        self, options: SandboxOptions, wall: Callable[[], int] | None = None, opened: tuple[Market, int] | None = None
    ) -> None:
        self.options = options
        if wall is not None:
            self.wall_ms = wall  # type: ignore[method-assign] # a clock of one's own, for proofs in which time jumps
        self.market, start = opened or open_market(options)
        self.prices = Prices(self.market)
        self.facts = Facts(self.prices, options.weight_limit)
        self.events = Events(self.prices)
        self.trading = Trading(TapeBoard(self.market))
        self.conditional = Conditional(self.trading)
        self._passage = Passage(self.trading, self.conditional)
        self.countdowns = Countdowns(self.trading)
        self.order_limits = OrderLimits()
        self._counters: dict[str, OrderCounter] = {}
        self._traded_from: dict[str, set[str]] = {}
        self.average_in_replies = False
        """Whether replies to POST and DELETE of an order carry avgPrice, as before July 2026."""
        self.faults = Faults()
        self.past = Past()
        self.listen_keys = ListenKeys()
        self.listeners: Callable[[str], int] = lambda key: 0  # noqa: ARG005
        """How many sockets listen to an account; the streams set it."""
        self.record: Callable[[str, int, dict[str, Any]], None] = lambda kind, now, given: None  # noqa: ARG005
        """Keeps a deed before it is carried out: its kind, its market time, what was given; the journal sets it."""
        self.told: Callable[[], None] = lambda: None
        """Sends what accounts have been told; the streams set it."""
        self.callers: dict[str, Ledger] = {}
        warm_up(self.prices, start if options.base_market_ms is None else options.base_market_ms)
        self.clock = MarketClock(
            base_market_ms=start if options.base_market_ms is None else options.base_market_ms,
            base_wall_ms=self.wall_ms() if options.base_wall_ms is None else options.base_wall_ms,
            speed=options.speed,
            ends_ms=self.market.ends_ms,
        )
        self.trading.herald.vigil.wall = self.wall_of

    @staticmethod
    def wall_ms() -> int:
        """Wall time, Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def now(self) -> int:
        """Market time, Unix milliseconds."""
        return self.clock.market_ms(self.wall_ms())

    def wall_of(self, market_ms: int) -> int:
        """When a market time was on the wall; now where market time stands still."""
        clock = self.clock
        if not clock.speed or market_ms == clock.ends_ms:
            return self.wall_ms()
        return clock.base_wall_ms + int((market_ms - clock.base_market_ms) / clock.speed)

    def advance(self, now: int) -> None:
        """Let everything happen to accounts that happens up to a moment, and tell the market about liquidations."""
        self.countdowns.run(self.wall_ms(), now)
        for forced in self._passage.advance(now):
            self.market.injected.append(broadcast(forced, self.market.tape(forced.symbol, now).rules, now + 1))

    def count_orders(self, account: Account, cost: OrderCount, now: int) -> OrderCount:
        """Count orders that an account sends; Rejected where they are too many."""
        return self._counters.setdefault(account.key, OrderCounter()).count(cost, self.order_limits, now)

    def asks(self, address: str, key: str | None) -> None:
        """Keep in mind from which address an account is traded."""
        if key in self.trading.accounts:
            self._traded_from.setdefault(address, set()).add(str(key))

    def refuse_address(self, address: str, until_wall_ms: int) -> None:
        """Keep in mind that nothing is taken from an address, whoever trades from it, up to a moment on the wall."""
        for key in self._traded_from.get(address, ()):
            self.trading.herald.vigil.refuse(key, self.wall_ms(), until_wall_ms)

    def refuse_orders(self, key: str | None, wait_ms: int) -> None:
        """Keep in mind that an account's orders are not taken for a span of market time from now."""
        if key in self.trading.accounts:
            wall = self.wall_ms()
            self.trading.herald.vigil.refuse(str(key), wall, wall + int(self.clock.wall_seconds(wait_ms) * 1000))

    def caller(self, address: str) -> Ledger:
        """What an address has used."""
        return self.callers.setdefault(address, Ledger(self.options.weight_limit))


def broadcast(forced: Forced, rules: SymbolRules, now: int) -> Liquidation:
    """A liquidation as forceOrder tells it."""
    quantity = f"{forced.quantity:.{rules.quantity_decimals}f}"
    price, average = (f"{value:.{rules.price_decimals}f}" for value in (forced.price, forced.average))
    order: dict[str, Any] = {
        "s": forced.symbol,
        "S": forced.side,
        "o": "LIMIT",
        "f": "IOC",
        "q": quantity,
        "p": price,
        "ap": average,
    }
    order |= {"X": "FILLED", "l": quantity, "z": quantity, "T": now}
    notional = float(forced.quantity * forced.average)
    return Liquidation(time_ms=now, symbol=forced.symbol, notional=notional, order=order, synthetic=True)


def warm_up(prices: Prices, now: int) -> None:
    """Compile the walk and sum everyone's day before the clock starts."""
    market: Market = prices.market
    for tape in market.live(now):
        prices.ticker(tape, now)
