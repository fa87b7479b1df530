"""What a panic without the store needs is there from REAL on, and gone with it, as somebody with an API client makes it so."""

from tests.unit.orchestrator.test_web_real import armed, somebody
from tests.unit.orchestrator.web_fakes import World


async def test_whoever_leaves_real_leaves_nothing_behind_that_a_panic_could_send_with() -> None:
    world = World()
    async with somebody(world) as ada:
        await armed(ada)
        assert list(world.lifeline.kept) == [ada.id]
        assert (await ada.ask("PATCH", "/api/settings", {"mode": "PAPER"})).json()["mode"] == "PAPER"
        assert world.lifeline.kept == {}


async def test_leaving_real_waits_for_no_redis_and_the_next_round_forgets() -> None:
    world = World()
    async with somebody(world) as ada:
        await armed(ada)
        world.lifeline.away = True
        assert (await ada.ask("PATCH", "/api/settings", {"mode": "PAPER"})).status_code == 200
        world.lifeline.away = False
        await world.arm.run()
        assert world.lifeline.kept == {}


async def test_a_change_to_real_that_is_not_kept_leaves_nothing_behind() -> None:
    world = World()
    async with somebody(world) as ada:
        await armed(ada)
        await ada.ask("PATCH", "/api/settings", {"mode": "PAPER"})
        change = world.store.change

        async def meanwhile(*given: object) -> None:
            return None

        world.store.change = meanwhile  # type: ignore[method-assign, assignment]
        reply = await ada.ask("PATCH", "/api/settings", {"mode": "REAL"}, ada.code())
        assert reply.status_code == 409
        assert world.lifeline.kept == {}
        world.store.change = change  # type: ignore[method-assign]
