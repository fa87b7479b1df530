"""The algo service: orders that wait for a price, and become regular orders when it comes.

No margin is asked for before that. What fails then is REJECTED with its reason.

Source: Binance USDⓈ-M "New Algo Order", "Event: Algo Order Update" (read 2026-11).
"""

from collections.abc import Callable
from decimal import Decimal

from deploy.sandbox.core.account import Account
from deploy.sandbox.core.algo_request import TRAILING, AlgoRequest, check_filters
from deploy.sandbox.core.board import Tick
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.order_request import OrderRequest, check_good_till
from deploy.sandbox.core.orders import AlgoOrder
from deploy.sandbox.core.trading import Trading, check_side, unknown_order
from shared.margin import ZERO

MOST_WAITING = 200
"""An account, over all symbols. Source: change log of 2025-12-29."""


class Conditional:
    """The conditional orders of a floor.

    Args:
        trading: Where they go when they trigger.
    """

    def __init__(self, trading: Trading) -> None:
        self._trading = trading
        self.latency_ms = 0
        """Market time that a triggered order takes to the book; it is TRIGGERING meanwhile."""
        self.stuck: Callable[[Account, AlgoOrder], bool] = lambda account, algo: False  # noqa: ARG005
        """Whether a triggered order never gets to the book: a fault that the exchange has shown."""

    def place(self, account: Account, asked: AlgoRequest, now: int) -> AlgoOrder:
        """Let an order wait.

        Raises:
            Rejected: It does not fit, is one too many, or would trigger at once.
        """
        board = self._trading.board
        rules = board.rules(asked.symbol, now)
        check_filters(rules, asked)
        check_good_till(asked.good_till, now)
        check_side(account, asked.position_side, reduce_only=asked.reduce_only)
        self._check_room(account, asked)
        price = board.mark(asked.symbol, now) if asked.on_mark else board.last(asked.symbol, now)
        if _immediate(asked, price):
            raise Rejected(-2021, "Order would immediately trigger.")
        number = self._trading.clearing.next_id()
        algo = AlgoOrder(
            id=number,
            client_id=asked.client_id or f"sandbox_{number}",
            symbol=asked.symbol,
            side=asked.side,
            position_side=asked.position_side,
            kind=asked.kind,
            quantity=asked.quantity,
            trigger=asked.trigger,
            price=asked.price,
            time_in_force=asked.time_in_force,
            on_mark=asked.on_mark,
            reduce_only=asked.reduce_only,
            close_position=asked.close_position,
            price_protect=asked.price_protect,
            callback=asked.callback,
            activate=asked.activate,
            good_till=asked.good_till,
            extreme=price if asked.kind == TRAILING and not asked.activate else None,
            created_ms=now,
            updated_ms=now,
        )
        account.arm(algo)
        self._trading.herald.algo_changed(account, algo, now, active=False)
        if algo.extreme is not None:
            self._trading.herald.algo_changed(account, algo, now)
        return algo

    def cancel(self, account: Account, algo: AlgoOrder, now: int) -> None:
        """Let an order wait no longer.

        Raises:
            Rejected: It does not wait.
        """
        if algo.status != "NEW":
            raise unknown_order()
        algo.status, algo.updated_ms = "CANCELED", now
        self._trading.herald.algo_changed(account, algo, now)

    def look(self, account: Account, symbol: str, tick: Tick) -> None:
        """Trigger what a tick has reached."""
        for algo in account.unfinished(symbol):
            if algo.status == "TRIGGERING":
                self._forward(account, algo, tick.time_ms)
            elif algo.status == "NEW" and algo.created_ms < tick.time_ms and self._reached(account, algo, tick):
                self._trigger(account, algo, tick.time_ms)

    def expire(self, account: Account, algo: AlgoOrder, now: int) -> None:
        """Let an order that waits end by itself."""
        algo.status, algo.updated_ms = "EXPIRED", now
        self._trading.herald.algo_changed(account, algo, now)

    def _reached(self, account: Account, algo: AlgoOrder, tick: Tick) -> bool:
        price = tick.mark if algo.on_mark else tick.price
        if algo.kind == TRAILING:
            asleep = algo.extreme is None
            reached = trailed(algo, price)
            if asleep and algo.extreme is not None:
                self._trading.herald.algo_changed(account, algo, tick.time_ms)
            return reached
        return crossed(algo.kind, algo.side, algo.trigger, price) and not self._protected(algo, tick)

    def _protected(self, algo: AlgoOrder, tick: Tick) -> bool:
        """Whether price protection holds a trigger back: last and mark price are too far apart."""
        protect = Decimal(self._trading.board.rules(algo.symbol, tick.time_ms).trigger_protect)
        return algo.price_protect and abs(tick.price - tick.mark) > tick.mark * protect

    def _trigger(self, account: Account, algo: AlgoOrder, now: int) -> None:
        algo.triggered_ms = algo.updated_ms = now
        held = account.position(algo.symbol, algo.position_side).quantity
        if algo.close_position and held * (1 if algo.side == "BUY" else -1) >= 0:
            self.expire(account, algo, now)
            return
        algo.status = "TRIGGERING"
        self._trading.herald.algo_changed(account, algo, now)
        self._forward(account, algo, now)

    def _forward(self, account: Account, algo: AlgoOrder, now: int) -> None:
        """Put a triggered order into the book, once it is due there."""
        if now < algo.triggered_ms + self.latency_ms or self.stuck(account, algo):
            return
        held = account.position(algo.symbol, algo.position_side).quantity
        algo.updated_ms = now
        try:
            self._trading.place(account, _child(algo, abs(held)), now, algo)
        except Rejected as refusal:
            algo.status, algo.reason = "REJECTED", refusal.message
            self._trading.herald.algo_changed(account, algo, now)

    def _check_room(self, account: Account, asked: AlgoRequest) -> None:
        waiting = account.unfinished()
        if len(waiting) >= MOST_WAITING:
            raise Rejected(-4045, "Reach max stop order limit.")
        if asked.client_id and any(algo.client_id == asked.client_id for algo in waiting):
            raise Rejected(-4116, "ClientOrderId is duplicated.")
        same = (asked.symbol, asked.side, asked.position_side, _stops(asked.kind))
        if asked.close_position and any(
            algo.close_position and (algo.symbol, algo.side, algo.position_side, _stops(algo.kind)) == same for algo in waiting
        ):
            raise Rejected(-4130, "An open stop or take profit order with GTE and closePosition in the direction is existing.")


