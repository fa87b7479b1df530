"""Nothing appears or vanishes: whatever random traders do, the exchange's books balance after every step, to the last decimal."""

from contextlib import suppress
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from deploy.sandbox.core.account import cross_positions, cross_wallet
from deploy.sandbox.core.account_settings import set_hedge, set_leverage, set_margin_type
from deploy.sandbox.core.amendment import amend
from deploy.sandbox.core.clearing import FIRST_ID
from deploy.sandbox.core.conditional import state
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.margin_transfer import move_margin
from deploy.sandbox.core.settlement import settle
from deploy.sandbox.core.vigil import stopped
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
        self.floor.ada.listening = True

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

    @rule(who=WHO, symbol=SYMBOLS, side=SIDES, way=WAYS, size=SIZES, share=SHARES)
    def guard(self, who: str, symbol: str, side: str, way: str, size: str, share: str) -> None:
        """A trailing stop, or a stop that closes whatever is there."""
        trailing = {"type": "TRAILING_STOP_MARKET", "callbackRate": "1", "quantity": size}
        closing = {"type": "STOP_MARKET", "closePosition": "true", "triggerPrice": self._near(symbol, share)}
        given = trailing if size == "0.4" else closing
        with suppress(Rejected):
            self.floor.algo(who, symbol=symbol, side=side, positionSide=self._way(way), **given)

    @rule(who=WHO, symbol=SYMBOLS, way=WAYS, amount=st.sampled_from(["7", "300", "-7", "-90"]))
    def top_up(self, who: str, symbol: str, way: str, amount: str) -> None:
        account = self.floor.trading.accounts[who]
        position = account.position(symbol, self._way(way))
        with suppress(Rejected):
            move_margin(self.floor.trading, account, position, Decimal(amount), self.floor.now)

    @rule(symbol=SYMBOLS, chance=st.integers(0, 9))
    def take_off(self, symbol: str, chance: int) -> None:
        if not chance:
            settle(self.floor.trading, self.floor.conditional, symbol, self.floor.now)

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
            marks = self.floor.trading.marks(self.floor.now)
            assert all(p.isolated_wallet >= 0 or p.unrealized(marks(p.symbol)) > 0 for p in account.positions.values())
            assert all(order.executed <= order.quantity for order in account.orders.values())
            assert all(p.quantity or (p.cost, p.isolated_wallet) == (ZERO, ZERO) for p in account.positions.values())
            assert account.open_orders() == [order for order in account.orders.values() if order.open]
            assert account.waiting() == [algo for algo in account.algos.values() if algo.status == "NEW"]
            assert cross_wallet(account) >= ZERO or cross_positions(account)

    @invariant()
    def what_is_told_is_what_is(self) -> None:
        told = [notice for notice in self.floor.trading.herald.drained() if notice.account == "ada"]
        updates = [notice.body["a"] for notice in told if notice.kind == "ACCOUNT_UPDATE" and notice.body["a"]["B"]]
        if updates:
            assert Decimal(updates[-1]["B"][0]["wb"]) == self.floor.ada.wallet
        orders = {notice.body["o"]["i"]: notice.body["o"] for notice in told if notice.kind == "ORDER_TRADE_UPDATE"}
        for number, last in orders.items():
            order = self.floor.ada.orders[number]
            assert (last["X"], Decimal(last["z"])) == (order.status, order.executed)
        algos = {notice.body["o"]["aid"]: notice.body["o"]["X"] for notice in told if notice.kind == "ALGO_UPDATE"}
        for number, status in algos.items():
            assert status == state(self.floor.ada, self.floor.ada.algos[number])

    @invariant()
    def the_vigil_knows_who_is_without_a_stop(self) -> None:
        vigil = self.floor.trading.herald.vigil
        for account in self.floor.trading.accounts.values():
            lasting = {(span.symbol, span.side) for span in vigil.told(account.key) if span.until is None}
            bare = {
                (p.symbol, p.side) for p in account.held() if stopped(account, p.symbol, p.side, p.quantity) < abs(p.quantity)
            }
            assert lasting == bare
            assert all(number > FIRST_ID for number in account.orders)

    def _way(self, way: str) -> str:
        return way if self.floor.ada.hedge else "BOTH"

    def _near(self, symbol: str, share: str) -> str:
        tick = Decimal("0.1") if symbol == "BTCUSDT" else Decimal("0.01")
        return f"{(self.floor.board.last(symbol, self.floor.now) * Decimal(share)).quantize(tick):f}"


Traders.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestTraders = Traders.TestCase
