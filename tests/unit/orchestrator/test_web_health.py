"""Readiness: a source that stops is seen to age."""

import asyncio
from datetime import datetime, timedelta

from msgspec import structs

from orchestrator.web.health import KEPT_SECONDS, Health, Source
from orchestrator.web.real_accounts import Truths
from tests.unit.orchestrator.web_fakes import FakeClock, World, client_of


class Lamp:
    """A source that can be switched off."""

    def __init__(self) -> None:
        self.on = True
        self.proof: datetime | None = None

    async def check(self) -> datetime | None:
        if not self.on:
            raise ConnectionError("off")
        return self.proof


async def test_everything_answers() -> None:
    health = Health([Source(name="a", check=Lamp().check)], FakeClock())
    ready = await health.ready()
    assert ready.status == "ready"
    assert ready.sources["a"].age_seconds == 0


async def test_a_source_that_stops_ages_and_makes_the_process_unready() -> None:
    clock, lamp = FakeClock(), Lamp()
    health = Health([Source(name="a", check=lamp.check), Source(name="b", check=Lamp().check)], clock)
    await health.ready()
    lamp.on = False
    ages = []
    for _ in range(3):
        clock.real += timedelta(seconds=5)
        ready = await health.ready()
        assert ready.status == "not_ready"
        ages.append(ready.sources["a"].age_seconds)
    assert ages == [5, 10, 15]
    assert ready.sources["a"].detail == "ConnectionError"
    assert ready.sources["b"].ok
    lamp.on = True
    clock.real += timedelta(seconds=1)
    assert (await health.ready()).status == "ready"


async def test_old_news_is_stale_even_when_the_source_answers() -> None:
    clock, lamp = FakeClock(), Lamp()
    lamp.proof = clock.wall() - timedelta(seconds=11)
    ready = await Health([Source(name="worker", check=lamp.check, stale_seconds=10)], clock).ready()
    assert (ready.status, ready.sources["worker"].detail) == ("not_ready", "is stale")


async def test_a_source_that_need_not_be_there_is_shown_and_forgiven() -> None:
    lamp = Lamp()
    lamp.on = False
    ready = await Health([Source(name="feed", check=lamp.check, must=False)], FakeClock()).ready()
    assert ready.status == "ready"
    assert ready.sources["feed"].age_seconds is None
    assert not ready.sources["feed"].ok


async def test_many_who_ask_at_once_cost_each_source_one_question() -> None:
    clock, asked = FakeClock(), 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)

    health = Health([Source(name="a", check=check)], clock)
    await asyncio.gather(*(health.ready() for _ in range(20)))
    await health.ready()
    assert asked == 1
    clock.real += timedelta(seconds=KEPT_SECONDS)
    await health.ready()
    assert asked == 2


async def test_who_stops_waiting_for_readiness_spoils_it_for_nobody() -> None:
    opened = asyncio.Event()

    async def check() -> None:
        await opened.wait()

    health = Health([Source(name="a", check=check)], FakeClock())
    impatient, patient = asyncio.create_task(health.ready()), asyncio.create_task(health.ready())
    await asyncio.sleep(0)
    impatient.cancel()
    opened.set()
    assert (await patient).status == "ready"


async def test_metrics_count_answers_streams_and_the_age_of_sources() -> None:
    world = World()
    world.sources.append(Source(name="lamp", check=Lamp().check))
    async with client_of(world) as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/ready")).status_code == 200
        text = (await client.get("/metrics")).text
    assert 'nt_source_age_seconds{source="lamp"} 0.0' in text
    assert 'nt_source_ok{source="lamp"} 1.0' in text
    assert "nt_live_streams 0.0" in text
    assert 'nt_http_requests_total{method="GET",status="200"}' in text


async def test_what_is_wrong_at_the_exchange_is_counted_without_names_and_as_old_as_the_account_least_lately_heard() -> None:
    world = World()
    heard = world.clock.wall() - timedelta(seconds=7)
    world.store.accounts = structs.replace(
        world.store.accounts, followed=3, oldest=heard, foreign_accounts=1, foreign=2, differing=1
    )
    world.sources.append(Source(name="truth", check=Truths(world.store).check, must=False, stale_seconds=130))
    async with client_of(world) as client:
        assert (await client.get("/ready")).json()["sources"]["truth"]["age_seconds"] == 7
        text = (await client.get("/metrics")).text
        assert "nt_real_accounts 3.0" in text
        assert "nt_real_foreign_accounts 1.0" in text
        assert "nt_real_foreign_holdings 2.0" in text
        assert "nt_real_wallets_differing 1.0" in text
        world.store.away = True
        world.clock.real += timedelta(seconds=1)
        text = (await client.get("/metrics")).text
    assert "nt_real_foreign_holdings NaN" in text
    assert 'nt_source_ok{source="truth"} 0.0' in text


async def test_an_account_that_was_never_heard_is_said_and_the_pages_go_on() -> None:
    world = World()
    world.store.accounts = structs.replace(world.store.accounts, followed=2, unheard=1, oldest=world.clock.wall())
    ready = await Health([Source(name="truth", check=Truths(world.store).check, must=False)], world.clock).ready()
    assert (ready.status, ready.sources["truth"].ok, ready.sources["truth"].age_seconds) == ("ready", False, None)
