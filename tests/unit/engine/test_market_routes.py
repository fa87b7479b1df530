"""The market side's doors: token, problems, strict bodies, trace ids, readiness, metrics."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from engine.analysis import MarketDesk, RulesAnalyst, ScanPlan, Sources
from engine.core.market import Candles, at
from engine.core.screen import ScreenBounds
from engine.ports import TradeWindows
from engine.routes import market
from engine.routes.http import EXCEPTION_HANDLERS, token_guard, trace_middleware
from shared.analysis import AnalyzeReply, MarksReply, WhalesReply
from shared.problem import Problem
from shared.wire import TRACE_HEADER, decode
from tests.unit.engine.execution_desk import WALL_MS, StandingClock
from tests.unit.engine.market_world import NOW_MS, Kept, World, bar, forced, living_feed, living_figures, mark

TOKEN = {"Authorization": "Bearer right"}
DOORS = [("POST", "/analyze"), ("POST", "/marks"), ("GET", "/whales"), ("GET", "/ready"), ("GET", "/metrics")]


def no_wider(_candles: Candles) -> dict[str, float]:
    return {}


class House:
    def __init__(self) -> None:
        self.clock = StandingClock()
        self.world, self.kept = World(self.clock), Kept()
        self.kept.feed = living_feed()
        self.kept.figures_by = living_figures()
        self.kept.windows = TradeWindows(beat_ms=WALL_MS, connected=True)
        self.world.list_dip("AUSDT")
        self.desk = MarketDesk(
            sources=Sources(market=self.world, snapshots=self.kept, clock=self.clock),
            plan=ScanPlan(bounds=ScreenBounds(min_quote_volume=3e7, min_change_percent=1.5, top_n=10), min_confidence=60),
            analyst=RulesAnalyst(),
            widen=no_wider,
            exchange=self.world,
            redis=self.kept,
            weight_used=lambda: 17,
        )
        self.app = Litestar(
            route_handlers=market.HANDLERS,
            guards=[token_guard("right")],
            middleware=[trace_middleware],
            exception_handlers=EXCEPTION_HANDLERS,
            openapi_config=None,
            logging_config=None,
        )
        self.app.state.market_desk = self.desk


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
async def client(house: House) -> AsyncIterator[AsyncTestClient[Litestar]]:
    async with AsyncTestClient(house.app, raise_server_exceptions=False) as client:
        client.headers.update(TOKEN)
        yield client


@pytest.mark.parametrize(("method", "path"), DOORS)
@pytest.mark.parametrize("given", ["", "Bearer wrong", "Basic right", "right", "Bearer right ü"])
async def test_every_door_but_health_needs_the_token(
    client: AsyncTestClient[Litestar], method: str, path: str, given: str
) -> None:
    answer = await client.request(method, path, headers={b"Authorization": given.encode()}, content=b"{}")
    assert answer.status_code == 401
    assert decode(answer.content, Problem).code == "unauthorized"


async def test_health_is_open_and_says_nothing_else(client: AsyncTestClient[Litestar]) -> None:
    answer = await client.get("/health", headers={"Authorization": ""})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_analyze_answers_on_the_wire(client: AsyncTestClient[Litestar]) -> None:
    answer = await client.post("/analyze", content=b"{}")
    found = decode(answer.content, AnalyzeReply)
    assert [signal.symbol for signal in found.signals] == ["AUSDT"]
    assert isinstance(answer.json()["signals"][0]["stop_loss"], str)


async def test_an_empty_body_asks_for_the_usual(client: AsyncTestClient[Litestar]) -> None:
    assert (await client.post("/analyze")).status_code == 200


@pytest.mark.parametrize(
    "body", ['{"symbol": "X"}', '{"top_n": 0}', '{"min_confidence": 101}', "[", '"text"', '{"symbols": [1]}']
)
async def test_a_body_that_does_not_fit_is_a_problem(client: AsyncTestClient[Litestar], body: str) -> None:
    answer = await client.post("/analyze", content=body)
    assert answer.status_code == 400
    assert decode(answer.content, Problem).code == "bad_request"


async def test_a_moment_without_a_zone_is_refused(client: AsyncTestClient[Litestar]) -> None:
    answer = await client.post("/marks", content='{"since": {"XUSDT": "2026-01-07T12:00:00"}}')
    assert answer.status_code == 400


async def test_marks_answer_on_the_wire(house: House, client: AsyncTestClient[Litestar]) -> None:
    house.world.mark_of["XUSDT"] = mark("XUSDT")
    house.world.bars_of["XUSDT"] = [bar(NOW_MS - 60_000)]
    answer = await client.post(
        "/marks", json={"since": {"XUSDT": at(NOW_MS - 60_000).isoformat(), "NOUSDT": at(NOW_MS).isoformat()}}
    )
    found = decode(answer.content, MarksReply)
    assert set(found.marks) == {"XUSDT"}
    assert set(found.missing) == {"NOUSDT"}
    assert "from" in answer.json()["marks"]["XUSDT"]["bars"][0]


async def test_whales_answer_on_the_wire_and_without_redis_it_is_a_problem(
    house: House, client: AsyncTestClient[Litestar]
) -> None:
    house.kept.orders = [forced("AUSDT", 20_000)]
    assert [view.symbol for view in decode((await client.get("/whales")).content, WhalesReply).views] == ["AUSDT"]
    house.kept.down = True
    answer = await client.get("/whales")
    assert (answer.status_code, decode(answer.content, Problem).code) == (503, "redis_unavailable")


async def test_a_dead_exchange_is_a_problem_with_the_callers_trace_id(house: House, client: AsyncTestClient[Litestar]) -> None:
    house.world.down = True
    answer = await client.post("/analyze", content=b"{}", headers={TRACE_HEADER: "trace-7"})
    problem = decode(answer.content, Problem)
    assert (answer.status_code, problem.code, problem.trace_id) == (503, "exchange_unavailable", "trace-7")
    assert answer.headers[TRACE_HEADER] == "trace-7"


async def test_a_crash_is_a_problem_that_tells_nothing_of_the_inside(house: House, client: AsyncTestClient[Litestar]) -> None:
    del house.world.candle_of
    answer = await client.post("/analyze", content=b"{}")
    assert (answer.status_code, decode(answer.content, Problem).code) == (500, "internal")
    assert "candle_of" not in answer.text


async def test_who_gives_no_trace_id_gets_one(client: AsyncTestClient[Litestar]) -> None:
    assert len((await client.get("/health")).headers[TRACE_HEADER]) == 32


async def test_ready_tells_the_age_of_every_source_and_each_grows_when_it_stops(
    house: House, client: AsyncTestClient[Litestar]
) -> None:
    house.kept.answered_ms = house.clock.wall_ms()
    first = (await client.get("/ready")).json()
    assert first["status"] == "ready"
    feed = {"feed", "feed_tickers", "feed_marks", "feed_liquidations", "feed_figures", "feed_candles", "feed_trades"}
    assert set(first["sources"]) == {"exchange", "redis", "analyst"} | feed
    assert first["figures"] == {"leader": "one", "wanted": 100, "seeded": 99, "late": 0, "skew_ms": 3}
    house.clock.pass_wall(timedelta(seconds=11))
    house.world.down = house.kept.down = True
    answer = await client.get("/ready")
    assert answer.status_code == 503
    for name in ("exchange", "redis"):
        assert answer.json()["sources"][name]["age_ms"] >= 11_000
        assert answer.json()["sources"][name]["stale"]


async def test_a_silent_feed_degrades_and_a_silent_exchange_is_fatal(house: House, client: AsyncTestClient[Litestar]) -> None:
    house.clock.pass_wall(timedelta(seconds=11))
    answer = await client.get("/ready")
    assert answer.json()["sources"]["feed_marks"] == {"age_ms": 11_000, "stale": True, "must_have": False}
    assert answer.json()["sources"]["exchange"]["stale"] is False
    house.world.down = True
    house.clock.pass_wall(timedelta(seconds=11))
    assert (await client.get("/ready")).status_code == 503


async def test_candles_that_do_not_come_and_trades_that_are_not_heard_degrade(
    house: House, client: AsyncTestClient[Litestar]
) -> None:
    for late, stale in ((10, False), (11, True)):
        house.kept.figures_by = living_figures(late=late)
        answer = (await client.get("/ready")).json()
        assert answer["sources"]["feed_candles"] == {"age_ms": 0, "stale": stale, "must_have": False}
        assert (answer["status"], answer["figures"]["late"]) == ("degraded" if stale else "ready", late)
    house.kept.figures_by = None
    house.kept.windows = TradeWindows(beat_ms=WALL_MS, connected=False)
    sources = (await client.get("/ready")).json()["sources"]
    assert {name for name, source in sources.items() if source["stale"]} == {"feed_figures", "feed_candles", "feed_trades"}


async def test_metrics_tell_scans_weight_ages_and_reasons(client: AsyncTestClient[Litestar]) -> None:
    await client.post("/analyze", content=b'{"symbols": ["NOPE"]}')
    text = (await client.get("/metrics")).text
    assert "neurotrade_engine_request_weight_used 17.0" in text
    assert 'neurotrade_engine_rejections_total{reason="no_symbol_rules"}' in text
    assert 'neurotrade_engine_source_age_seconds{source="feed_marks"}' in text
    assert 'neurotrade_engine_scan_stage_seconds_count{stage="total"}' in text


async def test_a_scan_that_fell_back_says_so_in_its_log_line_and_is_counted(
    client: AsyncTestClient[Litestar],
) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("neurotrade_engine_scans_fallen_back_total") or 0.0

    before = counted()
    with capture_logs() as lines:
        reply = decode((await client.post("/analyze", content=b"{}")).content, AnalyzeReply)
    assert reply.fallbacks
    assert [line["fallbacks"] for line in lines if line["event"] == "scan"] == ["; ".join(reply.fallbacks)]
    assert counted() == before + 1


async def test_an_unknown_path_is_a_problem(client: AsyncTestClient[Litestar]) -> None:
    answer = await client.get("/nothing")
    assert (answer.status_code, decode(answer.content, Problem).code) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/analyze", 405), ("GET", "/whales", 200)]
)
@pytest.mark.parametrize("given", ["trace-8", "", 'a"b', "x" * 65])
async def test_every_answer_carries_one_trace_id_the_callers_where_it_is_one(
    client: AsyncTestClient[Litestar], method: str, path: str, status: int, given: str
) -> None:
    answer = await client.request(method, path, headers={TRACE_HEADER: given})

    (told,) = answer.headers.get_list(TRACE_HEADER)
    assert answer.status_code == status
    assert told == given if given == "trace-8" else len(told) == 32
    if status != 200:
        assert decode(answer.content, Problem).trace_id == told


async def test_metrics_name_their_charset_once_since_prometheus_refuses_it_twice(client: AsyncTestClient[Litestar]) -> None:
    kind = (await client.get("/metrics")).headers["Content-Type"]

    assert kind.startswith("text/plain; version=")
    assert kind.count("charset") == 1


async def test_the_replies_keep_every_name_of_the_wire_contract(house: House, client: AsyncTestClient[Litestar]) -> None:
    house.world.mark_of["XUSDT"] = mark("XUSDT")
    house.world.bars_of["XUSDT"] = [bar(NOW_MS - 60_000)]
    found = (await client.post("/analyze", content=b'{"symbols": ["AUSDT", "NOPE"]}')).json()
    marks = (await client.post("/marks", json={"since": {"XUSDT": at(NOW_MS - 60_000).isoformat()}})).json()["marks"]["XUSDT"]

    assert {"as_of", "universe", "screened", "candidates", "signals", "rejections", "timings_ms"} <= set(found)
    assert {"symbol", "score", "direction", "features", "whale"} <= set(found["candidates"][0])
    assert {"symbol", "reason"} <= set(found["rejections"][0])
    assert {"mark", "as_of", "bars"} <= set(marks)
    assert {"from", "to", "high", "low"} <= set(marks["bars"][0])
