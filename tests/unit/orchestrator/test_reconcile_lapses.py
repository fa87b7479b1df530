"""How long a real position was known to have no working stop is measured where reconciliation put that right, and nowhere else."""

from orchestrator.core.position import CloseReason
from orchestrator.metrics import Metrics
from tests.builders import signal
from tests.fakes_real import RealWorld


async def entered() -> tuple[RealWorld, Metrics]:
    """LONG 10 SOLUSDT at 100, stop 98, protected at the exchange; the metrics are those of the worker."""
    world, metrics = RealWorld(), Metrics()
    world.trading.reconcile.lapses.told = metrics.was_bare
    await world.reconcile()
    await world.enter(signal())
    await world.reconcile()
    return world, metrics


def measured(metrics: Metrics) -> tuple[float, float]:
    """How many lapses, and their seconds together, as Prometheus reads them."""
    lines = dict(line.split(" ") for line in metrics.text().decode().splitlines() if line.startswith("neurotrade_bare_seconds_"))
    return float(lines["neurotrade_bare_seconds_count"]), float(lines["neurotrade_bare_seconds_sum"])


async def test_a_stop_that_was_put_back_tells_how_long_it_was_missed() -> None:
    world, metrics = await entered()
    [stop] = world.engine.book().stops("SOLUSDT")
    world.engine.take(stop.client_order_id)
    await world.glance()
    assert measured(metrics) == (0, 0)
    world.clock.pass_wall(seconds=2)
    await world.glance()
    assert world.engine.book().stops("SOLUSDT")
    assert measured(metrics) == (1, 2)
    await world.reconcile()
    assert measured(metrics) == (1, 2)


async def test_a_stop_that_did_not_fill_tells_how_long_its_position_stood_until_it_was_closed() -> None:
    world, metrics = await entered()
    world.engine.stuck.add("SOLUSDT")
    world.engine.tick("SOLUSDT", 97)
    await world.glance()
    world.clock.pass_wall(seconds=3)
    await world.glance()
    assert [row.close_reason for row in world.rows.positions.values()] == [CloseReason.STOP]
    assert measured(metrics) == (1, 3)


async def test_a_position_that_cannot_be_protected_is_measured_once_it_is_closed() -> None:
    world, metrics = await entered()
    [stop] = world.engine.book().stops("SOLUSDT")
    world.engine.take(stop.client_order_id)
    world.engine.no_stops = True
    await world.glance()
    world.clock.pass_wall(seconds=1)
    await world.glance()
    assert [row.close_reason for row in world.rows.positions.values()] == [CloseReason.UNPROTECTED]
    assert measured(metrics) == (1, 1)


async def test_a_stop_that_filled_as_it_should_is_no_lapse() -> None:
    world, metrics = await entered()
    world.engine.tick("SOLUSDT", 97)
    await world.glance()
    await world.reconcile()
    assert world.engine.book().quantity("SOLUSDT") == 0
    assert measured(metrics) == (0, 0)
