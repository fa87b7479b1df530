"""Nothing appears or vanishes: whatever random traders do, the exchange's books balance after every step, to the last decimal."""

from contextlib import suppress
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from deploy.sandbox.core.account import cross_wallet
from deploy.sandbox.core.account_settings import set_hedge, set_leverage, set_margin_type
from deploy.sandbox.core.amendment import amend
from deploy.sandbox.core.clearing import FIRST_ID
from deploy.sandbox.core.errors import Rejected
from shared.margin import ZERO
from tests.unit.sandbox.trading_board import Floor

WHO = st.sampled_from(["ada", "bob"])
SYMBOLS = st.sampled_from(["BTCUSDT", "ETHUSDT"])
SIDES = st.sampled_from(["BUY", "SELL"])
WAYS = st.sampled_from(["LONG", "SHORT"])
"""Of hedge mode; in one-way mode it is BOTH."""
SIZES = st.sampled_from(["0.037", "0.4", "0.9", "2.001"])
MOVES = st.sampled_from(["0.9", "0.97", "0.997", "1.001", "1.03", "1.12"])
SHARES = st.sampled_from(["0.98", "0.9995", "1.0005", "1.02"])


class Traders(RuleBasedStateMachine):
    """Two traders on two symbols."""

    def __init__(self) -> None:
        super().__init__()
        self.floor = Floor(wallet="100000")
        self.floor.open("bob", "9000")

    @initialize(mode=st.tuples(st.booleans(), st.booleans(), st.sampled_from([20, 100])))
    def choose(self, mode: tuple[bool, bool, int]) -> None:
        hedge, isolated, leverage = mode
        for account in self.floor.trading.accounts.values():
            for symbol in ("BTCUSDT", "ETHUSDT"):
                set_leverage(account, symbol, leverage, self.floor.trading.marks(self.floor.now))
                if isolated:
                    set_margin_type(account, symbol, isolated=True)
            if hedge:
                set_hedge(account, hedge=True)

    @rule(who=WHO, symbol=SYMBOLS, side=SIDES, way=WAYS, size=SIZES, reduce=st.sampled_from([False, False, True]))
    def take(self, who: str, symbol: str, side: str, way: str, size: str, *, reduce: bool) -> None:
        given = {"reduceOnly": "true"} if reduce else {}
        with suppress(Rejected):
            self.floor.order(who, symbol=symbol, side=side, quantity=size, positionSide=self._way(way), **given)

    @rule(who=WHO, symbol=SYMBOLS, side=SIDES, way=WAYS, size=SIZES, share=SHARES, reduce=st.sampled_from([False, False, True]))
    def rest(self, who: str, symbol: str, side: str, way: str, size: str, share: str, *, reduce: bool) -> None:
        given = {"type": "LIMIT", "timeInForce": "GTC"} | ({"reduceOnly": "true"} if reduce else {})
        given["price"] = self._near(symbol, share)
        with suppress(Rejected):
            self.floor.order(who, symbol=symbol, side=side, quantity=size, positionSide=self._way(way), **given)

    @rule(who=WHO, symbol=SYMBOLS, side=SIDES, way=WAYS, size=SIZES, share=SHARES, kind=st.sampled_from(["STOP", "TAKE_PROFIT"]))
    def wait(self, who: str, symbol: str, side: str, way: str, size: str, share: str, kind: str) -> None:
        given = {"symbol": symbol, "side": side, "positionSide": self._way(way), "quantity": size, "type": f"{kind}_MARKET"}
        with suppress(Rejected):
            self.floor.algo(who, triggerPrice=self._near(symbol, share), **given)

    @rule(who=WHO, which=st.integers(0, 5))
    def cancel(self, who: str, which: int) -> None:
        resting = self.floor.trading.accounts[who].open_orders()
        if which < len(resting):
            self.floor.trading.cancel(self.floor.trading.accounts[who], resting[which], self.floor.now)

    @rule(who=WHO, which=st.integers(0, 2), share=SHARES, size=SIZES)
    def amend(self, who: str, which: int, share: str, size: str) -> None:
        account = self.floor.trading.accounts[who]
        resting = account.open_orders()
        if which < len(resting):
            order = resting[which]
            with suppress(Rejected):
                amend(self.floor.trading, account, order, Decimal(self._near(order.symbol, share)), Decimal(size), self.floor.now)

    @rule(symbol=SYMBOLS, factor=MOVES, lean=st.sampled_from(["0.999", "1", "1.001"]), quantity=st.sampled_from(["0.1", "10"]))
    def move(self, symbol: str, factor: str, lean: str, quantity: str) -> None:
        price = self._near(symbol, factor)
        mark = (Decimal(price) * Decimal(lean)).quantize(Decimal("0.00000001"))
        self.floor.move(price, symbol=symbol, quantity=quantity, mark=f"{mark:f}")

    @rule(symbol=SYMBOLS, rate=st.sampled_from(["0.0001", "-0.003"]))
    def fund(self, symbol: str, rate: str) -> None:
        self.floor.board.pay_funding(symbol, Decimal(rate), self.floor.now + 1)
        self.floor.now += 1
        self.floor.passage.advance(self.floor.now)

    @invariant()
    def books_balance(self) -> None:
        assert self.floor.imbalance() == ZERO

    @invariant()
    def every_wallet_is_its_history(self) -> None:
        for account in self.floor.trading.accounts.values():
            assert account.wallet == sum((item.amount for item in account.incomes), ZERO)
            assert account.wallet - cross_wallet(account) >= ZERO
            assert all(order.executed <= order.quantity for order in account.orders.values())
            assert all(p.quantity or (p.cost, p.isolated_wallet) == (ZERO, ZERO) for p in account.positions.values())
            assert account.open_orders() == [order for order in account.orders.values() if order.open]
            assert account.waiting() == [algo for algo in account.algos.values() if algo.status == "NEW"]
            assert all(number > FIRST_ID for number in account.orders)

    def _way(self, way: str) -> str:
        return way if self.floor.ada.hedge else "BOTH"

    def _near(self, symbol: str, share: str) -> str:
        tick = Decimal("0.1") if symbol == "BTCUSDT" else Decimal("0.01")
        return f"{(self.floor.board.last(symbol, self.floor.now) * Decimal(share)).quantize(tick):f}"


Traders.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestTraders = Traders.TestCase
