"""The request weight of a scan against the sandbox's own limits, in time that jumps: it reads less, says so, and is never banned."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest

from deploy.sandbox.core.limits import Ledger, Pool, Standing
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.files import open_market
from deploy.sandbox.inprocess import InProcess
from deploy.sandbox.options import SandboxOptions
from engine.analysis import Governor, RulesAnalyst, ScanPlan, Sources, scan
from engine.budget import WeightBudget
from engine.candles import BinanceData, Door
from engine.core.market import at
from engine.core.screen import ScreenBounds
from engine.errors import VenueAway
from shared.analysis import AnalyzeReply, AnalyzeRequest, RejectionReason
from tests.contract.engine_binance_server import bench
from tests.unit.engine.market_world import Kept
from tests.virtual_time import run, wall_of

BASE_MS = 1_800_000_000_000
MARKET = open_market(SandboxOptions(speed=1, base_wall_ms=BASE_MS))
PLAN = ScanPlan(bounds=ScreenBounds(min_quote_volume=0, min_change_percent=0, top_n=4), min_confidence=60)
LOWERED = 200
READ = 24
"""Coins whose candles are read: six times the candidates wanted."""


class Witness(Ledger):
    """Counts what the exchange answered."""

    def __init__(self, weight_limit: int) -> None:
        super().__init__(weight_limit)
        self.answers: Counter[int] = Counter()

    def spend(self, pool: Pool, cost: int, now: int) -> Standing:
        standing = super().spend(pool, cost, now)
        self.answers[standing.status] += 1
        return standing

    def grant(self, weight_limit: int) -> None:
        """Grants so much from now on, told to nobody."""
        self._limit = weight_limit


class LoopClock:
    """Market and wall time of a sandbox on the running loop."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def now_ms(self) -> int:
        return self._exchange.now()

    def wall_ms(self) -> int:
        return self._exchange.wall_ms()

    def now(self) -> datetime:
        return at(self.now_ms())

    def wall(self) -> datetime:
        return at(self.wall_ms())

    def wall_seconds(self, since: datetime, until: datetime) -> float | None:
        return (until - since).total_seconds()


class Scanner:
    """An engine that was given 2,400 a minute, at an exchange that grants what it likes."""

    def __init__(self, says: int) -> None:
        options = SandboxOptions(speed=1, weight_limit=says, base_wall_ms=BASE_MS)
        exchange = Exchange(options, wall_of(asyncio.get_running_loop(), BASE_MS), MARKET)
        self.witness = Witness(says)
        exchange.callers["127.0.0.1"] = self.witness
        place: Any = InProcess(exchange)
        self.clock = LoopClock(exchange)
        self.budget = WeightBudget(2400, self.clock.now_ms, reserve_share=0.2)
        data = BinanceData(Door(place.session(), "http://sandbox", self.budget), self.clock)
        governor = Governor(left=self.budget.left, cost=data.candle_cost)
        self.sources = Sources(market=data, snapshots=Kept(), clock=self.clock, governor=governor)

    async def scan(self, **changes: Any) -> AnalyzeReply:
        return await scan(msgspec.convert(changes, AnalyzeRequest), PLAN, self.sources, RulesAnalyst(), None)


def on_a_loop(proof: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await proof()

    run(main())


def unread(found: AnalyzeReply) -> int:
    return sum(no.reason is RejectionReason.REQUEST_WEIGHT_SPENT for no in found.rejections)


def test_a_limit_that_exchange_info_tells_is_kept_from_the_first_scan_and_what_was_left_unread_is_read_later() -> None:
    async def proof() -> None:
        scanner = Scanner(LOWERED)
        screened: list[int] = []
        while not screened or (screened[-1] < READ and len(screened) < 6):
            found = await scanner.scan()
            screened.append(found.screened)
            assert found.screened + unread(found) == READ
            said = f"{unread(found)} symbol{'s' * (unread(found) > 1)} not read: request weight"
            assert (said in found.fallbacks) is (unread(found) > 0)
            await asyncio.sleep(61)
        assert 0 < screened[0] < screened[-1] == READ
        assert screened == sorted(screened)
        assert set(scanner.witness.answers) == {200}
        assert scanner.budget.limit == LOWERED

    on_a_loop(proof)


def test_a_limit_that_is_lowered_without_a_word_costs_one_wave_of_refusals_and_then_none() -> None:
    async def proof() -> None:
        scanner = Scanner(2400)
        assert (await scanner.scan()).screened == READ
        scanner.witness.grant(100)
        await asyncio.sleep(15 * 60)
        await scanner.scan()
        first = scanner.witness.answers[429]
        assert 1 <= first <= 10
        for _ in range(4):
            await asyncio.sleep(61)
            assert (await scanner.scan()).universe > 100
        assert scanner.witness.answers[429] == first
        assert scanner.witness.answers[418] == 0

    on_a_loop(proof)


async def test_a_limit_that_a_signed_call_is_refused_with_is_kept_by_every_call() -> None:
    async with bench() as tiny:
        words = "Too many requests; current limit of IP(1.2.3.4) is 600 requests per minute. Please use the websocket."
        tiny.exchange.says("GET", "/fapi/v3/balance", {"code": -1003, "msg": words}, 429, {"Retry-After": "0"})
        tiny.exchange.says("GET", "/fapi/v3/account", {"code": -1003, "msg": words}, 429, {"Retry-After": "0"})
        with pytest.raises(VenueAway):
            await tiny.entering.wallet()
        assert tiny.budget.limit == 600
