"""The engine without HTTP: replicas made of its real use cases, and the orchestrator's way to them through the wire's own encoding.

Requests and replies get lost between the services, replicas die under their work, Redis is away: by the weather's seeded chance.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, cast

import msgspec

from engine.binance import Addresses, BinanceExchanges
from engine.budget.windows import RESERVE_SHARE, WeightBudget
from engine.errors import ClientOrderIdReused, EngineError, ReportStoreUnavailable
from engine.execution.asking import Patience
from engine.execution.balance import balance, positions
from engine.execution.canary import canary
from engine.execution.cancel import cancel
from engine.execution.close import close
from engine.execution.desk import Desk
from engine.execution.entry import enter
from engine.execution.events import listen
from engine.execution.exchange_venue import ExchangeVenue
from engine.execution.flatten import flatten
from engine.execution.lasting_once import LastingOnce
from engine.execution.lookup import look_up
from engine.execution.once import Once
from engine.execution.protect import protect
from engine.execution.truth import guards, truth
from engine.execution.turns import Turns
from engine.execution.venues import Venues
from engine.paper import DryRunVenue, PaperVenue
from engine.ports import Budget, Claimed, InFlight, KeyPair, Reports
from engine.reports import CLAIM_SECONDS, REPORT_SECONDS
from engine.routes.execution import _or_unavailable
from engine.routes.http import ProblemError
from orchestrator import engine_client as client
from orchestrator.errors import EngineRefused, EngineUnavailable
from shared.analysis import AnalyzeReply, AnalyzeRequest, MarksReply, Signal, SymbolMarks
from shared.enums import AnalystKind
from shared.execution import (
    Account,
    AccountEvent,
    AccountRequest,
    BalanceReply,
    CanaryReply,
    CancelReply,
    CancelRequest,
    CloseRequest,
    EntryRequest,
    ExecutionReport,
    FlattenReply,
    FlattenRequest,
    GuardsReply,
    GuardsRequest,
    KeyCheckReply,
    OrderReply,
    PositionsReply,
    ProtectReport,
    ProtectRequest,
    PublicKeyReply,
    ResealRequest,
    SealedCredentials,
    TruthReply,
    TruthRequest,
)
from shared.problem import Problem
from shared.wire import decode, decode_strict, encode
from tests.fault_storm.board import StormBoard, StormMarket, Weather
from tests.fault_storm.processes import Gated, Process
from tests.fault_storm.simulated_time import SimulatedClock
from tests.fault_storm.transport import Doors

WEIGHT_LIMIT: Final = 2400
WIRE_SECONDS: Final = (0.0005, 0.004)
ADDRESSES: Final = Addresses(rest="http://127.0.0.1:9000", streams="ws://127.0.0.1:9000", spot="http://127.0.0.1:9000")


class Seal:
    """Opens what nobody sealed: the pair travels as it is, since keys are not what storms here."""

    def open(self, user_id: str, credentials: SealedCredentials) -> KeyPair:
        del user_id
        key, _, secret = credentials.sealed.partition(":")
        return KeyPair(api_key=key, api_secret=secret)

    def public(self, *, claimable: bool) -> PublicKeyReply:
        raise NotImplementedError

    def seal(self, user_id: str, pair: KeyPair) -> SealedCredentials:
        del user_id
        return SealedCredentials(key_id="k", sealed=f"{pair.api_key}:{pair.api_secret}")

    def reseal(self, user_id: str, credentials: SealedCredentials) -> SealedCredentials:
        raise NotImplementedError


class MemoryReports:
    """What Redis keeps: claims that expire, reports for a day; shared by all replicas. See `engine.ports.Reports`."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[datetime, str, str, ExecutionReport | None]] = {}
        self._tokens = 0

    async def claim(
        self, client_order_id: str, digest: str, seconds: float | None = None
    ) -> Claimed | InFlight | ExecutionReport:
        known = self._standing(client_order_id)
        if known is None:
            self._tokens += 1
            token = str(self._tokens)
            self._kept[client_order_id] = (self._until(CLAIM_SECONDS if seconds is None else seconds), digest, token, None)
            return Claimed(token=token)
        if known[1] != digest:
            raise ClientOrderIdReused(client_order_id)
        return known[3] or InFlight()

    async def keep(self, client_order_id: str, digest: str, claim: Claimed, report: ExecutionReport) -> bool:
        known = self._standing(client_order_id)
        if known is None or known[2] != claim.token:
            return False
        self._kept[client_order_id] = (self._until(REPORT_SECONDS), digest, "", report)
        return True

    async def release(self, client_order_id: str, digest: str, claim: Claimed) -> None:
        known = self._standing(client_order_id)
        if known is not None and known[1:3] == (digest, claim.token):
            del self._kept[client_order_id]

    async def find(self, client_order_id: str) -> ExecutionReport | InFlight | None:
        known = self._standing(client_order_id)
        return None if known is None else known[3] or InFlight()

    def _standing(self, name: str) -> tuple[datetime, str, str, ExecutionReport | None] | None:
        known = self._kept.get(name)
        return known if known is not None and known[0] > self._clock.wall() else None

    def _until(self, seconds: float) -> datetime:
        return self._clock.wall() + timedelta(seconds=seconds)


