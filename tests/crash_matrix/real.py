"""Every await of a real order's life, cut once: each at which a task is suspended, and each step that leaves a process.

In process and in time that jumps: the real use cases of both services, the real ccxt, the sandbox's exchange. A run without a cut numbers
the moments of a deed: each await at which a task of a process is suspended (`awaits.py`), and each step that leaves any process: before a
request leaves and after the server acted, each statement and commit, each command of Redis. None is taken for another's equal: each is
cut. Its process dies right there (its coroutines are kept, never closed), starts anew a second later, and a minute after that the four
invariants are judged. `python -m tests.crash_matrix.real` prints a line a deed.
"""

import argparse
import asyncio
import random
import sys
import warnings
from collections import deque
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from orchestrator.trading.panic import REAL_LASTS
from shared.enums import Side
from shared.margin import round_to_tick
from tests.crash_matrix.awaits import Awaits
from tests.fault_storm.judge import Judgement
from tests.fault_storm.one import quiet
from tests.fault_storm.processes import Process
from tests.fault_storm.schedule import Schedule, Step
from tests.fault_storm.simulated_time import SimulatedClock, SimulatedLoop, process_time, run
from tests.fault_storm.world import World

BACK_SECONDS: Final = 1.0
LASTS_SECONDS: Final = REAL_LASTS.total_seconds() + 5.0
"""No deed takes longer than a panic, which then says what is still open."""

QUIET_SECONDS: Final = 3.0
UNPROTECTED_MOST_SECONDS: Final = 30.0
"""A position that was opened by a process that then died waits for the next to find it: a nudge, or the order's carrier's time."""


class Moment(NamedTuple):
    """Where a process may be cut: right before a step that leaves it, or at an await.

    Attributes:
        process: engine, worker or web.
        step: The step, or the line of the product that awaits.
        awaits: Whether it is an await.
    """

    process: str
    step: str
    awaits: bool


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """One cut and what became of it; `number` 0 is the run without one."""

    deed: str
    number: int
    process: str
    step: str
    awaits: bool = False
    violations: list[str]
    unprotected_seconds: float


class Counter:
    """Numbers the moments while a deed is done, and kills at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.counting = at, False
        self.moments: list[Moment] = []

    def __call__(self, process: Process, step: str) -> None:
        """Before a step that leaves the process."""
        self._pass(process, step, awaits=False)

    def suspended(self, process: Process, place: str) -> None:
        """At an await."""
        self._pass(process, place, awaits=True)

    def _pass(self, process: Process, step: str, *, awaits: bool) -> None:
        if self.counting and not (self.at and len(self.moments) >= self.at):
            self.moments.append(Moment(process.name.partition("-")[0], step, awaits))
            if len(self.moments) == self.at:
                process.kill()


def step_of(what: str, symbol: str = "SOLUSDT", *dice: float) -> Step:
    """A step of a storm's schedule, by hand."""
    given = (*dice, 0.0, 0.3, 0.5, 0.0)[:4]
    return Step(at=0.0, what=what, user=0, symbol=symbol, side=Side.LONG, dice=given)


def calm(seed: int = 1) -> Schedule:
    """A schedule in which nothing happens by itself."""
    return Schedule(
        seed=seed, begins_at=7.0, users=1, wallet=20_000, leverage=10, order_size=100, auto_trade=(True,), cuts=True, rules=[],
        ours={}, steps=[],
    )  # fmt: skip


def submit(world: World) -> Awaitable[Any]:
    """A signal comes: claim, order, fill, stop and target."""
    world.worker.engine.signals = [world._signal("ETHUSDT", step_of("signals"), 0)]
    return world.worker.trading.scan.run()


def close(world: World) -> Awaitable[Any]:
    """The whole position is closed."""
    (held,) = world.store.rows.live()
    return world.web.trading.desk.close(held.user_id, held.id, None)


def close_a_part(world: World) -> Awaitable[Any]:
    """Half of it is closed; what is left is protected in its new size."""
    (held,) = world.store.rows.live()
    part = held.size / 2 // held.step_size * held.step_size
    return world.web.trading.desk.close(held.user_id, held.id, part)


def amend(world: World) -> Awaitable[Any]:
    """The stop moves: the new one first, then the old one goes."""
    (held,) = world.store.rows.live()
    price = world.board.last(held.symbol, world.clock.now_ms())
    stop = round_to_tick(price * Decimal("0.98"), held.tick_size)
    return world.web.trading.desk.amend(held.user_id, held.id, stop_loss=stop, take_profit=None, trailing_ratio=None)


def trail(world: World) -> Awaitable[Any]:
    """A trailing stop is armed beside the plain one."""
    (held,) = world.store.rows.live()
    ratio = Decimal("0.005")
    return world.web.trading.desk.amend(held.user_id, held.id, stop_loss=None, take_profit=None, trailing_ratio=ratio)


def panic(world: World) -> Awaitable[Any]:
    """Two positions are flattened from the exchange's own view."""
    return world.web.trading.desk.panic(world.users[0])


DEEDS: Final[dict[str, tuple[Callable[[World], Awaitable[Any]], int]]] = {
    "submit": (submit, 0),
    "close": (close, 1),
    "close a part": (close_a_part, 1),
    "amend": (amend, 1),
    "trail": (trail, 1),
    "panic": (panic, 2),
}
"""With the positions that are open before."""


