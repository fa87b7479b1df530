"""Follows every real account: a listener to its stream of nudges and a keeper that reconciles after each nudge, and each minute anyway.

Nothing protective waits in a queue, and none of it on a nudge alone, which may be lost: a market that has passed a stop is seen in the
mark prices too. A nudge says only that something changed; the truth is asked for. Between two truths of an account
of which something is wrong, or that was not heard, what guards its positions is glanced at each second: that costs little, and a stop
that failed cannot wait for the books. Each worker follows everybody: booking is idempotent, so that two of them only hear the same twice.
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from orchestrator.core.truth import beyond
from orchestrator.errors import EngineRefused, OrchestratorError
from orchestrator.log import logger
from orchestrator.ports import Clock, Engine, OrderRecord, PositionRecord, Transactions
from orchestrator.trading.accounts import account_of
from orchestrator.trading.prices import fresh_marks
from orchestrator.trading.reconcile import CLOSED_LATELY, Reconcile, Reconciled
from shared.enums import Mode
from shared.execution import EntryRequest

EVERY_SECONDS: Final = 55.0
"""Wall time between two truths of an account that says nothing: with what one takes itself, each minute has one."""

NARROWED_SECONDS: Final = 30.0
"""Instead, after a truth that did not show the orders of every symbol, which are asked for each twenty seconds: what rests for nothing
elsewhere is swept within the minute. And while no stream tells of what happens."""

SOON_SECONDS: Final = 2.0
"""Until the next look at what was triggered and did not fill, or could not be explained; doubled from the third such look on."""

QUICK_LOOKS: Final = 3

DEBOUNCE_SECONDS: Final = 0.05
"""One fill nudges several times within a few milliseconds."""

LONGEST_SOON_SECONDS: Final = 10.0
"""However often the next look came to nothing: an account of which something is not explained, or that was not heard, is not left for a minute."""

GLANCE_SECONDS: Final = 0.5
"""Between two glances at what guards a position of which something is wrong."""

BLIND_SECONDS: Final = 1.0
"""Between two glances where nothing is wrong that is known of, but no truth is heard, or one takes so long."""

EAGER_SECONDS: Final = 6.0
"""For so long it is glanced as often as that: what could not be put right in that time, or heard, is looked at less and less often, since the
budget's reserve is for acting."""

LONGEST_GLANCE_SECONDS: Final = 4.0

REFUSED_GLANCE_SECONDS: Final = 1.5
"""Instead, while the exchange does not take the account's key: such a glance is one request, and nothing else tells that the key is good again."""

GLANCES_AT_ONCE: Final = 2

APART_SECONDS: Final = 2.0
"""Between two truths of one account, however often it nudges: each costs 80 and more of the 2400 weight a minute that all share."""