def crossed(kind: str, side: str, trigger: Decimal, price: Decimal) -> bool:
    """Whether a price reaches a trigger: a stop against the position, a target in its favour."""
    upwards = (side == "BUY") == _stops(kind)
    return price >= trigger if upwards else price <= trigger


def trailed(algo: AlgoOrder, price: Decimal) -> bool:
    """Move a trailing stop along, and tell whether the price has come back by its callback rate."""
    sign = 1 if algo.side == "SELL" else -1
    if algo.extreme is None:
        if (price - algo.activate) * sign < 0:
            return False
        algo.extreme = price
    algo.extreme = max(algo.extreme, price) if sign > 0 else min(algo.extreme, price)
    return (price - algo.extreme * (1 - sign * algo.callback / 100)) * sign <= 0


def state(account: Account, algo: AlgoOrder) -> str:
    """Its status: FINISHED once the child order has ended."""
    child = account.orders.get(algo.child or 0)
    return "FINISHED" if algo.status == "TRIGGERED" and child and not child.open else algo.status


def _stops(kind: str) -> bool:
    return kind.startswith("STOP")


def _immediate(asked: AlgoRequest, price: Decimal) -> bool:
    if asked.kind == TRAILING:
        sign = 1 if asked.side == "SELL" else -1
        return bool(asked.activate) and (price - asked.activate) * sign >= 0
    return crossed(asked.kind, asked.side, asked.trigger, price)


def _child(algo: AlgoOrder, held: Decimal) -> OrderRequest:
    limit = algo.kind in ("STOP", "TAKE_PROFIT")
    one_way = algo.position_side == "BOTH"
    return OrderRequest(
        symbol=algo.symbol,
        side=algo.side,
        kind="LIMIT" if limit else "MARKET",
        quantity=held if algo.close_position else algo.quantity,
        price=algo.price if limit else ZERO,
        time_in_force=algo.time_in_force,
        reduce_only=one_way and (algo.reduce_only or algo.close_position),
        position_side=algo.position_side,
        client_id=algo.client_id,
        good_till=algo.good_till if limit else 0,
    )