def run_cut(deed: str, number: int, trace: deque[str] | None = None) -> tuple[Cut, list[Moment]]:
    """One run, cut at a moment (0: not at all); and the moments until then."""
    loop, counter = SimulatedLoop(), Counter(number)
    worlds: list[World] = []
    loop.jump(calm().begins_at)
    loop.set_task_factory(Awaits(counter.suspended, lambda: bool(worlds) and worlds[0].judgement is not None).task)
    random.seed(1)

    async def main() -> Judgement:
        world = World(calm(), loop, trace, counter)
        worlds.append(world)
        return await _live(world, deed, counter)

    with process_time(SimulatedClock(loop)):
        judged = run(main(), loop)
    at = counter.moments[number - 1] if 0 < number <= len(counter.moments) else Moment("", "", awaits=False)
    longest = max(judged.unprotected_ms, default=0) / 1000
    violations = list(judged.violations)
    if longest > UNPROTECTED_MOST_SECONDS:
        violations.append(f"unprotected: {judged.longest}")
    cut = Cut(
        deed=deed, number=number, process=at.process, step=at.step, awaits=at.awaits, violations=violations, unprotected_seconds=longest
    )  # fmt: skip
    return cut, counter.moments


def run_all(deeds: list[str], every: int = 1) -> list[Cut]:
    """Every n-th moment of each deed, after the run without a cut.

    Raises:
        AssertionError: A run was not the same as the one that numbered its moments.
    """
    cuts: list[Cut] = []
    for deed in deeds:
        whole, moments = run_cut(deed, 0)
        cuts.append(whole)
        for number in range(1, len(moments) + 1, every):
            cut, until = run_cut(deed, number)
            if until != moments[:number]:
                raise AssertionError(f"{deed}: the run to {number} is not the one that was numbered")
            cuts.append(cut)
    return cuts


async def _live(world: World, name: str, counter: Counter) -> Judgement:
    deed, held = DEEDS[name]
    floor = asyncio.ensure_future(world._pass_time())
    world.worker.work()
    await world._opened_books()
    world.board.rest(world.clock.now_ms())
    await _entered(world, held)
    counter.counting = True
    service = world.worker if name == "submit" else world.web
    doing = service.begin(world._tried(service, deed(world), name))
    await _done_or_dead(world, doing)
    counter.counting = False
    await asyncio.sleep(BACK_SECONDS)
    judged = await world.rest(floor)
    live = [row.symbol for row in world.store.rows.live()]
    if name == "panic" and any(account.held() for account in world.accounts.values()):
        begun = any(row.phase != "stopping" or row.finished_at for row in world.store.rows.receipts.values())
        judged.violations += [f"unsettled: {symbol} is open after a panic" for symbol in live if begun]
    return judged


async def _entered(world: World, count: int) -> None:
    symbols = ("SOLUSDT", "BTCUSDT")[:count]
    if symbols:
        world.worker.engine.signals = [world._signal(symbol, step_of("signals"), 0) for symbol in symbols]
        await world.worker.trading.scan.run()
    await asyncio.sleep(QUIET_SECONDS)
    if len(world.store.rows.live()) != count:
        raise AssertionError("the positions of the prelude were not opened")


async def _done_or_dead(world: World, doing: asyncio.Task[None]) -> None:
    processes: list[Process] = [world.worker, world.web, *world.replicas.all]
    deaths = [asyncio.ensure_future(process.died.wait()) for process in processes]
    await asyncio.wait({doing, *deaths}, timeout=LASTS_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if any(process.dead for process in (world.worker, world.web)) or doing.done():
        return
    if any(process.dead for process in world.replicas.all):
        asyncio.get_running_loop().call_later(BACK_SECONDS, world._restart)
        await asyncio.wait({doing}, timeout=LASTS_SECONDS)


def table(cuts: list[Cut]) -> str:
    """One line a deed: how many of its moments were cut, of which kind and in whom."""
    head = f"{'deed':<14} {'steps':>6} {'awaits':>7} {'cuts':>6} {'engine':>7} {'worker':>7} {'web':>5} {'longest without a stop':>23}"
    lines = [f"{head} {'violations':>11}"]
    for deed in dict.fromkeys(cut.deed for cut in cuts):
        made = [cut for cut in cuts if cut.deed == deed and cut.number]
        awaits = sum(cut.awaits for cut in made)
        by = {name: sum(cut.process == name for cut in made) for name in ("engine", "worker", "web")}
        longest = max((cut.unprotected_seconds for cut in made), default=0.0)
        bad = sum(bool(cut.violations) for cut in cuts if cut.deed == deed)
        lines.append(
            f"{deed:<14} {len(made) - awaits:>6} {awaits:>7} {len(made):>6} {by['engine']:>7} {by['worker']:>7} {by['web']:>5}"
            f" {longest:>21.2f} s {bad:>11}"
        )  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """Runs the matrix; 1 when something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash_matrix.real", description=__doc__)
    parser.add_argument("--deeds", nargs="*", default=list(DEEDS), choices=list(DEEDS))
    parser.add_argument("--every", type=int, default=1, help="cut at every n-th moment only")
    parser.add_argument("--json", type=Path, help="write the outcome of every cut here")
    options = parser.parse_args()
    quiet()
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # what a dead process would have begun next
    cuts = run_all(options.deeds, options.every)
    for cut in cuts:
        for line in cut.violations:
            print(f"{cut.deed}, moment {cut.number} ({cut.process} {cut.step}): {line}")
    print(table(cuts))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(cuts)) + b"\n")
    return 1 if any(cut.violations for cut in cuts) else 0


if __name__ == "__main__":
    sys.exit(main())