AGAIN_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a stream is opened again; the last one for ever."""

REFUSED_SECONDS: Final = 30.0
"""Before an account that the engine refuses (no credentials, a halted key) is asked for a stream again, unless a truth is heard before."""

PING: Final = "PING"


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    """How often; tests use their own."""

    every: float = EVERY_SECONDS
    narrowed: float = NARROWED_SECONDS
    soon: float = SOON_SECONDS
    debounce: float = DEBOUNCE_SECONDS
    apart: float = APART_SECONDS
    glance: float = GLANCE_SECONDS
    blind: float = BLIND_SECONDS
    again: tuple[float, ...] = AGAIN_SECONDS
    refused: float = REFUSED_SECONDS


class Follow:
    """Keeps one follower for each user with something real."""

    def __init__(
        self, transactions: Transactions, engine: Engine, reconcile: Reconcile, clock: Clock, rhythm: Rhythm | None = None
    ) -> None:
        self._transactions = transactions
        self._engine = engine
        self._reconcile = reconcile
        self._clock = clock
        self._rhythm = rhythm or Rhythm()
        self._sights: dict[UUID, _Sight] = {}
        self._passed: set[UUID] = set()
        self._followers: dict[UUID, asyncio.Task[None]] = {}

    async def run(self) -> int:
        """Begins to follow who is new and lets go of who has nothing real any more; how many are followed."""
        async with self._transactions() as unit:
            users = set(await unit.traders.with_real(self._clock.now() - CLOSED_LATELY))
        for user_id in [known for known, task in self._followers.items() if known not in users or task.done()]:
            self._sights.pop(user_id, None)
            await _end(self._followers.pop(user_id))
        for user_id in users - set(self._followers):
            self._sights[user_id] = _Sight()
            self._followers[user_id] = asyncio.create_task(self._follow(user_id, self._sights[user_id]))
        return len(self._followers)

    async def alarm(self) -> int:
        """Has those accounts glanced at of which the market has passed a stop or a target; how many.

        An entry that is not booked yet may stand at the exchange for as long as its carrier is believed alive: it counts too.

        Raises:
            StoreUnavailable: A store did not answer.
        """
        async with self._transactions() as unit:
            guarded = await unit.positions.guarded_everywhere()
            entries = await unit.orders.entries_everywhere()
        rows: list[PositionRecord | OrderRecord] = [*guarded, *entries]
        marks = await fresh_marks(self._engine, {one.symbol for one in rows}, self._clock.now())
        passed = {one.id: one.user_id for one in rows if one.symbol in marks and beyond(one.side, *_aim(one), marks[one.symbol])}
        for position_id, user_id in passed.items():
            sight = self._sights.get(user_id)
            if sight is not None and position_id not in self._passed:
                sight.alarm()
            elif sight is not None:
                sight.learns(True, sight.looks())
        self._passed = set(passed)
        return len(set(passed.values()))

    async def end(self) -> None:
        """Lets go of everybody; whatever was committed is gone on with at the next start."""
        followers, self._followers = list(self._followers.values()), {}
        await _end(*followers)

    async def _follow(self, user_id: UUID, sight: "_Sight") -> None:
        nudged = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._guarded("following a real account", user_id, lambda: self._keep(user_id, nudged, sight)))
            group.create_task(self._guarded("listening to a real account", user_id, lambda: self._listen(user_id, nudged, sight)))
            group.create_task(self._guarded("glancing at a real account", user_id, lambda: self._glance(user_id, sight)))

    async def _keep(self, user_id: UUID, nudged: asyncio.Event, sight: "_Sight") -> None:
        looks = 0
        while True:
            nudged.clear()
            asked = sight.asks(asyncio.get_running_loop().time())
            done = await self._once(user_id)
            sight.hears(done, asked)
            looks = looks + 1 if done.soon else 0
            await asyncio.sleep(self._rhythm.apart)
            told = done.everywhere and sight.listens
            await _set_within(
                nudged, self._pause(looks, self._rhythm.every if told else self._rhythm.narrowed) - self._rhythm.apart
            )
            await asyncio.sleep(self._rhythm.debounce)

    async def _glance(self, user_id: UUID, sight: "_Sight") -> None:
        """Beside the truths, however long one takes: often while something is wrong, now and then while none is heard.

        One that hangs must not keep the next from looking: two may be under way.
        """
        loop, places = asyncio.get_running_loop(), asyncio.Semaphore(GLANCES_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._rhythm.glance)
                if not places.locked() and sight.calls(loop.time(), self._rhythm):
                    group.create_task(self._glance_once(user_id, sight, places))

    async def _glance_once(self, user_id: UUID, sight: "_Sight", places: asyncio.Semaphore) -> None:
        """Looks, and acts on it. Its place is free by then: to close one position takes seconds, in which another may lose its stop."""
        try:
            async with places:
                asked = sight.looks()
                glanced = await self._reconcile.glance(user_id, light=not sight.wrong)
            sight.glanced(glanced.said, asked, asyncio.get_running_loop().time())
            await self._reconcile.act(user_id, glanced)
        except OrchestratorError as error:
            sight.misses()
            logger().warning("a glance waits", user_id=str(user_id), error=f"{type(error).__name__}: {error}")
        except Exception:  # noqa: BLE001 - the edge of a follower, as for a truth
            logger().exception("a glance at a real account failed", user_id=str(user_id))

    def _pause(self, looks: int, longest: float) -> float:
        """Until the next truth when nothing nudges, after that many in a row that asked for another soon."""
        if looks == 0:
            return min(self._rhythm.every, longest)
        later = self._rhythm.soon * 2.0 ** max(0, min(looks - QUICK_LOOKS, 10))
        return min(later, self._rhythm.every, LONGEST_SOON_SECONDS)

    async def _once(self, user_id: UUID) -> Reconciled:
        try:
            return await self._reconcile.user(user_id)
        except OrchestratorError as error:
            logger().warning("a real account waits", user_id=str(user_id), error=f"{type(error).__name__}: {error}")
            return Reconciled(heard=False, soon=True)
        except Exception:  # noqa: BLE001 - the edge of a follower: a truth that cannot be booked must not end the ones after it
            logger().exception("reconciling a real account failed", user_id=str(user_id))
            return Reconciled(heard=False, soon=True)

    async def _listen(self, user_id: UUID, nudged: asyncio.Event, sight: "_Sight") -> None:
        failures = 0
        while True:
            try:
                async with self._transactions() as unit:
                    trader = await unit.traders.lock(user_id)
                if trader is None:
                    return
                async for event in self._engine.events(account_of(trader, Mode.REAL, [], None, dry_run=False)):
                    failures, sight.listens = 0, True
                    if event.kind != PING:
                        nudged.set()
                        sight.alarm()  # a glance tells, where the next truth has to wait
            except EngineRefused as refused:
                logger().info("an account has no stream", user_id=str(user_id), error=str(refused))
                await sight.heard_within(self._rhythm.refused)
                continue
            except OrchestratorError as error:
                logger().info("a stream of an account ended", user_id=str(user_id), error=f"{type(error).__name__}: {error}")
            finally:
                sight.listens = False
            pauses = self._rhythm.again
            await asyncio.sleep(pauses[min(failures, len(pauses) - 1)])
            failures += 1

    async def _guarded(self, what: str, user_id: UUID, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:
            logger().exception(f"{what} failed", user_id=str(user_id))
            raise


class _Sight:
    """What is known of how an account stands: whether something is wrong, and since when; and since when no truth was heard.

    Answers overtake each other: what was asked for later is what counts, whenever it comes.
    """

    def __init__(self) -> None:
        self.wrong = False
        self.listens = False
        self._heard = asyncio.Event()
        self._questions = 0
        self._known = 0
        self._unheard_since: float | None = None
        self._troubled_since: float | None = None
        self._glanced_at = 0.0
        self._silent_since: float | None = None
        self._refused = False

    def alarm(self) -> None:
        """Something new may be wrong: whatever else lasts, this is looked at eagerly."""
        self.learns(True, self.looks())
        self._troubled_since = None

    def looks(self) -> int:
        """The account is looked at; the number by which the answer's age is known."""
        self._questions += 1
        return self._questions

    def learns(self, wrong: bool, asked: int) -> None:
        """What a look said, unless a later one has said it already."""
        if asked >= self._known:
            self.wrong, self._known = wrong, asked

    def misses(self) -> None:
        """A glance did not get as far as the exchange: the next one waits for nothing."""
        self._glanced_at = 0.0

    def glanced(self, done: Reconciled, asked: int, now: float) -> None:
        """What a glance said. The first that is heard after a long silence begins anew with eager ones: what could not be put right now can be."""
        self._refused = done.refused
        if not done.heard:
            self._silent_since = now if self._silent_since is None else self._silent_since
        elif self._silent_since is not None:
            if now - self._silent_since >= EAGER_SECONDS:
                self._troubled_since = None
            self._silent_since = None
        self.learns(done.wrong, asked)

    def asks(self, now: float) -> int:
        """A truth is asked for; as for a look."""
        self._unheard_since = now if self._unheard_since is None else self._unheard_since
        return self.looks()

    def hears(self, done: Reconciled, asked: int) -> None:
        """It came, or did not."""
        if done.heard:
            self._unheard_since = None
            self._heard.set()
            self.learns(done.wrong, asked)

    async def heard_within(self, seconds: float) -> None:
        """Waits for a truth, at most so long: where one comes, a key that was refused is good again, and a stream may be too."""
        self._heard.clear()
        await _set_within(self._heard, seconds)

    def calls(self, now: float, rhythm: Rhythm) -> bool:
        """Whether it is time for a glance: the longer the trouble lasts, the longer the pauses."""
        blind = self._unheard_since is not None and now - self._unheard_since >= rhythm.blind
        if not self.wrong and not blind:
            self._troubled_since = None
            return False
        self._troubled_since = now if self._troubled_since is None else self._troubled_since
        lasts = now - self._troubled_since
        pause = rhythm.glance if self.wrong else rhythm.blind
        pause *= 1.0 if lasts < EAGER_SECONDS else 2.0 ** min(lasts // EAGER_SECONDS, 6)
        longest = REFUSED_GLANCE_SECONDS if self._refused else LONGEST_GLANCE_SECONDS
        if now - self._glanced_at < min(pause, longest) - rhythm.glance / 2:
            return False
        self._glanced_at = now
        return True


def _aim(row: PositionRecord | OrderRecord) -> tuple[Decimal | None, Decimal | None]:
    """Stop and target: as they are, or as they were asked for; none where that does not read, which must not end the alarm of everybody."""
    try:
        aim = row if isinstance(row, PositionRecord) else msgspec.convert(row.request, EntryRequest)
    except msgspec.ValidationError:
        return None, None
    return aim.stop_loss, aim.take_profit


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting}, timeout=seconds)
    finally:
        waiting.cancel()


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
