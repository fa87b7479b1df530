"""The orchestrator's processes over the in-memory store: the real use cases composed anew at each start, and loops as the worker has them.

A process that dies in a transaction leaves nothing of it: the store lets go of its lock, as PostgreSQL does when a backend's client is gone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from random import Random
from types import TracebackType
from typing import Any, Final, Self, cast
from uuid import UUID

from orchestrator.balances import KnownBalances
from orchestrator.errors import LeaseLost, OrchestratorError, StoreUnavailable
from orchestrator.ports import Bus, Lifeline, UnitOfWork
from orchestrator.trading.compose import Ports, Trading, compose
from orchestrator.trading.enter import EntryRules
from orchestrator.trading.scan import ScanRules
from tests.fakes import FakeJobs, FakeLifeline, FakeStore, FakeUnit
from tests.fault_storm.board import Weather
from tests.fault_storm.engine import WireEngine
from tests.fault_storm.processes import Gated, Process
from tests.fault_storm.simulated_time import SimulatedClock

STATEMENT_SECONDS: Final = 0.001
WATCH_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 2.0
"""As `orchestrator.worker` has it, whose import takes seconds."""

RECENT: Final = timedelta(seconds=1)
"""Signals come every few seconds here; the defence's hour is another test's."""


class SeededIds:
    """Ids that a seed repeats."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def new(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)


class Told:
    """A bus that nobody listens to; alerts are kept."""

    def __init__(self) -> None:
        self.alerts: list[str] = []

    async def publish(self, user_id: UUID | None, event: str, data: dict[str, Any]) -> None:
        del user_id
        if event == "alert":
            self.alerts.append(str(data))


class _Lease:
    def __init__(self, leases: "Leases", name: str, token: int) -> None:
        self._leases, self._name, self._token = leases, name, token

    async def extend(self) -> None:
        if not self._leases.extended(self._name, self._token):
            raise LeaseLost(self._name)


class Leases:
    """A mutex over all processes whose leases end by themselves."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._held: dict[str, tuple[int, datetime, float]] = {}
        self._tokens = 0

    @asynccontextmanager
    async def hold(self, name: str, seconds: float) -> AsyncIterator[_Lease | None]:
        standing = self._held.get(name)
        if standing is not None and standing[1] > self._clock.wall():
            yield None
            return
        self._tokens += 1
        token = self._tokens
        self._held[name] = (token, self._clock.wall() + timedelta(seconds=seconds), seconds)
        try:
            yield _Lease(self, name, token)
        finally:
            if self._held.get(name, (0,))[0] == token:
                del self._held[name]

    def extended(self, name: str, token: int) -> bool:
        standing = self._held.get(name)
        if standing is None or standing[0] != token or standing[1] <= self._clock.wall():
            return False
        self._held[name] = (token, self._clock.wall() + timedelta(seconds=standing[2]), standing[2])
        return True


class ProcessLeases:
    """One process's leases; a dead one's are left to expire."""

    def __init__(self, leases: Leases, process: Process) -> None:
        self._leases, self._process = leases, process

    @asynccontextmanager
    async def hold(self, name: str, seconds: float) -> AsyncIterator[_Lease | None]:
        await self._process.gate(f"before lease {name}")
        holding = self._leases.hold(name, seconds)
        lease = await holding.__aenter__()
        await self._process.gate(f"after lease {name}")
        try:
            yield lease
        finally:
            await self._process.gate(f"before the end of lease {name}")
            await holding.__aexit__(None, None, None)


class ProcessStore:
    """One process's connections to the store."""

    def __init__(self, store: FakeStore, process: Process, weather: Weather) -> None:
        self.store, self.process, self.weather = store, process, weather
        self.open: ProcessUnit | None = None
        process.at_death.append(self._rolled_back)

    def begin(self) -> UnitOfWork:
        return ProcessUnit(self)

    def _rolled_back(self) -> None:
        if self.open is not None:
            self.open = None
            self.store.holder = None
            self.store.lock.release()


class ProcessUnit(FakeUnit):
    """A transaction of one process: a gate before each statement, and before and after its commit."""

    def __init__(self, connections: ProcessStore) -> None:
        super().__init__(connections.store)
        self._connections = connections
        self._process = connections.process

    async def __aenter__(self) -> Self:
        await self._process.gate("before begin")
        if self._connections.weather.strikes("database"):
            raise StoreUnavailable("postgresql: OperationalError")
        await super().__aenter__()
        if self._process.dead:
            self._store.lock.release()
            await self._process.bury()
        self._connections.open = self
        for name in FakeUnit.__annotations__:
            setattr(self, name, Gated(getattr(self, name), self._process, name))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.dead:
            await self._process.bury()
        self._connections.open = None
        await super().__aexit__(kind, error, trace)

    async def commit(self) -> None:
        await asyncio.sleep(STATEMENT_SECONDS)
        await self._process.gate("before commit")
        if self._connections.weather.strikes("database"):
            raise StoreUnavailable("postgresql: OperationalError")
        await super().commit()
        await self._process.gate("after commit")
        if self._connections.weather.strikes("database"):
            raise StoreUnavailable("postgresql: OperationalError")


class Service(Process):
    """One process of the orchestrator, worker or web: the use cases on its own connections.

    Args:
        name: For the trace.
        store: Shared with all others.
        engine_of: Makes its way to the engine.
        shared: Leases, clock, ids, bus: what all processes see.
        stepped: See Process.
    """

    def __init__(
        self,
        name: str,
        store: FakeStore,
        engine_of: Callable[[Process], WireEngine],
        shared: "Shared",
        stepped: Callable[[Process, str], None] | None = None,
    ) -> None:
        super().__init__(name, stepped)
        self.engine = engine_of(self)
        self.crashes: list[BaseException] = []
        ports = Ports(
            transactions=ProcessStore(store, self, shared.weather).begin,
            engine=self.engine,
            balances=KnownBalances(shared.clock),
            mutex=ProcessLeases(shared.leases, self),
            bus=cast(Bus, Gated(shared.bus, self, "live messages")),
            clock=shared.clock,
            ids=shared.ids,
            jobs=FakeJobs(),
            lifeline=cast(Lifeline, Gated(FakeLifeline(), self, "lifeline")),
        )
        self.trading: Trading = compose(ports, EntryRules(dry_run=False), ScanRules(recent=RECENT))

    def work(self) -> None:
        """Begins the worker's loops."""
        trading = self.trading
        for run in (trading.settle.run, trading.follow.run, trading.panic.resume, trading.approve.expire, trading.scan.finish):
            self.begin(self._repeat(run))
        self.begin(self._repeat(trading.follow.alarm, WATCH_SECONDS))

    async def _repeat(self, run: Callable[[], Awaitable[object]], seconds: float = SETTLE_SECONDS) -> None:
        """What `orchestrator.loops.repeat` does: a failure is told, and the loop goes on."""
        while not self.dead:
            try:
                await run()
            except OrchestratorError:
                pass
            except Exception as error:  # noqa: BLE001 - the edge of a loop
                self.crashes.append(error)
            await asyncio.sleep(seconds)


class Shared:
    """What all processes of the orchestrator see."""

    def __init__(self, clock: SimulatedClock, weather: Weather, random: Random) -> None:
        self.clock, self.weather = clock, weather
        self.leases, self.bus, self.ids = Leases(clock), Told(), SeededIds(random)
