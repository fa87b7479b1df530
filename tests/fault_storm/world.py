"""One schedule, lived through: the sandbox's exchange, engine replicas, worker and web on one store, in time that jumps."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from decimal import Decimal
from random import Random
from typing import Any, Final
from uuid import UUID

import msgspec

from deploy.sandbox.control_trading import TradingControl
from deploy.sandbox.core.account import Account
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.listen_keys import VALIDITY_MS
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.order_request import order_request
from deploy.sandbox.core.query import Query
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.files import open_market
from deploy.sandbox.options import SandboxOptions
from engine.ports import KeyPair
from orchestrator.core.order import OrderStatus
from orchestrator.errors import OrchestratorError
from orchestrator.ports import PositionRecord
from shared.analysis import Instrument, Signal
from shared.brackets import brackets_of
from shared.enums import AnalystKind, Mode, Side
from shared.margin import round_to_tick
from tests.builders import trader
from tests.fakes import FakeStore
from tests.fault_storm.board import StormBoard, StormMarket, Weather
from tests.fault_storm.engine import MemoryReports, Replica, Replicas, Seal, WireEngine, new_budget
from tests.fault_storm.judge import Judgement, Leave, judge
from tests.fault_storm.orchestrator import Service, Shared
from tests.fault_storm.processes import Process
from tests.fault_storm.schedule import LASTS_SECONDS, REST_SECONDS, Schedule, Step
from tests.fault_storm.simulated_time import BEGINS, SimulatedClock, SimulatedLoop
from tests.fault_storm.transport import Doors

FLOOR_SECONDS: Final = 0.5
REPLICAS: Final = 2
BACK_SECONDS: Final = (0.3, 4.0)
"""Until a killed process runs again."""

REVOKED_SECONDS: Final = (0.5, 25.0)
"""Until a revoked key is given back."""

LISTEN_SECONDS: Final = (1.0, 15.0)
"""For how long a listen key is good once one has ended."""

AWAY_SECONDS: Final = (1.0, 20.0)
"""Until a user who left REAL is back, if at all."""

ON_AGAIN_SECONDS: Final = 4.0
"""After which a user switches auto-trading on again."""

_market: dict[int, tuple[Market, int]] = {}


def shared_market() -> tuple[Market, int]:
    """Opened once a process: the board moves here, the market only lists symbols."""
    if 0 not in _market:
        _market[0] = open_market(SandboxOptions(start_ms=int(BEGINS.timestamp() * 1000)))
    market, start = _market[0]
    market.injected.clear()
    return market, start


class World:
    """Everything of one schedule.

    Args:
        schedule: What happens.
        loop: The running one.
        trace: Where to tell what happens, for whoever replays a seed.
        stepped: Told of each step of each process; it may kill.
    """

    def __init__(
        self,
        schedule: Schedule,
        loop: SimulatedLoop,
        trace: deque[str] | None = None,
        stepped: Callable[[Process, str], None] | None = None,
    ) -> None:
        self.schedule, self.trace, self._stepped = schedule, trace, stepped
        self.clock = clock = SimulatedClock(loop)
        self.weather = Weather(Random(f"{schedule.seed}/weather"), schedule.ours)
        self.board = StormBoard(Random(f"{schedule.seed}/board"), clock.now_ms())
        self.exchange = self._open_exchange()
        self.doors = Doors(self.exchange, self.weather)
        self.doors.trace = trace
        self.store = FakeStore()
        self.shared = Shared(clock, self.weather, Random(f"{schedule.seed}/ids"))
        self.accounts: dict[str, Account] = {}
        self.users = [self._open_user(number) for number in range(schedule.users)]
        self.budget = new_budget(clock)
        self.market = StormMarket(self.board, clock, self.weather)
        self.reports = MemoryReports(clock)
        self.replicas = Replicas(self._replica, REPLICAS, self.weather)
        self.worker, self.web = self._service("worker"), self._service("web")
        self.judgement: Judgement | None = None
        self.fired: list[str] = []
        """Faults of the exchange, by kind."""
        self._begun = 2
        self._revoked: dict[str, int] = {}
        """Until when each key is refused, wall time."""
        self.leaves: list[Leave] = []

    # --- life ----------------------------------------------------------------------------------------------------------------

    async def live(self) -> Judgement:
        """The whole schedule, and what it came to."""
        floor = asyncio.ensure_future(self._pass_time())
        self.worker.work()
        self.weather.calm = True
        await self._opened_books()
        self.weather.calm = False
        self.exchange.faults.add(self.schedule.rules, self.clock.wall_ms())
        began = asyncio.get_running_loop().time()
        for step in self.schedule.steps:
            await asyncio.sleep(max(0.0, began + step.at - asyncio.get_running_loop().time()))
            self.say(f"{step.what} {step.symbol} {step.side} user {step.user} {step.dice}")
            self._do(step)
        await asyncio.sleep(max(0.0, began + LASTS_SECONDS - asyncio.get_running_loop().time()))
        return await self.rest(floor)

    async def rest(self, floor: asyncio.Future[None]) -> Judgement:
        """Faults off, everybody alive, and a minute later judged."""
        self.say("calm")
        self._calm_down()
        await asyncio.sleep(REST_SECONDS)
        floor.cancel()
        self.exchange.advance(self.clock.now_ms())
        thin = {symbol: line.thin for symbol, line in self.board.lines.items()}
        self.judgement = judge(self.store.rows, self.exchange.trading, self.accounts, self.clock.now_ms(), thin, self.leaves)
        for service in (self.worker, self.web):
            self.judgement.violations += [f"crash: {type(error).__name__}: {error}" for error in service.crashes]
        for replica in self.replicas.ever:
            await replica.exchanges.close()
        self.say("judged")
        return self.judgement

    def _calm_down(self) -> None:
        self.weather.calm = True
        self.board.rest(self.clock.now_ms())
        self.fired = [firing.kind.value for firing in self.exchange.faults.log]
        self.exchange.faults.clear()
        self.exchange.listen_keys.validity_ms = VALIDITY_MS
        for account in self.accounts.values():
            self._set_revoked(account, revoked=False)
        self._restart()

    def say(self, line: str) -> None:
        """To whoever replays."""
        if self.trace is not None:
            self.trace.append(f"{self.clock.now():%H:%M:%S.%f} {line}")

    async def _pass_time(self) -> None:
        while True:
            await asyncio.sleep(FLOOR_SECONDS)
            self.exchange.advance(self.clock.now_ms())
            self.doors.users.speak()

    async def _opened_books(self) -> None:
        """Before anything goes wrong the first truth opens the ledgers with what the wallets hold."""
        async with asyncio.timeout(60):
            while not all(user in self.store.rows.truths for user in self.users):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.2)

    # --- what a step does ----------------------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        deed: Callable[[Step], Awaitable[object] | None] = DEEDS_OF[step.what].__get__(self)
        wait = deed(step)
        if wait is not None:
            self.web.begin(self._tried(self.web, wait, step.what))

    async def _tried(self, service: Service, work: Awaitable[object], what: str) -> None:
        try:
            done = await work
            self.say(f"  {what}: {done}")
        except OrchestratorError as error:
            self.say(f"  {what}: {type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - what a route would answer with 500
            self.say(f"  {what}: {type(error).__name__}: {error}")
            service.crashes.append(error)

    def _signals(self, step: Step) -> None:
        """A scan of the worker brings some signals for everybody."""
        self._auto_trade(step)
        symbols = sorted(self.board.lines, key=lambda symbol: (symbol != step.symbol, symbol))
        made = [self._signal(symbol, step, number) for number, symbol in enumerate(symbols[: 1 + int(step.dice[0] * 2.2)])]
        self.worker.engine.signals = made
        close = made[0].candle_close
        self.worker.begin(self._tried(self.worker, self.worker.trading.scan.run(close), "scan"))

    def _signal(self, symbol: str, step: Step, number: int) -> Signal:
        side = step.side if number % 2 == 0 else Side.SHORT if step.side is Side.LONG else Side.LONG
        line, now = self.board.lines[symbol], self.clock.now()
        price = self.board.last(symbol, self.clock.now_ms())
        stop, target = Decimal(0.003 + 0.025 * step.dice[1]), Decimal(0.004 + 0.05 * step.dice[2])
        rules = line.rules
        tick = Decimal(rules.tick_size)
        brackets, source = brackets_of(symbol)
        return Signal(
            symbol=symbol,
            side=side,
            confidence=80,
            signal_price=price,
            stop_loss=round_to_tick(price * (1 - side.sign * stop), tick),
            take_profit=round_to_tick(price * (1 + side.sign * target), tick),
            reward_risk=2.0,
            reasoning="a storm",
            analyst=AnalystKind.RULES,
            candle_close=now,
            price_at=now,
            features={},
            whale=None,
            instrument=Instrument(
                symbol=symbol,
                tick_size=tick,
                step_size=line.step,
                min_quantity=Decimal(rules.min_quantity),
                max_quantity=Decimal(rules.max_quantity),
                min_notional=Decimal(rules.min_notional),
                brackets=list(brackets),
                brackets_source=source,
                liquidation_fee_ratio=Decimal(rules.liquidation_fee),
            ),
        )

    def _auto_trade(self, step: Step) -> None:
        """Whoever stopped before goes on some seconds later."""
        del step
        for number, user in enumerate(self.users):
            known = self.store.rows.traders[user]
            receipts = [row for row in self.store.rows.receipts.values() if row.user_id == user]
            if self.schedule.auto_trade[number] and not any(row.finished_at is None for row in receipts):
                self.store.rows.traders[user] = msgspec.structs.replace(known, auto_trade_enabled=True)

    def _close(self, step: Step) -> Awaitable[object] | None:
        held = self._held(step)
        return self.web.trading.desk.close(held.user_id, held.id, None) if held else None

    def _close_part(self, step: Step) -> Awaitable[object] | None:
        held = self._held(step)
        if held is None:
            return None
        part = Decimal(0.1 + 0.8 * step.dice[1]) * held.size // held.step_size * held.step_size
        return self.web.trading.desk.close(held.user_id, held.id, part) if part > 0 else None

    def _move(self, step: Step, *, stop: bool) -> Awaitable[object] | None:
        held = self._held(step)
        if held is None:
            return None
        away = Decimal(0.001 + 0.03 * step.dice[1]) * held.side.sign * (-1 if stop else 1)
        price = round_to_tick(self.board.last(held.symbol, self.clock.now_ms()) * (1 + away), held.tick_size)
        return self.web.trading.desk.amend(
            held.user_id,
            held.id,
            stop_loss=price if stop else None,
            take_profit=None if stop else price,
            trailing_ratio=None,
        )

    def _move_stop(self, step: Step) -> Awaitable[object] | None:
        return self._move(step, stop=True)

    def _move_target(self, step: Step) -> Awaitable[object] | None:
        return self._move(step, stop=False)

    def _trail(self, step: Step) -> Awaitable[object] | None:
        return self._trailing(step, Decimal(int(1 + step.dice[1] * 20)) / 1000)

    def _end_trailing(self, step: Step) -> Awaitable[object] | None:
        return self._trailing(step, Decimal(0))

    def _trailing(self, step: Step, ratio: Decimal) -> Awaitable[object] | None:
        held = self._held(step)
        if held is None:
            return None
        return self.web.trading.desk.amend(held.user_id, held.id, stop_loss=None, take_profit=None, trailing_ratio=ratio)

    def _stop_keep(self, step: Step) -> Awaitable[object]:
        return self.web.trading.desk.stop(self.users[step.user], close_positions=False)

    def _stop_close(self, step: Step) -> Awaitable[object]:
        return self.web.trading.desk.stop(self.users[step.user], close_positions=True)

    def _panic(self, step: Step) -> Awaitable[object]:
        return self.web.trading.desk.panic(self.users[step.user])

    def _approve(self, step: Step) -> Awaitable[object] | None:
        waiting = self._waiting(step)
        return self.web.trading.desk.approve(self.users[step.user], waiting) if waiting else None

    def _decline(self, step: Step) -> Awaitable[object] | None:
        waiting = self._waiting(step)
        return self.web.trading.desk.decline(self.users[step.user], waiting) if waiting else None

    def _shock(self, step: Step) -> None:
        self.board.shock(step.symbol, 1 + (step.dice[0] - 0.5) * 0.08, self.clock.now_ms())

    def _crash(self, step: Step) -> None:
        self.board.shock(step.symbol, 1 + (0.15 + 0.2 * step.dice[0]) * (1 if step.dice[1] > 0.5 else -1), self.clock.now_ms())

    def _thin(self, step: Step) -> None:
        self.board.thin(step.symbol, self.clock.now_ms(), self.clock.now_ms() + 15_000)

    def _funding(self, step: Step) -> None:
        rate = Decimal(round((step.dice[0] - 0.5) * 4000)) / 1_000_000
        self.board.fund(step.symbol, rate, self.clock.now_ms() + 1_000)

    def _hand_closes(self, step: Step) -> None:
        """The user closes a part at the exchange's own page."""
        held = self._held(step)
        if held is None:
            return
        account = self.accounts[str(held.user_id)]
        side = "SELL" if held.side is Side.LONG else "BUY"
        words = {"symbol": held.symbol, "side": side, "type": "MARKET", "reduceOnly": "true", "newClientOrderId": "web_hand"}
        quantity = Decimal(1 - 0.7 * step.dice[1]) * held.size // held.step_size * held.step_size
        try:
            self.exchange.advance(self.clock.now_ms())
            request = order_request(Query(words | {"quantity": f"{max(quantity, held.step_size):f}"}))
            self.exchange.trading.place(account, request, self.clock.now_ms())
        except Rejected as refusal:
            self.say(f"  by hand: {refusal.message}")

    def _listen_key_ends(self, step: Step) -> None:
        """The account's stream ends as if nobody had kept its key alive, and keys are good for seconds until it is calm."""
        account, keys = self._account(step), self.exchange.listen_keys
        if keys.text_of(account.key) is not None:
            keys.validity_ms = 1
            keys.opened(account, self.clock.wall_ms())
            self.weather.note("listen key expired")
        keys.validity_ms = int(1000 * _between(LISTEN_SECONDS, step.dice[0]))

    def _rules_change(self, step: Step) -> None:
        """Prices of orders lie on a coarser grid, or on the old one again, and the smallest order is another."""
        tick = self.board.lines[step.symbol].tick * (10 if step.dice[0] < 0.7 else 1)
        self.board.rule(step.symbol, {"tick": tick, "min_notional": Decimal(5 + int(step.dice[1] * 100))})
        self.weather.note("rules changed")

    def _key_revoked(self, step: Step) -> None:
        """The exchange refuses the account's key with -2015, and some seconds later takes it again."""
        account, seconds = self._account(step), _between(REVOKED_SECONDS, step.dice[0] ** 2)
        until = self._revoked[account.key] = max(self._revoked.get(account.key, 0), self.clock.wall_ms() + int(seconds * 1000))
        self._set_revoked(account, revoked=True)
        self.weather.note("key revoked")

        def give_back() -> None:
            if self._revoked[account.key] == until:
                self._set_revoked(account, revoked=False)

        asyncio.get_running_loop().call_later(seconds, give_back)

    def _set_revoked(self, account: Account, *, revoked: bool) -> None:
        if account.revoked is not revoked:
            self.say(f"key of {account.key[:6]} {'revoked' if revoked else 'given back'}")
            TradingControl(self.exchange).revoked({"key": account.key, "revoked": revoked}, self.clock.now_ms())

    def _leave_real(self, step: Step) -> Awaitable[object]:
        return self._away(self.users[step.user], step.dice)

    async def _away(self, user: UUID, dice: tuple[float, ...]) -> None:
        """The user switches to PAPER, or a failed proof stops real entries; every other one is undone some seconds later."""
        sent = await (self._set(user, mode=Mode.PAPER) if dice[0] < 0.6 else self._set(user, entries_stopped="not proven today"))
        self.leaves.append(Leave(user_id=user, since=self.clock.now_ms(), sent=sent))
        self.weather.note("left real")
        if dice[1] < 0.5:
            await asyncio.sleep(_between(AWAY_SECONDS, dice[2]))
            for leave in self.leaves:
                if leave.user_id == user and leave.until is None:
                    leave.until = self.clock.now_ms()
            await self._set(user, mode=Mode.REAL, entries_stopped=None)

    async def _set(self, user: UUID, **changes: Any) -> frozenset[str]:
        """Changes a user's row as the settings do, under its lock; the entries that were sent by then."""
        async with self.store.lock:
            rows = self.store.rows
            rows.traders[user] = msgspec.structs.replace(rows.traders[user], **changes)
            return frozenset(row.client_order_id for row in rows.orders.values() if row.user_id == user and row.sent_at)

    def _account(self, step: Step) -> Account:
        return self.accounts[str(self.users[step.user])]

    def _cut_engine(self, step: Step) -> None:
        self.replicas.kill(int(step.dice[0] * REPLICAS))
        self._later(step)

    def _cut_worker(self, step: Step) -> None:
        self.worker.kill()
        self._later(step)

    def _cut_web(self, step: Step) -> None:
        self.web.kill()
        self._later(step)

    def _later(self, step: Step) -> None:
        seconds = BACK_SECONDS[0] + (BACK_SECONDS[1] - BACK_SECONDS[0]) * step.dice[1] ** 2
        asyncio.get_running_loop().call_later(seconds, self._restart)

    def _restart(self) -> None:
        self.replicas.restart()
        if self.worker.dead:
            self.worker = self._service("worker")
            self.worker.work()
        if self.web.dead:
            self.web = self._service("web")

    # --- making it -----------------------------------------------------------------------------------------------------------

    def _open_exchange(self) -> Exchange:
        now = self.clock.now_ms()
        options = SandboxOptions(speed=1.0, base_market_ms=now, base_wall_ms=now)
        exchange = Exchange(options, self.clock.wall_ms, shared_market())
        exchange.trading.board = self.board
        exchange.trading.takings = type(exchange.trading.takings)(self.board)
        exchange.trading.herald._board = self.board
        return exchange

    def _open_user(self, number: int) -> UUID:
        plan = self.schedule
        account = self.doors.open_account(Decimal(plan.wallet), f"user {number} of {plan.seed}")
        pair = KeyPair(api_key=account.key, api_secret=account.secret)
        made = trader(
            number + 1,
            mode=Mode.REAL,
            credentials=Seal().seal(str(number), pair),
            fixed_order_size=Decimal(plan.order_size),
            leverage=Decimal(plan.leverage),
            auto_trade_enabled=plan.auto_trade[number],
            max_daily_loss=Decimal(1_000_000),
            max_exposure=Decimal(1_000_000),
        )
        self.store.add_trader(made)
        self.accounts[str(made.id)] = account
        return made.id

    def _replica(self, name: str) -> Replica:
        return Replica(name, self.doors, self.reports, self.market, self.clock, self.budget, self.weather, self._stepped)

    def _service(self, kind: str) -> Service:
        self._begun = getattr(self, "_begun", 0) + 1

        def engine_of(process: Process) -> WireEngine:
            return WireEngine(process, self.replicas, self.board, self.clock, self.weather)

        return Service(f"{kind}-{self._begun}", self.store, engine_of, self.shared, self._stepped)

    def _held(self, step: Step) -> PositionRecord | None:
        live = [row for row in self.store.rows.live(self.users[step.user]) if not row.simulated]
        return live[int(step.dice[3] * len(live))] if live else None

    def _waiting(self, step: Step) -> UUID | None:
        rows = [row for row in self.store.rows.orders.values() if row.user_id == self.users[step.user]]
        waiting = [row.id for row in rows if row.status is OrderStatus.AWAITING_APPROVAL]
        return waiting[int(step.dice[3] * len(waiting))] if waiting else None


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * share


DEEDS_OF: Final[dict[str, Any]] = {
    "signals": World._signals,
    "close": World._close,
    "close a part": World._close_part,
    "move the stop": World._move_stop,
    "move the target": World._move_target,
    "trail": World._trail,
    "end trailing": World._end_trailing,
    "stop, keep": World._stop_keep,
    "stop, close": World._stop_close,
    "panic": World._panic,
    "approve": World._approve,
    "decline": World._decline,
    "shock": World._shock,
    "crash": World._crash,
    "thin book": World._thin,
    "funding": World._funding,
    "hand closes": World._hand_closes,
    "listen key ends": World._listen_key_ends,
    "rules change": World._rules_change,
    "key revoked": World._key_revoked,
    "leave real": World._leave_real,
    "cut engine": World._cut_engine,
    "cut worker": World._cut_worker,
    "cut web": World._cut_web,
}