class GatedReports:
    """One replica's connection to the reports, in memory or in Redis."""

    def __init__(self, reports: Reports, process: Process, weather: Weather) -> None:
        self._reports, self._process, self._weather = reports, process, weather

    async def claim(
        self, client_order_id: str, digest: str, seconds: float | None = None
    ) -> Claimed | InFlight | ExecutionReport:
        return await self._ask("claim", lambda: self._reports.claim(client_order_id, digest, seconds))

    async def keep(self, client_order_id: str, digest: str, claim: Claimed, report: ExecutionReport) -> bool:
        return await self._ask("keep", lambda: self._reports.keep(client_order_id, digest, claim, report))

    async def release(self, client_order_id: str, digest: str, claim: Claimed) -> None:
        await self._ask("release", lambda: self._reports.release(client_order_id, digest, claim))

    async def find(self, client_order_id: str) -> ExecutionReport | InFlight | None:
        return await self._ask("find", lambda: self._reports.find(client_order_id))

    async def _ask[T](self, name: str, question: Callable[[], Awaitable[T]]) -> T:
        await self._process.gate(f"before reports {name}")
        self._may_be_away()
        try:
            answer = await question()
        finally:
            await self._process.gate(f"after reports {name}")
        self._may_be_away()
        return answer

    def _may_be_away(self) -> None:
        if self._weather.strikes("redis"):
            raise ReportStoreUnavailable("redis does not answer")


