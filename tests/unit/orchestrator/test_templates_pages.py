"""Pages as somebody without JavaScript reads and uses them, over a made-up world."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from orchestrator.errors import StoreUnavailable
from shared.analysis import CascadeState
from shared.enums import Side
from tests.browser.fakes import HOSTILE, FakeBus, FakeMarket, FakeWorld, fill, position_row, site_of

PASSWORD = "correct horse battery"
HTML = {"accept": "text/html"}
ODD = re.compile(r"NaN|None|undefined|\bnull\b|\$[-\u2212]|Infinity")


class Visitor:
    """A browser without scripts: follows links, fills forms with the tokens they carry."""

    def __init__(self, client: TestClient[Litestar]) -> None:
        self.client = client

    def read(self, path: str, status: int = 200) -> str:
        reply = self.client.get(path, headers=HTML)
        assert reply.status_code == status, (path, reply.status_code)
        return reply.text

    def send(self, path: str, page: str, **fields: str) -> Any:
        """Posts a form of a page, with its tokens."""
        text = self.read(page)
        tokens = {name: _value(text, name) for name in ("csrf_token", "form_token")}
        return self.client.post(path, data=tokens | fields, headers=HTML, follow_redirects=False)


def _value(text: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', text)
    assert found, name
    return found.group(1)


class World:
    """Everything a test looks at."""

    def __init__(self, world: FakeWorld, market: FakeMarket, bus: FakeBus, visitor: Visitor) -> None:
        self.world, self.market, self.bus, self.visitor = world, market, bus, visitor


@pytest.fixture
def made() -> Iterator[World]:
    world, market, bus = FakeWorld(), FakeMarket(), FakeBus()
    with TestClient(site_of(world, market, bus)) as client:
        visitor = Visitor(client)
        reply = visitor.send("/register", "/register", username="ann", password=PASSWORD)
        assert (reply.status_code, reply.headers["location"]) == (303, "/dashboard")
        yield World(world, market, bus, visitor)


def _text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_a_new_user_reads_that_paper_costs_nothing_and_what_to_do_first(made: World) -> None:
    text = _text(made.visitor.read("/dashboard"))
    assert "nothing you do here can cost you anything" in text
    assert "$10,000.00" in text
    assert "Auto-trading is off" in text
    assert not ODD.search(text)


def test_every_page_reads_whether_empty_or_full(made: World) -> None:
    for filled in (False, True):
        if filled:
            fill(made.world, made.market)
        names = ("", "/positions", "/signals", "/market", "/history", "/ledger", "/settings", "/stop", "/panic", "/more")
        paths = [f"/dashboard{name}" for name in names]
        paths += [f"/dashboard/positions/{row.id}" for row in [*made.world.live, *made.world.closed]]
        paths += [f"/dashboard/signals/{view.signal.id}" for view in made.world.views]
        sections = ("equity", "status", "approvals", "positions", "limits", "signals", "whales", "health", "scan")
        paths += [f"/dashboard/_/{name}" for name in sections]
        for path in paths:
            html = made.visitor.read(path)
            assert not ODD.search(_text(html)), path
            if "/_/" not in path:
                assert 'class="badge PAPER"' in html
                assert 'href="/dashboard/panic"' in html


def test_what_the_last_scan_fell_back_on_stands_with_it_and_nothing_where_it_did_not(made: World) -> None:
    fill(made.world, made.market)
    said = "It fell back: tickers from REST; large trades of 2 symbols from REST"
    assert said in made.visitor.read("/dashboard/market")
    made.world.scanned = [msgspec.structs.replace(made.world.scanned[0], fallbacks=[])]
    assert "It fell back" not in made.visitor.read("/dashboard/_/scan")


def test_hostile_text_stays_text(made: World) -> None:
    fill(made.world, made.market)
    hostile = made.world.views[2].signal.id
    html = made.visitor.read(f"/dashboard/signals/{hostile}") + made.visitor.read("/dashboard/signals")
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert HOSTILE not in html


def test_an_unknown_tab_is_a_page_that_says_so(made: World) -> None:
    assert "There is no such page" in made.visitor.read("/dashboard/nowhere", 404)
    assert "There is no such page" in made.visitor.read("/dashboard/positions/not-an-id", 404)


def test_somebody_who_is_not_logged_in_is_led_to_the_log_in_page(made: World) -> None:
    made.visitor.client.cookies.clear()
    reply = made.visitor.client.get("/dashboard/positions", headers=HTML, follow_redirects=False)
    assert reply.status_code == 303
    assert reply.headers["location"] == "/login?say=login&next=/dashboard/positions"


def test_logging_in_goes_on_inside_the_dashboard_only(made: World) -> None:
    made.visitor.send("/logout", "/dashboard/more")
    for wish, place in (
        ("/dashboard/ledger", "/dashboard/ledger"),
        ("https://evil.example", "/dashboard"),
        ("//evil", "/dashboard"),
    ):
        made.visitor.client.cookies.clear()
        reply = made.visitor.send("/login", "/login", username="ann", password=PASSWORD, next=wish)
        assert (reply.status_code, reply.headers["location"]) == (303, place)


def test_a_wrong_password_is_said_at_the_form_and_the_name_is_kept(made: World) -> None:
    made.visitor.client.cookies.clear()
    reply = made.visitor.send("/login", "/login", username="ann", password="not this one")
    assert reply.status_code == 401
    assert "Name or password is wrong." in reply.text
    assert 'value="ann"' in reply.text
    assert "not this one" not in reply.text


def test_a_form_without_its_token_does_nothing(made: World) -> None:
    fill(made.world, made.market)
    position = made.world.live[0].id
    reply = made.visitor.client.post(f"/dashboard/positions/{position}/close", data={"part": "all"}, headers=HTML)
    assert reply.status_code == 403
    assert made.world.called == []


def test_close_half_closes_half_of_it_rounded_to_the_step(made: World) -> None:
    fill(made.world, made.market)
    row = made.world.live[0]
    path = f"/dashboard/positions/{row.id}"
    reply = made.visitor.send(f"{path}/close", path, part="half")
    assert reply.headers["location"] == f"{path}?say=partly-closed"
    assert made.world.called == ["close 0.0015"]


def test_a_double_tap_closes_once(made: World) -> None:
    fill(made.world, made.market)
    path = f"/dashboard/positions/{made.world.live[0].id}"
    text = made.visitor.read(path)
    fields = {name: _value(text, name) for name in ("csrf_token", "form_token")} | {"part": "half"}
    replies = [
        made.visitor.client.post(f"{path}/close", data=fields, headers=HTML, follow_redirects=False).headers["location"]
        for _ in range(2)
    ]
    assert replies == [f"{path}?say=partly-closed", f"{path}?say=again"]
    assert made.world.called == ["close 0.0015"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("NaN", "Enter a number"),
        ("9" * 20, "Enter a number"),
        ("1e3", "Enter a number"),
        ("9", "Only 0.0031 is open."),
        ("-1", "Enter a number"),
    ],
)
def test_a_quantity_that_cannot_be_closed_is_said_at_the_field(made: World, given: str, said: str) -> None:
    fill(made.world, made.market)
    path = f"/dashboard/positions/{made.world.live[0].id}"
    reply = made.visitor.send(f"{path}/close", path, part="quantity", quantity=given)
    assert said in reply.text
    assert f'value="{given}"' in reply.text
    assert 'aria-invalid="true"' in reply.text
    assert made.world.called == []


def test_moving_the_stop_sends_only_what_changed(made: World) -> None:
    fill(made.world, made.market)
    path = f"/dashboard/positions/{made.world.live[0].id}"
    made.visitor.send(f"{path}/protect", path, stop_loss="63000", take_profit="66000.0", trailing_percent="0.5")
    assert made.world.called == ["amend stop_loss=63000 take_profit=None trailing_ratio=0.005"]


def test_a_refused_stop_is_said_at_the_field(made: World) -> None:
    fill(made.world, made.market)
    path = f"/dashboard/positions/{made.world.live[0].id}"
    reply = made.visitor.send(f"{path}/protect", path, stop_loss="1", take_profit="", trailing_percent="")
    assert "The stop must lie above the liquidation price." in reply.text


def test_approve_and_decline_lead_on_and_a_late_approval_is_said_in_words(made: World) -> None:
    fill(made.world, made.market)
    waiting = made.world.waiting[0]
    reply = made.visitor.send(f"/dashboard/approvals/{waiting.id}/approve", "/dashboard")
    assert reply.headers["location"].startswith("/dashboard/positions/")
    late = made.visitor.send(f"/dashboard/approvals/{waiting.id}/approve", "/dashboard/settings")
    assert late.status_code == 409
    assert "not approved in time" in late.text


def test_stopping_asks_and_keeps_positions_unless_told_otherwise(made: World) -> None:
    fill(made.world, made.market)
    assert "Leave them, protected" in made.visitor.read("/dashboard/stop")
    made.visitor.send("/dashboard/stop", "/dashboard/stop", positions="keep")
    made.visitor.send("/dashboard/stop", "/dashboard/stop", positions="close")
    assert made.world.called == ["stop close=False", "stop close=True"]


def test_panic_takes_two_steps_and_ends_at_a_receipt(made: World) -> None:
    fill(made.world, made.market)
    assert "Step 1 of 2" in _text(made.visitor.read("/dashboard/panic"))
    assert made.world.called == []
    reply = made.visitor.send("/dashboard/panic", "/dashboard/panic")
    receipt = _text(made.visitor.read(reply.headers["location"]))
    assert "0 positions and 0 orders" in receipt
    assert "BTCUSDT Closed" in receipt


def test_settings_keep_what_was_typed_and_say_what_is_wrong_at_each_field(made: World) -> None:
    typed = {
        "fixed_order_size": "0.5",
        "leverage": "2.5",
        "max_positions": "x",
        "max_exposure": "100",
        "max_daily_loss": "NaN",
        "version": "1",
    }
    reply = made.visitor.send("/dashboard/settings", "/dashboard/settings", **typed)
    assert all(f'value="{value}"' in reply.text for value in typed.values())
    assert reply.text.count('aria-invalid="true"') == 4
    assert next(iter(made.world.users.values())).settings_version == 1


def test_settings_changed_elsewhere_are_not_overwritten(made: World) -> None:
    typed = {"fixed_order_size": "50", "leverage": "5", "max_positions": "3", "max_exposure": "100", "max_daily_loss": "20"}
    assert made.visitor.send("/dashboard/settings", "/dashboard/settings", **typed, version="1").status_code == 303
    again = made.visitor.send("/dashboard/settings", "/dashboard/settings", **(typed | {"leverage": "9"}), version="1")
    assert "changed elsewhere" in again.text
    assert next(iter(made.world.users.values())).leverage == Decimal(5)


def test_a_position_without_a_price_shows_a_dash_and_no_total(made: World) -> None:
    made.world.live = [position_row()]
    html = made.visitor.read("/dashboard")
    assert 'aria-label="no price for this symbol now">\u2014<' in html
    assert 'aria-label="a price is missing">\u2014<' in html
    assert "Close<" in html


def test_the_look_is_kept_in_a_cookie_and_painted_by_the_server(made: World) -> None:
    made.visitor.send("/dashboard/look", "/dashboard/settings", theme="dark", palette="blue")
    html = made.visitor.read("/dashboard")
    assert 'data-theme="dark"' in html
    assert 'data-palette="blue"' in html


def test_switching_auto_trading_on_is_told_to_the_other_tabs(made: World) -> None:
    made.visitor.send("/dashboard/auto-trading", "/dashboard")
    assert "Trading is on, on paper" in made.visitor.read("/dashboard")
    assert "settings" in [message.event for message in made.bus.told]


def test_a_static_file_is_kept_for_ever_under_its_hash_and_not_there_under_another(made: World) -> None:
    html = made.visitor.read("/login")
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', html)
    assert addresses
    for address in addresses:
        reply = made.visitor.client.get(address)
        assert reply.status_code == 200
        assert "immutable" in reply.headers["cache-control"]
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert made.visitor.client.get("/static/000000000000/app.css").status_code == 404
    assert made.visitor.client.get("/static/000000000000/../../settings.py").status_code == 404


def test_pages_are_never_stored_and_carry_the_policy(made: World) -> None:
    reply = made.visitor.client.get("/dashboard", headers=HTML)
    assert reply.headers["cache-control"] == "no-store"
    assert "script-src 'self'" in reply.headers["content-security-policy"]


def test_an_admin_page_is_for_admins(made: World) -> None:
    assert "Not allowed" in made.visitor.read("/dashboard/admin", 403)
    assert "/dashboard/admin" not in made.visitor.read("/dashboard")


def test_the_polled_numbers_are_the_streams_patches(made: World) -> None:
    fill(made.world, made.market)
    found = made.visitor.client.get("/dashboard/_/tick").json()
    position = made.world.live[0].id
    assert found["t"][f"mark-{position}"] == "64,321.5"
    assert found["s"][f"pnl-{position}"] == "up"
    assert found["x"][f"track-{position}"] == 458


def test_a_link_from_elsewhere_is_asked_for_again_with_its_cookies(made: World) -> None:
    made.visitor.client.cookies.clear()
    headers = HTML | {"sec-fetch-site": "cross-site"}
    reply = made.visitor.client.get("/dashboard/ledger", headers=headers, follow_redirects=False)
    assert reply.status_code == 200
    assert 'content="0; url=/dashboard/ledger"' in reply.text


def test_a_section_asked_for_after_the_login_ended_leads_the_whole_page_to_the_log_in(made: World) -> None:
    made.visitor.client.cookies.clear()
    reply = made.visitor.client.get(
        "/dashboard/_/equity", headers={"accept": "*/*", "hx-request": "true"}, follow_redirects=False
    )
    assert (reply.status_code, reply.headers["hx-redirect"]) == (204, "/login?say=login")


def test_whales_show_what_the_last_scan_expected_when_nothing_is_liquidated(made: World) -> None:
    fill(made.world, made.market)
    made.market.feed = msgspec.structs.replace(made.market.feed, views=[], recent=[]) if made.market.feed else None
    text = _text(made.visitor.read("/dashboard/market"))
    assert "dump expected" in text
    assert "scan 14:00" in text


CASCADE = {
    "liquidations": 21,
    "cascade": CascadeState.RUNNING,
    "cascade_side": Side.LONG,
    "cascade_heat": 88.0,
    "cascade_answer_ratio": 0.0148,
    "book_imbalance_ratio": -0.32,
    "buy_wall": False,
    "sell_wall": True,
    "large_bought_usd": 60_000.0,
    "large_sold_usd": 1_900_000.0,
    "funding_ratio": -0.000125,
    "open_interest_change_ratio": -0.021,
    "long_short_ratio": 1.62,
}
IN_WORDS = (
    "Forced orders, 5 min 21", "Price with them +1.48%", "Book 32% to the asks", "Walls within 1% ask", "Large buys, 5 min $60.0k",
    "Large sells, 5 min $1.9M", "Funding −0.0125%", "Open interest, 5 min −2.10%", "Longs for each short 1.62",
)  # fmt: skip


def test_a_running_cascade_and_what_the_detector_saw_are_shown_where_whales_are(made: World) -> None:
    fill(made.world, made.market)
    assert made.market.feed is not None
    views = [msgspec.structs.replace(made.market.feed.views[0], **CASCADE)]
    made.market.feed = msgspec.structs.replace(made.market.feed, views=views)
    brief, whole = _text(made.visitor.read("/dashboard")), _text(made.visitor.read("/dashboard/market"))
    assert "cascade running, pushing down" in brief
    assert "Large sells" not in brief
    assert "cascade running, pushing down" in whole
    for words in IN_WORDS:
        assert words in whole
    assert not ODD.search(whole)


def test_a_signal_and_a_candidate_keep_the_cascade_that_was_seen_then(made: World) -> None:
    fill(made.world, made.market)
    whale = (
        {"signal": "NEUTRAL", "pressure": "LONG_HEAVY", "reasons": []} | msgspec.to_builtins(CASCADE) | {"cascade": "EXHAUSTED"}
    )
    view = made.world.views[0]
    made.world.views[0] = msgspec.structs.replace(view, signal=msgspec.structs.replace(view.signal, whale=whale))
    text = _text(made.visitor.read(f"/dashboard/signals/{view.signal.id}"))
    assert "Liquidations cascade exhausted, pushed down" in text
    assert all(words in text for words in IN_WORDS)
    scan = made.world.scanned[0]
    candidates = [{"symbol": "WIFUSDT", "direction": "LONG", "score": 12.0, "features": {}, "whale": whale}]
    made.world.scanned[0] = msgspec.structs.replace(scan, candidates=candidates)
    assert "quiet, cascade exhausted, pushed down" in _text(made.visitor.read("/dashboard/market"))


def test_an_engine_that_is_away_is_said_and_nothing_is_zeroed(made: World) -> None:
    fill(made.world, made.market)
    made.market.feed, made.market.prices = None, {}
    text = _text(made.visitor.read("/dashboard"))
    assert "feed not reached" in text
    assert "Equity \u2014" in text
    assert "Close 1000PEPEUSDT" in text


def test_an_error_page_says_the_mode_and_leads_back(made: World) -> None:
    html = made.visitor.read("/dashboard/nowhere", 404)
    assert 'class="badge PAPER"' in html
    assert 'href="/dashboard/panic"' in html
    made.visitor.client.cookies.clear()
    assert 'href="/dashboard"' not in made.visitor.read("/no/such/page", 404)


def test_a_form_that_failed_on_its_source_may_be_sent_again(made: World) -> None:
    fill(made.world, made.market)
    page = f"/dashboard/positions/{made.world.live[0].id}"
    path, text = f"{page}/close", made.visitor.read(page)
    fields = {name: _value(text, name) for name in ("csrf_token", "form_token")} | {"part": "half"}
    close = made.world.close

    async def away(*_args: object, **_kwargs: object) -> Any:
        raise StoreUnavailable("postgresql: OperationalError")

    made.world.close = away  # type: ignore[method-assign]
    assert made.visitor.client.post(path, data=fields, headers=HTML).status_code == 503
    made.world.close = close  # type: ignore[method-assign]
    sent = made.visitor.client.post(path, data=fields, headers=HTML, follow_redirects=False)
    assert sent.headers["location"].endswith("say=partly-closed")
    again = made.visitor.client.post(path, data=fields, headers=HTML, follow_redirects=False)
    assert again.headers["location"].endswith("say=again")


def test_forms_without_a_token_are_not_taken_for_one_another(made: World) -> None:
    csrf = _value(made.visitor.read("/dashboard/stop"), "csrf_token")
    for _ in range(2):
        reply = made.visitor.client.post(
            "/dashboard/stop", data={"csrf_token": csrf, "positions": "keep"}, follow_redirects=False
        )
        assert reply.headers["location"].endswith("say=stopped")


@pytest.mark.parametrize("odd", ["99999.999999999", "9" * 30, "1\x00"])
def test_a_limit_that_would_be_rounded_or_overflow_is_not_saved(made: World, odd: str) -> None:
    limits = {"leverage": "10", "max_positions": "10", "max_exposure": "20000", "max_daily_loss": "500"}
    reply = made.visitor.send("/dashboard/settings", "/dashboard/settings", fixed_order_size=odd, **limits)
    assert reply.status_code == 200
    assert "Enter a number such as" in reply.text
