"""A market that a test moves by hand, and short words for what traders do on it."""

from decimal import Decimal

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.algo_request import algo_request
from deploy.sandbox.core.board import Depth, Funding, Level, Span, Tick
from deploy.sandbox.core.conditional import Conditional
from deploy.sandbox.core.errors import Rejected, unknown_symbol
from deploy.sandbox.core.liquidation import Forced
from deploy.sandbox.core.order_request import order_request
from deploy.sandbox.core.orders import AlgoOrder, Order
from deploy.sandbox.core.passage import Passage
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.rules import RECORDED, SymbolRules
from deploy.sandbox.core.trading import Trading

SYMBOL = "BTCUSDT"
START_MS = 1_000_000
STEP_MS = 5_000


class ScriptedBoard:
    """One price a moment; five levels a tick apart on each side, each of one whole unit."""

    def __init__(self, price: str = "50000", size: str = "1") -> None:
        self.size = Decimal(size)
        self._last = {"BTCUSDT": Decimal(price), "ETHUSDT": Decimal(2000)}
        self._marks: dict[str, Decimal] = {}
        self._ticks: dict[str, list[Tick]] = {}
        self._fundings: dict[str, list[Funding]] = {}

    def move(self, symbol: str, price: Decimal, now: int, quantity: Decimal, mark: Decimal | None) -> None:
        self._last[symbol] = price
        self._marks[symbol] = mark or price
        self._ticks.setdefault(symbol, []).append(Tick(now, price, quantity, self._marks[symbol]))

    def pay_funding(self, symbol: str, rate: Decimal, now: int) -> None:
        self._fundings.setdefault(symbol, []).append(Funding(now, rate, self.mark(symbol, now)))

    def rules(self, symbol: str, now: int) -> SymbolRules:
        if symbol not in self._last:
            raise unknown_symbol()
        return RECORDED[symbol]

    listed = rules

    def depth(self, symbol: str, now: int) -> Depth:
        tick, last = Decimal(RECORDED[symbol].tick), self._last[symbol]
        bids = [Level(last - n * tick, self.size) for n in range(1, 6)]
        asks = [Level(last + n * tick, self.size) for n in range(1, 6)]
        return Depth(len(self._ticks.get(symbol, [])), bids, asks)

    def mark(self, symbol: str, now: int) -> Decimal:
        return self._marks.get(symbol, self._last[symbol])

    def last(self, symbol: str, now: int) -> Decimal:
        return self._last[symbol]

    def ticks(self, symbol: str, since: int, until: int) -> list[Tick]:
        return [tick for tick in self._ticks.get(symbol, []) if since < tick.time_ms <= until]

    def span(self, symbol: str, since: int, until: int) -> Span | None:
        ticks = self.ticks(symbol, since, until)
        prices, marks = [tick.price for tick in ticks], [tick.mark for tick in ticks]
        return Span(min(prices), max(prices), min(marks), max(marks), marks[-1]) if ticks else None

    def fundings(self, symbol: str, since: int, until: int) -> list[Funding]:
        return [item for item in self._fundings.get(symbol, []) if since < item.time_ms <= until]


class Floor:
    """A trading floor with one trader on a scripted market."""

    def __init__(self, wallet: str = "10000", price: str = "50000", size: str = "1") -> None:
        self.board = ScriptedBoard(price, size)
        self.trading = Trading(self.board)
        self.conditional = Conditional(self.trading)
        self.passage = Passage(self.trading, self.conditional)
        self.now = START_MS
        self.passage.advance(self.now)
        self.ada = self.open("ada", wallet)

    def open(self, key: str, wallet: str) -> Account:
        return self.trading.open_account(key, "secret", Decimal(wallet), self.now)

    def order(self, by: str = "ada", **given: str) -> Order:
        """Place an order; by default BUY MARKET of one tenth."""
        words = {"symbol": SYMBOL, "side": "BUY", "type": "MARKET", "quantity": "0.1"} | given
        return self.trading.place(self.trading.accounts[by], order_request(Query(words)), self.now)

    def limit(self, side: str, price: str, quantity: str = "0.1", **given: str) -> Order:
        words = {"timeInForce": "GTC"} | given
        return self.order(side=side, type="LIMIT", price=price, quantity=quantity, **words)

    def algo(self, by: str = "ada", **given: str) -> AlgoOrder:
        """Place a conditional order; by default a stop that sells one tenth."""
        words = {"algoType": "CONDITIONAL", "symbol": SYMBOL, "side": "SELL", "type": "STOP_MARKET"} | given
        if "closePosition" not in words:
            words.setdefault("quantity", "0.1")
        return self.conditional.place(self.trading.accounts[by], algo_request(Query(words)), self.now)

    def move(self, price: str, *, symbol: str = SYMBOL, quantity: str = "10", mark: str | None = None) -> list[Forced]:
        """The price moves, and time passes to there."""
        self.now += STEP_MS
        self.board.move(symbol, Decimal(price), self.now, Decimal(quantity), Decimal(mark) if mark else None)
        return self.passage.advance(self.now)

    def held(self, symbol: str = SYMBOL, side: str = "BOTH") -> Decimal:
        return self.ada.position(symbol, side).quantity

    def imbalance(self) -> Decimal:
        return self.trading.imbalance(self.now)


def code(refused: Rejected) -> int:
    return refused.code
