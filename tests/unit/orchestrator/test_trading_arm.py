"""The daily proof of protection: when it is due, what its failure stops, and what it leaves alone."""

from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from msgspec import structs

from orchestrator.core.arming import Readiness, canary_is_due, is_armed, lacks
from orchestrator.core.order import RefusalReason
from orchestrator.ports import Engine, FactorRow
from orchestrator.trading.arm import Arm
from orchestrator.trading.claims import stopped_for_real
from shared.enums import Mode
from shared.execution import SealedCredentials
from shared.problem import Problem
from tests.builders import trader
from tests.fakes import FakeBus, FakeClock, FakeLifeline
from tests.fakes_vault import FakeKeyEngine, FakeSealer, FakeVault

ADA = UUID(int=1)
DRY = "dry run: the account could be read, no order was placed"


class World:
    def __init__(self, *, dry_run: bool = False) -> None:
        self.vault, self.engine, self.bus, self.clock = FakeVault(), FakeKeyEngine(), FakeBus(), FakeClock()
        self.lifeline = FakeLifeline()
        engine = cast("Engine", self.engine)
        self.arm = Arm(self.vault, FakeSealer(), engine, self.lifeline, self.bus, self.clock, dry_run=dry_run)
        wall = self.clock.wall()
        self.vault.keys[ADA] = SealedCredentials(key_id="k1", sealed="-")
        self.vault.known[ADA] = Readiness(has_key=True, armed_at=wall, audited_at=wall, canary_at=wall, canary_passed=True)

    async def a_day_later(self) -> Readiness:
        self.clock.pass_wall(hours=24)
        await self.arm.run()
        return await self.arm.readiness(ADA)


async def test_a_canary_sings_each_day_and_not_more_often() -> None:
    world = World()
    assert await world.arm.run() == 0
    known = await world.a_day_later()
    assert (known.canary_passed, known.refusal, len(world.engine.canaries)) == (True, None, 1)
    assert await world.arm.run() == 0


async def test_a_canary_that_dies_stops_entries_with_the_reason_and_an_alert_and_sings_again_soon() -> None:
    world = World()
    world.engine.canary_passes = False
    known = await world.a_day_later()
    assert "not confirmed" in (known.refusal or "")
    assert len(world.bus.events("notice")) == 1
    world.clock.pass_wall(minutes=10)
    world.engine.canary_passes = True
    assert await world.arm.run() == 1
    assert (await world.arm.readiness(ADA)).refusal is None
    assert len(world.bus.events("notice")) == 1


async def test_a_key_that_may_withdraw_by_now_stops_entries() -> None:
    world = World()
    world.engine.problems = [Problem(code="key_can_withdraw", detail="it may withdraw")]
    known = await world.a_day_later()
    assert "it may withdraw" in (known.refusal or "")
    assert world.engine.canaries == []


async def test_a_key_that_the_exchange_revoked_stops_entries() -> None:
    world = World()
    world.engine.refuses = ("venue_halted", "-2015")
    assert "-2015" in ((await world.a_day_later()).refusal or "")


async def test_an_engine_that_is_away_for_a_moment_stops_nothing_one_that_stays_away_does() -> None:
    world = World()
    world.engine.away = True
    assert (await world.a_day_later()).refusal is None
    world.clock.pass_wall(hours=3)
    await world.arm.run()
    assert (await world.arm.readiness(ADA)).refusal is not None


def test_a_dry_runs_canary_proves_nothing_once_entries_are_live() -> None:
    wall = FakeClock().wall()
    known = Readiness(has_key=True, armed_at=wall, canary_at=wall, canary_passed=True, canary_detail=DRY)
    assert not canary_is_due(known, wall + timedelta(hours=1), dry_run=True)
    assert canary_is_due(known, wall + timedelta(hours=1), dry_run=False)


async def test_an_engine_in_a_dry_run_arms_nobody_for_live_entries() -> None:
    world = World()
    world.engine.canary_detail = DRY
    known = await world.a_day_later()
    assert "since the engine is in dry run" in (known.refusal or "")
    assert not is_armed(known, dry_run=False)
    world.clock.pass_wall(minutes=1)
    world.engine.canary_detail = ""
    assert await world.arm.run() == 1
    assert is_armed(await world.arm.readiness(ADA), dry_run=False)


async def test_after_a_dry_run_nothing_is_armed_for_live_entries_until_a_live_canary_sang_however_long_the_engine_is_away() -> (
    None
):
    world = World()
    world.vault.known[ADA] = structs.replace(world.vault.known[ADA], canary_detail=DRY)
    world.engine.away = True
    world.clock.pass_wall(hours=20)
    assert await world.arm.run() == 1
    assert not is_armed(await world.arm.readiness(ADA), dry_run=False)
    world.engine.away = False
    assert await world.arm.run() == 1
    assert is_armed(await world.arm.readiness(ADA), dry_run=False)


