"""The live stream without a server: what reaches a page, in which order, and what a page that lags or comes back is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from orchestrator.errors import EngineUnavailable, StoreUnavailable
from orchestrator.ports import LiveMessage
from orchestrator.web import live, ticker
from orchestrator.web.auth import Viewer
from orchestrator.web.hub import KEPT, STREAMS_A_USER
from orchestrator.web.stream import QUEUE
from tests.unit.orchestrator.web_fakes import World

type Event = tuple[str, Any, str]


def read(sent: bytes) -> list[Event]:
    """The events in some bytes: name, data, id."""
    events = []
    for block in sent.decode().strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if fields:
            events.append((fields["event"], json.loads(fields["data"]), fields.get("id", "")))
    return events


def message(user_id: UUID | None, rev: int | None, event: str = "position", **data: Any) -> LiveMessage:
    return LiveMessage(user_id=user_id, event=event, data=data, rev=rev)


async def viewer_of(world: World, name: str = "ada") -> Viewer:
    user_id = await world.person(name)
    token, _ = await world.token(user_id)
    return (await world.auth.viewer(token, by_cookie=True))[0]


@pytest.fixture
def world() -> World:
    return World()


async def test_hello_names_the_newest_event_of_each_section(world: World) -> None:
    ada = await viewer_of(world)
    world.log.kept = [message(ada.id, 3), message(None, 5, "signals"), message(uuid4(), 9)]
    [(kind, hello, _)] = read(await world.hub.greeting(world.hub.open(ada, frozenset()), ""))
    assert kind == "hello"
    assert (hello["boot"], hello["rev"], hello["resumed"]) == ("boot1", 5, False)
    assert hello["sections"] | {"balance": 0} == {
        "positions": 3, "signals": 5, "approvals": 0, "status": 0, "settings": 0, "panic": 0, "notice": 0, "balance": 0,
    }  # fmt: skip
    assert hello["server_now"].endswith("Z")


async def test_who_comes_back_gets_what_they_missed_once(world: World) -> None:
    ada = await viewer_of(world)
    world.log.kept = [message(ada.id, rev, say=str(rev)) for rev in (3, 4, 7)]
    stream = world.hub.open(ada, frozenset())
    world.hub.hear(message(ada.id, 7, say="7"), "boot1")
    events = read(await world.hub.greeting(stream, "boot1-3"))
    assert [(kind, event_id) for kind, _, event_id in events] == [("hello", ""), ("position", "boot1-4"), ("position", "boot1-7")]
    assert events[0][1]["resumed"] is True
    world.hub.hear(message(ada.id, 8, say="8"), "boot1")
    assert [event_id for _, _, event_id in read(stream.take())] == ["boot1-8"]


@pytest.mark.parametrize("last", ["boot1-9", "other-3", "3", "boot1-", "boot1--1", "boot1-x", "-", "boot1-" + "9" * 30])
async def test_an_id_that_means_nothing_here_is_a_reset(world: World, last: str) -> None:
    ada = await viewer_of(world)
    world.log.kept = [message(ada.id, 4)]
    events = read(await world.hub.greeting(world.hub.open(ada, frozenset()), last))
    assert [(kind, event_id) for kind, _, event_id in events] == [("hello", ""), ("reset", "boot1-4")]


async def test_a_log_that_no_longer_reaches_back_is_a_reset(world: World) -> None:
    ada = await viewer_of(world)
    world.log.kept = [message(ada.id, rev) for rev in range(100, 100 + KEPT)]
    stream = world.hub.open(ada, frozenset())
    assert read(await world.hub.greeting(stream, "boot1-50"))[1][0] == "reset"
    assert len(read(await world.hub.greeting(stream, "boot1-99"))) == 1 + KEPT


async def test_nobody_hears_what_is_anothers(world: World) -> None:
    ada, bob = await viewer_of(world), await viewer_of(world, "bob")
    of_ada, of_bob = world.hub.open(ada, frozenset()), world.hub.open(bob, frozenset())
    world.hub.hear(message(ada.id, 1, say="for ada"), "boot1")
    world.hub.hear(message(None, 2, "signals", say="for all"), "boot1")
    assert [data["say"] for _, data, _ in read(of_ada.take())] == ["for ada", "for all"]
    assert [data["say"] for _, data, _ in read(of_bob.take())] == ["for all"]


async def test_a_page_that_lags_is_told_to_read_everything_again(world: World) -> None:
    ada = await viewer_of(world)
    stream = world.hub.open(ada, frozenset())
    for rev in range(1, QUEUE + 3):
        world.hub.hear(message(ada.id, rev), "boot1")
    events = read(stream.take())
    assert [(kind, event_id) for kind, _, event_id in events] == [("reset", "boot1-65"), ("position", "boot1-66")]


async def test_a_gap_in_what_the_process_heard_resets_its_pages(world: World) -> None:
    ada = await viewer_of(world)
    stream = world.hub.open(ada, frozenset())
    world.hub.hear(message(ada.id, 1), "boot1")
    world.hub.hear(message(uuid4(), 5), "boot1")
    assert [kind for kind, _, _ in read(stream.take())] == ["reset"]
    world.hub.hear(message(ada.id, 6), "boot1")
    assert [event_id for _, _, event_id in read(stream.take())] == ["boot1-6"]


async def test_events_go_on_after_redis_came_back_with_less_than_it_had(world: World) -> None:
    ada = await viewer_of(world)
    stream = world.hub.open(ada, frozenset())
    for rev in (40, 41):
        world.hub.hear(message(ada.id, rev), "boot1")
    stream.take()
    world.hub.hear(message(ada.id, 38, say="after the crash"), "boot1")
    assert [(kind, event_id) for kind, _, event_id in read(stream.take())] == [("reset", ""), ("position", "boot1-38")]


async def test_of_ticks_only_the_latest_waits(world: World) -> None:
    ada = await viewer_of(world)
    stream = world.hub.open(ada, frozenset())
    for number in range(50):
        world.hub.hear(message(None, None, "whales", number=number), "boot1")
    assert [(kind, data["number"], event_id) for kind, data, event_id in read(stream.take())] == [("whales", 49, "")]


async def test_a_tick_prices_positions_as_the_templates_print_them(world: World) -> None:
    ada = await viewer_of(world)
    row = world.position(ada.id)
    stream = world.hub.open(ada, frozenset({"ETHUSDT"}))
    marks = {"BTCUSDT": {"mark_price": "64321.5", "age_ms": 0}, "ETHUSDT": {"mark_price": "2500.25", "age_ms": 0}}
    world.hub.hear(message(None, None, "marks", marks=marks), "boot1")
    await world.hub.tick()
    events = {kind: data for kind, data, _ in read(stream.take())}
    assert events["prices"]["prices"]["ETHUSDT"] == {"mark_price": "2500.25", "age_ms": 0}
    assert events["prices"]["t"]["mark-BTCUSDT"] == "64,321.5"
    # 0.1 x 321.5 = 32.15; less 3.2 and 0.3: 28.65, 4.48 % of 640
    assert events["positions"]["positions"][0]["pnl"] == "28.65"
    assert events["positions"]["t"][f"pnl-{row.id}"] == "+$28.65"
    assert events["positions"]["t"][f"pct-{row.id}"] == "+4.48%"
    assert events["positions"]["t"][f"mark-{row.id}"] == "64,321.5"
    assert events["positions"]["s"][f"pnl-{row.id}"] == "up"
    assert events["positions"]["x"][f"track-{row.id}"] == 440
    assert events["positions"]["t"]["equity"] == "$10,032.15"
    assert events["positions"]["t"]["open-pnl"] == "+$28.65"
    assert (events["balance"]["total"], events["balance"]["free"]) == ("10000", "9360")
    assert events["balance"]["t"] == {"balance": "$10,000.00", "free": "$9,360.00", "margin-used": "$640.00"}


async def test_an_unknown_price_is_a_dash_in_every_place(world: World) -> None:
    ada = await viewer_of(world)
    row = world.position(ada.id)
    stream = world.hub.open(ada, frozenset())
    await world.hub.tick()
    sent = stream.take()
    positions = {kind: data for kind, data, _ in read(sent)}["positions"]
    assert positions["t"][f"pnl-{row.id}"] == positions["t"]["equity"] == positions["t"]["open-pnl"] == "\u2014"
    assert positions["positions"][0]["pnl"] is None
    assert b"None" not in sent
    assert b"NaN" not in sent


async def test_the_balance_is_told_when_it_changes_and_after_a_trade_at_once(world: World) -> None:
    ada = await viewer_of(world)
    stream = world.hub.open(ada, frozenset())
    await world.hub.tick()
    assert "balance" in [kind for kind, _, _ in read(stream.take())]
    await world.hub.tick()
    assert "balance" not in [kind for kind, _, _ in read(stream.take())]
    owner, mode, entry = world.store.entries[0]
    world.store.entries.append((owner, mode, msgspec.structs.replace(entry, amount=Decimal("-1.5"))))
    world.hub.hear(message(ada.id, 1), "boot1")
    await world.hub.tick()
    events = {kind: data for kind, data, _ in read(stream.take())}
    assert events["balance"]["total"] == "9998.5"


async def test_the_curve_is_told_its_new_end_once_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await viewer_of(world)
    stream = world.hub.open(ada, frozenset())
    await world.hub.tick()
    assert "equity" not in [kind for kind, _, _ in read(stream.take())]
    monkeypatch.setattr(ticker, "EQUITY_SECONDS", 0.0)
    await world.hub.tick()
    told = {kind: data for kind, data, _ in read(stream.take())}["equity"]
    assert (set(told), told["value"]) == ({"at", "value"}, "10000")


async def test_the_oldest_of_too_many_streams_ends(world: World) -> None:
    ada = await viewer_of(world)
    streams = [world.hub.open(ada, frozenset()) for _ in range(STREAMS_A_USER + 1)]
    assert [stream.ended for stream in streams] == [True] + [False] * STREAMS_A_USER
    assert read(streams[0].take())[0][1]["reason"] == "too_many"


async def test_logging_out_ends_the_streams_of_that_login_only(world: World) -> None:
    ada = await viewer_of(world)
    token, other_login = await world.token(ada.id)
    other = (await world.auth.viewer(token, by_cookie=True))[0]
    here, there = world.hub.open(ada, frozenset()), world.hub.open(other, frozenset())
    world.hub.hear(message(ada.id, None, "signed_out", login_id=str(ada.login_id)), "boot1")
    assert (here.ended, there.ended) == (True, False)
    assert other.login_id == other_login
    world.hub.drop(here)
    world.hub.drop(there)
    assert world.hub.streams == 0


async def events_of(world: World, viewer: Viewer) -> AsyncIterator[Event]:
    async for sent in live._events(world.doors(), viewer, frozenset(), ""):
        for event in read(sent):
            yield event


async def the_last_event(world: World, viewer: Viewer, then: Callable[[], None]) -> Event:
    """Every event until the stream ends; `then` happens after hello."""
    last: Event | None = None
    async with asyncio.timeout(5):
        async for event in events_of(world, viewer):
            last = event
            if event[0] == "hello":
                then()
    assert last is not None
    return last


async def test_a_stream_ends_when_its_login_is_revoked_elsewhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PING_SECONDS", 0.01)
    monkeypatch.setattr(live, "CHECK_SECONDS", 0.02)
    ada = await viewer_of(world)

    def revoke() -> None:
        world.store.revoked.add(ada.login_id)
        world.auth.forget(ada.login_id)

    kind, data, _ = await the_last_event(world, ada, revoke)
    assert (kind, data["reason"]) == ("bye", "revoked")
    assert world.hub.streams == 0


def test_what_is_no_symbol_is_not_watched() -> None:
    assert live._watched("btcusdt, ,\x00,B B,<x>," + "A" * 41 + ",ETHUSDT,1000SHIBUSDT,SOLUSDT") == {
        "BTCUSDT",
        "ETHUSDT",
        "1000SHIBUSDT",
    }


async def test_a_symbol_is_asked_for_although_another_was_a_moment_ago(world: World) -> None:
    asked: list[set[str]] = []

    async def marks(since: dict[str, Any]) -> Any:
        asked.append(set(since))
        raise EngineUnavailable("away")

    world.engine.marks = marks  # type: ignore[method-assign,assignment]
    await world.market.marks(["BTCUSDT"])
    await world.market.marks(["BTCUSDT", "ETHUSDT"])
    assert asked == [{"BTCUSDT"}, {"ETHUSDT"}]


async def test_the_engine_is_never_asked_for_more_symbols_than_it_answers(world: World) -> None:
    asked: list[int] = []

    async def marks(since: dict[str, Any]) -> Any:
        asked.append(len(since))
        raise EngineUnavailable("away")

    world.engine.marks = marks  # type: ignore[method-assign,assignment]
    await world.market.marks([f"S{number}" for number in range(1200)])
    assert asked == [500, 500, 200]


async def test_who_hangs_up_before_the_first_byte_takes_no_place(world: World) -> None:
    unread = live._events(world.doors(), await viewer_of(world), frozenset(), "")
    await unread.aclose()
    assert world.hub.streams == 0


async def test_a_login_that_ended_elsewhere_is_not_believed_although_it_has_no_stream(world: World) -> None:
    ada = await viewer_of(world)
    assert await world.auth.session(ada.login_id) is not None
    world.store.revoked.add(ada.login_id)
    for named in (str(ada.login_id), "nonsense", None):
        world.hub.hear(message(ada.id, None, "signed_out", login_id=named), "boot1")
    assert await world.auth.session(ada.login_id) is None


async def test_a_stream_ends_with_the_twelve_hours_of_its_login(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PING_SECONDS", 0.01)
    monkeypatch.setattr(live, "CHECK_SECONDS", 0.02)
    ada = await viewer_of(world)

    def age() -> None:
        world.clock.real += timedelta(hours=13)

    kind, data, _ = await the_last_event(world, ada, age)
    assert (kind, data["reason"]) == ("bye", "revoked")


async def test_a_stream_ends_at_its_greatest_age_and_asks_to_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PING_SECONDS", 0.01)
    monkeypatch.setattr(live, "MAX_AGE_SECONDS", 0.02)
    ada = await viewer_of(world)
    kind, data, _ = await the_last_event(world, ada, lambda: None)
    assert (kind, data) == ("bye", {"reason": "max_age", "retry_ms": 0})


async def test_quiet_streams_are_pinged_with_the_servers_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PING_SECONDS", 0.01)
    ada = await viewer_of(world)
    seen = []
    async with asyncio.timeout(5):
        async for kind, data, _ in events_of(world, ada):
            seen.append(kind)
            if kind == "ping":
                assert data == {"server_now": "2026-11-22T12:00:00.000Z"}
                world.hub.shut_down()
    assert seen == ["hello", "ping", "bye"]


async def test_a_process_that_listens_passes_on_what_the_bus_says(world: World) -> None:
    ada = await viewer_of(world)
    stream = world.hub.open(ada, frozenset())
    running = asyncio.create_task(world.hub.run())
    await world.log.heard.put(message(ada.id, 1, say="opened"))
    seen: list[str] = []
    async with asyncio.timeout(5):
        while "position" not in seen or "balance" not in seen:
            await stream.wait(1)
            seen += [kind for kind, _, _ in read(stream.take())]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert world.hub.rev(ada.id) == 1


async def test_a_database_that_is_away_does_not_end_the_ticks(world: World) -> None:
    ada = await viewer_of(world)
    world.hub.open(ada, frozenset())

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the database is away")

    world.store.user = away  # type: ignore[method-assign]
    await world.hub._tick_once()
    assert world.hub.streams == 1