class Replica(Process):
    """One process of the engine: the desk on its own clients."""

    def __init__(
        self, name: str, doors: Doors, reports: MemoryReports, market: StormMarket, clock: SimulatedClock, budget: WeightBudget, weather: Weather,
        stepped: Callable[[Process, str], None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, stepped)
        spent = cast(Budget, Gated(budget, self, "budget"))
        self.exchanges = exchanges = BinanceExchanges(Seal(), ADDRESSES, spent, market, clock, lambda: doors.of(self))
        gated = GatedReports(reports, self, weather)
        turns = Turns(gated)
        self.desk = Desk(
            market=market,
            clock=clock,
            once=Once(reports=gated),
            lasting=LastingOnce(reports=gated),
            venues=Venues(
                paper=lambda account: PaperVenue(market, clock, account.book),
                dry=lambda account: DryRunVenue(market, clock, account.dry_positions),
                real=lambda account: ExchangeVenue(account, exchanges, market, clock, Patience(), turns),
                exchanges=exchanges,
                dry_run=False,
            ),
            turns=turns,
        )


class Replicas:
    """All of them, behind one address; a dead one is followed by another."""

    def __init__(self, make: Callable[[str], Replica], count: int, weather: Weather) -> None:
        self._make, self._weather = make, weather
        self.ever: list[Replica] = []
        self.all = [self._another() for _ in range(count)]

    def living(self) -> Replica | None:
        """One by chance, as a balancer picks."""
        living = [one for one in self.all if not one.dead]
        return self._weather.choice(living) if living else None

    def kill(self, number: int) -> None:
        """Kill -9."""
        self.all[number % len(self.all)].kill()

    def restart(self) -> None:
        """Every dead one is followed by a new one."""
        self.all = [self._another() if one.dead else one for one in self.all]

    def _another(self) -> Replica:
        self.ever.append(self._make(f"engine-{len(self.ever) + 1}"))
        return self.ever[-1]


def new_budget(clock: SimulatedClock) -> WeightBudget:
    """What all replicas count together."""
    return WeightBudget(WEIGHT_LIMIT, clock.now_ms, reserve_share=RESERVE_SHARE)


class WireEngine:
    """The orchestrator's port Engine from one of its processes: what HttpEngine and the routes do, without HTTP."""

    def __init__(self, process: Process, replicas: Replicas, board: StormBoard, clock: SimulatedClock, weather: Weather) -> None:
        self._process, self._replicas, self._board, self._clock, self._weather = process, replicas, board, clock, weather
        self.signals: list[Signal] = []

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeReply:
        del request
        await self._process.gate("analyze")
        signals, self.signals = self.signals, []
        return AnalyzeReply(
            as_of=self._clock.now(), universe=len(self._board.lines), screened=len(self._board.lines), analyst=AnalystKind.RULES,
            candidates=[], signals=signals, rejections=[], timings_ms={"total": 1.0},
        )  # fmt: skip

    async def marks(self, since: Mapping[str, datetime]) -> MarksReply:
        await self._process.gate("marks")
        now = self._clock.now()
        marks = {
            symbol: SymbolMarks(
                mark=self._board.mark(symbol, self._clock.now_ms()), as_of=now, age_ms=0, bars=[], funding=[], since=now
            )
            for symbol in since
        }
        return MarksReply(as_of=now, marks=marks, missing={})

    async def enter(self, request: EntryRequest) -> ExecutionReport:
        return await self._send("entry", request, EntryRequest, enter, ExecutionReport, client.ORDER_SECONDS)

    async def close(self, request: CloseRequest) -> ExecutionReport:
        return await self._send("close", request, CloseRequest, close, ExecutionReport, client.ORDER_SECONDS)

    async def protect(self, request: ProtectRequest) -> ProtectReport:
        return await self._send("protect", request, ProtectRequest, protect, ProtectReport, client.ORDER_SECONDS)

    async def flatten(self, request: FlattenRequest) -> FlattenReply:
        return await self._send("flatten", request, FlattenRequest, flatten, FlattenReply, client.FLATTEN_SECONDS)

    async def truth(self, request: TruthRequest) -> TruthReply:
        return await self._send("truth", request, TruthRequest, truth, TruthReply, client.TRUTH_SECONDS)

    async def guards(self, request: GuardsRequest) -> GuardsReply:
        return await self._ask("guards", request, guards, GuardsReply)

    async def cancel(self, request: CancelRequest) -> CancelReply:
        return await self._send("cancel", request, CancelRequest, cancel, CancelReply, client.ORDER_SECONDS)

    async def canary(self, account: Account) -> CanaryReply:
        async def asked(desk: Desk, request: AccountRequest) -> CanaryReply | Problem:
            return await canary(desk, request.account)

        return await self._send(
            "canary", AccountRequest(account=account), AccountRequest, asked, CanaryReply, client.ORDER_SECONDS
        )

    async def balance(self, account: Account) -> BalanceReply:
        async def asked(desk: Desk, request: AccountRequest) -> BalanceReply | Problem:
            return await balance(desk, request.account)

        return await self._ask("balance", AccountRequest(account=account), asked, BalanceReply)

    async def positions(self, account: Account) -> PositionsReply:
        async def asked(desk: Desk, request: AccountRequest) -> PositionsReply:
            return await positions(desk, request.account)

        return await self._ask("positions", AccountRequest(account=account), asked, PositionsReply)

    async def order(self, client_order_id: str, account: Account, symbol: str | None = None) -> OrderReply:
        async def asked(desk: Desk, request: AccountRequest) -> OrderReply:
            return await look_up(desk, request.account, client_order_id, request.symbol)

        return await self._ask("order", AccountRequest(account=account, symbol=symbol), asked, OrderReply)

    async def events(self, account: Account) -> AsyncIterator[AccountEvent]:
        await self._process.gate("before events")
        replica = self._replicas.living()
        if replica is None:
            raise EngineUnavailable("/execute/events: no replica")
        request = AccountRequest(account=account)
        died = asyncio.ensure_future(replica.died.wait())
        begun = replica.begin(listen(replica.desk, request.account))
        await asyncio.wait({begun, died}, return_when=asyncio.FIRST_COMPLETED)
        await self._process.here()
        if replica.dead:
            raise EngineUnavailable("/execute/events: the connection broke")
        lines = begun.result()
        if isinstance(lines, Problem):
            raise _refusal(lines)
        while True:
            line = replica.begin(_next(lines))
            await asyncio.wait({line, died}, return_when=asyncio.FIRST_COMPLETED)
            await self._process.gate("event")
            found = line.result() if line.done() and not replica.dead else None
            if found is None:
                raise EngineUnavailable("/execute/events: the stream ended")
            yield decode(found, AccountEvent)

    async def public_key(self) -> PublicKeyReply:
        raise EngineUnavailable("keys do not storm")

    async def reseal(self, request: ResealRequest) -> SealedCredentials:
        raise EngineUnavailable("keys do not storm")

    async def check_keys(self, account: Account) -> KeyCheckReply:
        raise EngineUnavailable("keys do not storm")

    async def claim_keys(self, user_id: str) -> SealedCredentials:
        raise EngineUnavailable("keys do not storm")

    async def _connected(self) -> Replica | None:
        """A replica that takes the connection, tried as often as the client tries."""
        for pause in (*client.CONNECT_AGAIN_SECONDS, None):
            replica = self._replicas.living()
            if replica is not None and not self._weather.strikes("request lost"):
                return replica
            if pause is not None:
                await asyncio.sleep(pause)
        return None

    async def _ask[B: msgspec.Struct, R](
        self, name: str, body: B, work: Callable[[Desk, B], Awaitable[R | Problem]], kind: type[R]
    ) -> R:
        try:
            return await self._send(name, body, type(body), work, kind, client.READ_SECONDS)
        except EngineRefused:
            raise
        except EngineUnavailable:
            await asyncio.sleep(client.RETRY_AFTER_SECONDS)
            return await self._send(name, body, type(body), work, kind, client.READ_SECONDS)

    async def _send[B: msgspec.Struct, R](
        self,
        name: str,
        body: B,
        kind: type[B],
        work: Callable[[Desk, B], Awaitable[R | Problem]],
        answer: type[R],
        seconds: float,
    ) -> R:
        await self._process.gate(f"before {name}")
        await asyncio.sleep(self._weather.between(*WIRE_SECONDS))
        replica = await self._connected()
        if replica is None:
            raise EngineUnavailable(f"{name}: ConnectError")
        asked = decode_strict(encode(body), kind)
        serving = replica.begin(_served(work(replica.desk, asked)))
        died = asyncio.ensure_future(replica.died.wait())
        done, _ = await asyncio.wait({serving, died}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        await self._process.gate(f"after {name}")
        if serving not in done or replica.dead:
            raise EngineUnavailable(f"{name}: {'the connection broke' if replica.dead else 'TimeoutError'}")
        await asyncio.sleep(self._weather.between(*WIRE_SECONDS))
        await self._process.here()
        if self._weather.strikes("reply lost"):
            raise EngineUnavailable(f"{name}: the connection broke")
        status, told = serving.result()
        if status == 200:
            return decode(told, answer)
        raise _told(decode(told, Problem), status)


async def _next(lines: AsyncIterator[bytes]) -> bytes | None:
    return await anext(lines, None)


async def _served(work: Awaitable[Any]) -> tuple[int, bytes]:
    """What a route does with a use case: its status and body."""
    try:
        return 200, encode(_or_unavailable(await work))
    except ProblemError as error:
        return error.status, encode(error.problem)
    except ClientOrderIdReused as error:
        return 409, encode(Problem(code="client_order_id_reused", detail=str(error)))
    except EngineError as error:
        return 503, encode(Problem(code="engine_unavailable", detail=str(error)))


def _refusal(problem: Problem) -> EngineUnavailable:
    try:
        _or_unavailable(problem)
    except ProblemError as error:
        return _told(problem, error.status)
    raise AssertionError(problem)


def _told(problem: Problem, status: int) -> EngineUnavailable:
    if status < 500:
        return EngineRefused(problem.code, problem.detail, status)
    return EngineUnavailable(f"{problem.code}: {problem.detail}")
