"""One panic over many positions: they are opened by the real use cases in calm, then the weather turns and the button is pressed.

Pressed again and again until the receipt says flat, as a person would. What the receipt says is held against the exchange's own core at
that moment, and again a minute later: flat that is not flat is the one thing that may never happen.
"""

import asyncio
import random
from collections import deque
from decimal import Decimal
from random import Random
from typing import Final

import msgspec

from deploy.sandbox.core.faults import Kind, Match, Rule
from deploy.sandbox.core.faults_profiles import profile
from deploy.sandbox.core.rules import RECORDED
from deploy.sandbox.exchange import Exchange
from orchestrator.core.order import OrderStatus
from orchestrator.errors import OrchestratorError
from orchestrator.ports import PanicReceipt
from shared.enums import Side
from tests.fault_storm.board import StormBoard
from tests.fault_storm.schedule import OURS, Schedule, Step
from tests.fault_storm.simulated_time import SimulatedClock, SimulatedLoop, process_time, run
from tests.fault_storm.world import World

TICKS_OF_A_PRICE: Final = 20_000
MOST_OF_A_STEP: Final = Decimal(5)
"""USDT: finer than an order's size."""

OPENING_SECONDS: Final = 400.0
PRESSES: Final = 6
REST_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 0.05


class Drilled(msgspec.Struct, frozen=True, kw_only=True):
    """One drill's end. Seconds of wall time since the button was first pressed."""

    seed: int
    storm: bool
    opened: int
    entering: int
    """Entries that were under way at that moment."""
    resting: int
    """Stops and targets at the exchange."""
    receipt_seconds: float | None
    """Until the receipt said flat; None where it never did."""
    empty_seconds: float | None
    """Until the exchange had neither position nor order, which nobody had asked it yet."""
    presses: int
    weight: int
    requests: int
    violations: list[str]


def prices(count: int) -> dict[str, str]:
    """So many symbols, each with a price that suits its grid."""
    listed = [row for row in RECORDED.values() if row.contract_type == "PERPETUAL" and row.symbol.endswith("USDT")]
    priced = {row.symbol: Decimal(row.tick) * TICKS_OF_A_PRICE for row in listed}
    fine = [row.symbol for row in listed if priced[row.symbol] * Decimal(row.step) <= MOST_OF_A_STEP]
    return {symbol: f"{priced[symbol]:f}" for symbol in fine[:count]}


def run_one(seed: int, positions: int, *, storm: bool, trace: deque[str] | None = None) -> Drilled:
    """One drill in this process, always the same for a seed."""
    loop = SimulatedLoop()
    random.seed(seed)
    done: list[Drilled] = []

    async def main() -> None:
        done.append(await Drill(seed, positions, loop, storm=storm, trace=trace).live())

    loop.jump(Random(f"{seed}/begins").uniform(0, 60))
    with process_time(SimulatedClock(loop)):
        run(main(), loop)
    return done[0]


def run_refused(seed: int, positions: int) -> list[str]:
    """A panic in which the exchange takes no order of one symbol, and another press once it does; what was wrong."""
    loop = SimulatedLoop()
    random.seed(seed)
    wrong: list[str] = []

    async def main() -> None:
        wrong.extend(await Drill(seed, positions, loop, storm=False, trace=None).refused())

    with process_time(SimulatedClock(loop)):
        run(main(), loop)
    return wrong


