"""What a dry run proved arms no live entries, as somebody with an API client and a signal meet it."""

from msgspec import structs

from shared.execution import SealedCredentials
from tests.builders import signal
from tests.fakes_real import RealWorld, real_trader
from tests.unit.orchestrator.test_web_real import armed, somebody
from tests.unit.orchestrator.web_fakes import World

DRY = "dry run: the account could be read, no order was placed"
KEYS = SealedCredentials(key_id="k1", sealed="AAAA")


async def test_after_a_dry_run_real_is_not_armed_until_it_is_checked_live() -> None:
    world = World()
    async with somebody(world) as ada:
        await armed(ada)
        world.vault.known[ada.id] = structs.replace(world.vault.known[ada.id], canary_detail=DRY)
        told = (await ada.ask("GET", "/api/user/arming")).json()
        assert (told["armed"], "only reads" in told["refusal"]) == (False, True)
        sung = len(world.key_engine.canaries)
        assert (await ada.ask("PATCH", "/api/settings", {"mode": "REAL"}, ada.code())).status_code == 200
        assert len(world.key_engine.canaries) == sung + 1
        told = (await ada.ask("GET", "/api/user/arming")).json()
        assert (told["armed"], told["refusal"]) == (True, None)


async def test_an_engine_that_only_reads_arms_nobody_live() -> None:
    world = World()
    world.key_engine.canary_detail = DRY
    async with somebody(world) as ada:
        await ada.enrol()
        await ada.ask("PUT", "/api/user/api-key", {"api_key": "k" * 64, "api_secret": "s" * 64}, ada.code())
        reply = await ada.ask("PATCH", "/api/settings", {"mode": "REAL"}, ada.code())
        assert (reply.status_code, reply.json()["code"]) == (409, "canary_not_passed")
        assert "the engine is in dry run" in reply.json()["detail"]


async def test_a_live_entry_wants_a_live_canary() -> None:
    world = RealWorld(real_trader(credentials=KEYS, canary_detail=DRY))
    await world.enter(signal())
    assert world.engine.sent("enter") == []
    (refusal,) = world.rows.refusals
    assert (refusal.reason.value, "only reads" in refusal.detail) == ("real_stopped", True)