@pytest.mark.parametrize(
    ("changes", "dry_run", "reason"),
    [
        ({}, False, None),
        ({"credentials": None}, False, RefusalReason.NO_CREDENTIALS),
        ({"credentials": None}, True, None),
        ({"entries_stopped": "not proven"}, False, RefusalReason.REAL_STOPPED),
        ({"entries_stopped": "not proven"}, True, RefusalReason.REAL_STOPPED),
        ({"canary_detail": DRY}, False, RefusalReason.REAL_STOPPED),
        ({"canary_detail": DRY}, True, None),
    ],
)
def test_a_real_entry_needs_keys_of_its_own_and_no_stop(
    changes: dict[str, Any], dry_run: bool, reason: RefusalReason | None
) -> None:
    refusal = stopped_for_real(trader(mode=Mode.REAL, **changes), Mode.REAL, dry_run=dry_run)
    assert (refusal and refusal.reason) == reason
    assert stopped_for_real(trader(**changes), Mode.PAPER, dry_run=dry_run) is None


def test_the_problems_of_a_key_stand_among_what_is_missing() -> None:
    codes = [lack.code for lack in lacks(Readiness())]
    assert codes == ["no_api_key", "totp_not_enrolled", "canary_not_passed"]


async def test_what_panic_needs_without_the_store_is_kept_while_an_account_is_armed_and_goes_with_its_key() -> None:
    world = World()
    await world.arm.run()
    assert await world.lifeline.credentials(ADA) == world.vault.keys[ADA]
    world.lifeline.kept.clear()  # a Redis that forgot
    await world.arm.run()
    assert await world.lifeline.credentials(ADA) == world.vault.keys[ADA]
    await world.arm.drop_key(ADA)
    assert await world.lifeline.credentials(ADA) is None


async def test_no_account_is_armed_whose_panic_could_not_be_prepared() -> None:
    world = World()
    world.vault.known[ADA] = Readiness(has_key=True, totp=True)
    at = world.clock.wall()
    world.vault.factors[ADA] = FactorRow(user_id=ADA, secret="-", begun_at=at, confirmed_at=at, recovery_hashes=[])
    world.lifeline.away = True
    missing = await world.arm.arm(ADA)
    assert missing is not None
    assert (missing.lacks[0].code, missing.away) == ("panic_not_prepared", True)
    world.lifeline.away = False
    assert await world.arm.arm(ADA) is None
    assert await world.lifeline.credentials(ADA) == world.vault.keys[ADA]


@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_panic_needs_goes_where_nothing_real_may_be_sent(dry_run: bool) -> None:
    world = World(dry_run=dry_run)
    await world.lifeline.keep(ADA, world.vault.keys[ADA])
    world.vault.in_real = lambda _: dry_run  # a REAL user in a dry run, or one who is on PAPER by now
    await world.arm.run()
    assert world.lifeline.kept == {}


async def test_who_left_real_with_something_open_there_keeps_what_panic_needs_until_it_is_closed() -> None:
    """With the store a panic flattens it: without the store too."""
    world = World()
    world.vault.in_real = lambda _: False
    world.vault.held[ADA] = ["SOLUSDT"]
    await world.arm.mode_changed(ADA)
    assert world.lifeline.kept[ADA] == world.vault.keys[ADA]
    world.vault.held.clear()
    await world.arm.run()
    assert world.lifeline.kept == {}


async def test_who_leaves_real_while_a_round_keeps_what_panic_needs_is_forgotten() -> None:
    world = World()
    modes = iter([True, True, False])  # read for the round, before it is kept, and once more after
    world.vault.in_real = lambda _: next(modes)
    await world.arm.run()
    assert world.lifeline.kept == {}


async def test_in_a_dry_run_an_account_is_armed_without_keeping_what_panic_needs() -> None:
    world = World(dry_run=True)
    world.vault.known[ADA] = Readiness(has_key=True, totp=True)
    at = world.clock.wall()
    world.vault.factors[ADA] = FactorRow(user_id=ADA, secret="-", begun_at=at, confirmed_at=at, recovery_hashes=[])
    assert await world.arm.arm(ADA) is None
    assert world.lifeline.kept == {}


async def test_what_panic_needs_follows_the_key_in_real_and_goes_with_it() -> None:
    world = World()
    world.lifeline.kept[ADA] = SealedCredentials(key_id="older", sealed="-")
    world.vault.known[ADA] = Readiness(has_key=True)  # not armed with this key yet: what was opened before may still be open
    await world.arm.run()
    assert world.lifeline.kept[ADA].key_id == "k1"
    del world.vault.keys[ADA]
    await world.arm.run()
    assert world.lifeline.kept == {}