class Drill(World):
    """The storm's world over a wider market."""

    def __init__(self, seed: int, positions: int, loop: SimulatedLoop, *, storm: bool, trace: deque[str] | None) -> None:
        self._storm, self._positions = storm, positions
        self._dice = Random(f"{seed}/drill")
        self._late = self._dice.random() < 0.5
        super().__init__(_schedule(seed, storm=storm), loop, trace)
        user = self.users[0]
        limits = {"max_positions": positions, "fixed_order_size": Decimal(50)}
        self.store.rows.traders[user] = msgspec.structs.replace(self.store.rows.traders[user], **limits)

    def _open_exchange(self) -> Exchange:
        seed, now = self.schedule.seed, self.clock.now_ms()
        # Some symbols more than are opened in calm: what is still entering when the button is pressed.
        self.board = StormBoard(Random(f"{seed}/board"), now, prices(self._positions + 4))
        return super()._open_exchange()

    async def drill(self) -> Drilled:
        """Opens, presses, judges."""
        loop, account = asyncio.get_running_loop(), self.accounts[str(self.users[0])]
        await self._open_positions()
        opened = len(account.held())
        resting = len(account.unfinished())
        await asyncio.sleep(self._dice.uniform(0, 60))
        self.weather.calm = not self._storm
        self.exchange.faults.add(self.schedule.rules, self.clock.wall_ms())
        entering = await self._entries_under_way() if self._late else 0
        pressed, calls = loop.time(), self.doors.calls
        self.say(f"PRESSED over {opened} positions, {resting} resting, {entering} entering")
        watching = asyncio.ensure_future(self._emptied())
        violations: list[str] = []
        presses, told = 0, None
        while told is None and presses < PRESSES:
            presses += 1
            receipt = await self._pressed(violations)
            if receipt is not None and receipt.flat:
                told = loop.time() - pressed
        requests = self.doors.calls - calls
        await self._stays_flat(violations, told)
        watching.cancel()
        emptied = watching.result() if watching.done() and not watching.cancelled() else None
        return Drilled(
            seed=self.schedule.seed,
            storm=self._storm,
            opened=opened,
            entering=entering,
            resting=resting,
            receipt_seconds=told,
            empty_seconds=None if emptied is None else emptied - pressed,
            presses=presses,
            weight=self.budget.used,
            requests=requests,
            violations=violations,
        )

    async def live(self) -> Drilled:  # type: ignore[override]
        """The whole drill."""
        floor = asyncio.ensure_future(self._pass_time())
        self.worker.work()
        self.weather.calm = True
        await self._opened_books()
        done = await self.drill()
        judged = await self.rest(floor)
        return msgspec.structs.replace(done, violations=[*done.violations, *judged.violations])

    async def refused(self) -> list[str]:
        """Everybody else is closed and cleared, the receipt names the one, and its stop stays."""
        floor = asyncio.ensure_future(self._pass_time())
        self.worker.work()
        self.weather.calm = True
        await self._opened_books()
        await self._open_positions()
        account, violations = self.accounts[str(self.users[0])], list[str]()
        symbol = account.held()[0].symbol
        match = Match(method="POST", path="/fapi/v1/order", symbol=symbol)
        self.exchange.faults.add([Rule(kind=Kind.UNAVAILABLE, match=match, probability=1.0)], self.clock.wall_ms())
        receipt = await self._pressed(violations)
        assert receipt is not None
        named = [one.symbol for one in receipt.positions if one.result != "closed"]
        left = {position.symbol for position in account.held()} | {algo.symbol for algo in account.unfinished()}
        if receipt.flat or named != [symbol] or left != {symbol} or receipt.open_positions != 1 or not account.unfinished():
            violations.append(f"refused: {symbol} refuses, {sorted(left)} is left, the receipt says {receipt}")
        self.exchange.faults.clear()
        receipt = await self._pressed(violations)
        if receipt is None or not receipt.flat:
            violations.append(f"never: {receipt}")
        judged = await self.rest(floor)
        return [*violations, *judged.violations]

    async def _open_positions(self) -> None:
        symbols = list(self.board.lines)[: self._positions]
        account = self.accounts[str(self.users[0])]
        until = asyncio.get_running_loop().time() + OPENING_SECONDS
        while asyncio.get_running_loop().time() < until:
            held = {position.symbol for position in account.held()} | {row.symbol for row in self.store.rows.claims.values()}
            if not (missing := [symbol for symbol in symbols if symbol not in held]):
                break
            self._scan(missing[:10])
            await asyncio.sleep(8)
        while self._unsettled() and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(1)

    async def _entries_under_way(self) -> int:
        self._scan(list(self.board.lines)[self._positions :])
        limit = {"max_positions": self._positions + 4}
        user = self.users[0]
        self.store.rows.traders[user] = msgspec.structs.replace(self.store.rows.traders[user], **limit)
        await asyncio.sleep(self._dice.uniform(0.01, 0.4))
        return self._unsettled()

    def _scan(self, symbols: list[str]) -> None:
        sides = (Side.LONG, Side.SHORT)
        made = [self._signal(symbol, _step(symbol, sides[number % 2]), 0) for number, symbol in enumerate(symbols)]
        self.worker.engine.signals = made
        self.worker.begin(self._tried(self.worker, self.worker.trading.scan.run(made[0].candle_close), "scan"))

    def _unsettled(self) -> int:
        waiting = (OrderStatus.CLAIMED, OrderStatus.SENT, OrderStatus.UNKNOWN)
        return sum(row.status in waiting for row in self.store.rows.orders.values())

    async def _pressed(self, violations: list[str]) -> PanicReceipt | None:
        user = self.users[0]
        try:
            receipt = await self.web.trading.desk.panic(user)
        except OrchestratorError as error:
            self.say(f"  panic: {type(error).__name__}: {error}")
            return None
        self.say(f"  receipt: {receipt}")
        if self.store.rows.traders[user].auto_trade_enabled:
            violations.append("on: auto-trading is on after a panic")
        if receipt.flat:
            violations += [f"untrue: the receipt says flat, but {line}" for line in self._standing()]
        return receipt

    def _standing(self) -> list[str]:
        self.exchange.advance(self.clock.now_ms())
        account = self.accounts[str(self.users[0])]
        held = [f"{position.symbol} {position.quantity} is held" for position in account.held()]
        resting = [f"{order.client_id} rests" for order in account.open_orders()]
        return held + resting + [f"{algo.client_id} waits" for algo in account.unfinished()]

    async def _emptied(self) -> float:
        while self._standing():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(WATCH_SECONDS)
        return asyncio.get_running_loop().time()

    async def _stays_flat(self, violations: list[str], told: float | None) -> None:
        """Nothing that was under way when flat was said may still arrive and stand."""
        if told is None:
            violations.append("never: no receipt said flat")
            return
        await asyncio.sleep(15)
        violations += [f"later: {line}" for line in self._standing()]


def _schedule(seed: int, *, storm: bool) -> Schedule:
    return Schedule(
        seed=seed,
        begins_at=0,
        users=1,
        wallet=100_000,
        leverage=10,
        order_size=50,
        auto_trade=(True,),
        cuts=False,
        rules=(profile("storm", seed) or []) if storm else [],
        ours=OURS if storm else {},
        steps=[],
    )


def _step(symbol: str, side: Side) -> Step:
    return Step(at=0, what="signals", user=0, symbol=symbol, side=side, dice=(0.0, 0.99, 0.99, 0.0))
