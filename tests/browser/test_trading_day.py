"""One day of a user on a phone and on a desktop, in real Chromium, on the orchestrator as it runs."""

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page

from tests.browser.scripted import ScriptedEngine, Services
from tests.browser.watching import DESK, PHONE, Watch, check_page, chromium, connection, gone, moves, see, shown_on_failure, tab
from tests.integration.store_rows import NOW

pytestmark = [pytest.mark.browser, pytest.mark.servers]

SPEED = 300.0
"""A candle's close every three seconds."""

PASSWORD = "correct horse battery"
HOSTILE = '"><img src=x onerror=alert(1)>'
PAGES = ("", "/positions", "/signals", "/market", "/history", "/ledger", "/settings", "/stop", "/panic", "/more")


async def test_a_day_on_phone_and_desktop(database_url: str, redis_url: str, tmp_path: Path) -> None:
    shots = Path(os.environ.get("NEUROTRADE_SHOTS", tmp_path))
    watch = Watch()
    async with (
        ScriptedEngine(NOW, SPEED).serve() as engine,
        Services(database_url, redis_url, engine) as services,
        chromium() as browser,
    ):
        context = await browser.new_context(base_url=services.url)
        phone, desk = await tab(context, watch, PHONE), await tab(context, watch, DESK)
        async with shown_on_failure({"phone": phone, "desk": desk}, watch, shots):
            await _the_whole_day(browser, phone, desk, engine, services, watch, shots)
        await context.close()
        assert watch.faults == [], "\n".join(watch.faults)
        assert services.faults() == []


async def _the_whole_day(
    browser: Browser, phone: Page, desk: Page, engine: ScriptedEngine, services: Services, watch: Watch, shots: Path
) -> None:
    await _register(phone, watch)
    await desk.goto("/dashboard")
    await connection(phone, "live")
    await connection(desk, "live")

    await phone.get_by_role("button", name="Switch auto-trading on").first.click()
    await see(phone, "Trading is on, on paper")
    await see(desk, "Trading is on, on paper")

    await _a_position_opens_and_meets_its_target(phone, desk, engine, shots)
    await _a_position_is_closed_by_hand(phone, desk, engine)
    await _auto_trading_is_stopped(phone, desk)
    await _one_is_approved_one_declined(phone, desk, engine, shots)
    await _every_page_is_sound(phone, desk, shots)
    await _twelve_tabs_share_one_stream(phone.context, services, watch)
    await _it_ticks_without_a_shared_worker(browser, services, watch)
    await _the_keyboard_is_enough(browser, services, engine, watch)
    await _a_frozen_feed_is_said(phone, desk, engine)
    await _it_works_without_scripts(browser, services)
    await _the_server_restarts(phone, desk, services, watch, shots)
    await _panic(phone, desk, shots)


async def _register(page: Page, watch: Watch) -> None:
    await page.goto("/")
    await see(page, "It costs nothing")
    await page.get_by_role("link", name="Start with").click()
    watch.outage = True  # the browser itself complains of the status that a refused form has
    await _hostile_name_stays_text(page)
    watch.outage = False
    await page.get_by_label("Name").fill("ann")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Open a paper account").click()
    await see(page, "nothing you do here can cost you anything")
    await see(page, "$10,000.00")


async def _hostile_name_stays_text(page: Page) -> None:
    await page.get_by_label("Name").fill(HOSTILE)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Open a paper account").click()
    await page.locator("#e-username").wait_for()
    assert await page.get_by_label("Name").input_value() == HOSTILE
    assert await page.locator("img").count() == 0


async def _a_position_opens_and_meets_its_target(phone: Page, desk: Page, engine: ScriptedEngine, shots: Path) -> None:
    engine.symbols = ["BTCUSDT"]
    for page in (phone, desk):
        await page.locator("#positions .name", has_text="BTCUSDT").wait_for()
        await moves(page, '#positions [data-live^="pnl-"]')
        await moves(page, '#equity [data-live="equity"]')
        await check_page(page)
    await phone.screenshot(path=shots / "open-360.png", full_page=True)
    await desk.screenshot(path=shots / "open-1280.png")
    engine.mark = engine.mark + 6
    for page in (phone, desk):
        await gone(page, "#positions li", "BTCUSDT")
    engine.mark = engine.mark - 6
    await desk.goto("/dashboard/history")
    await see(desk, "target reached")
    await desk.goto("/dashboard/ledger")
    await desk.locator(".entry", has_text="Price result").get_by_role("link", name="BTCUSDT").wait_for()
    await desk.goto("/dashboard")


async def _a_position_is_closed_by_hand(phone: Page, desk: Page, engine: ScriptedEngine) -> None:
    engine.symbols = ["ETHUSDT"]
    await phone.locator("#positions li", has_text="ETHUSDT").get_by_role("link", name="Close").click()
    await see(phone, "reduce-only")
    await check_page(phone)
    await phone.get_by_role("button", name="Close").click()
    await see(phone, "Closed.")
    await see(phone, "closed by you")
    await gone(desk, "#positions li", "ETHUSDT")
    await phone.goto("/dashboard")


async def _auto_trading_is_stopped(phone: Page, desk: Page) -> None:
    await phone.goto("/dashboard/settings")
    await connection(phone, "live")
    await desk.get_by_role("link", name="Stop auto-trading").first.click()
    await see(desk, "Leave them, protected")
    await desk.get_by_role("button", name="Stop auto-trading").click()
    await see(desk, "Auto-trading is off")
    await see(phone, "The settings were changed in another tab.")
    await phone.get_by_role("link", name="Reload").click()
    await phone.get_by_role("button", name="Switch auto-trading on").wait_for()
    await phone.goto("/dashboard")
    await phone.locator("#status", has_text="Auto-trading is off").wait_for()


async def _one_is_approved_one_declined(phone: Page, desk: Page, engine: ScriptedEngine, shots: Path) -> None:
    engine.symbols = ["SOLUSDT"]
    await desk.locator("#approvals article", has_text="SOLUSDT").wait_for()
    await phone.locator("#approvals article", has_text="SOLUSDT").wait_for()
    await moves(phone, "#approvals [data-until]")
    await phone.screenshot(path=shots / "approval-360.png", full_page=True)
    await phone.get_by_role("button", name="Approve SOLUSDT").click()
    await see(phone, "Approved and entered.")
    await desk.locator("#positions .name", has_text="SOLUSDT").wait_for()
    await gone(desk, "#approvals article", "SOLUSDT")

    engine.symbols = ["XRPUSDT"]
    await desk.get_by_role("button", name="Decline XRPUSDT").click()
    await see(desk, "Declined.")
    await desk.goto("/dashboard/signals")
    await desk.locator("#signals li", has_text="XRPUSDT").get_by_text("declined").wait_for()


async def _every_page_is_sound(phone: Page, desk: Page, shots: Path) -> None:
    await asyncio.gather(_look_through(phone, PHONE, shots), _look_through(desk, DESK, shots))
    await desk.goto("/dashboard/market")
    await moves(desk, "#whales time")


async def _look_through(page: Page, size: dict[str, int], shots: Path) -> None:
    width = size["width"]
    for name in PAGES:
        await page.goto(f"/dashboard{name}")
        await connection(page, "live")
        await check_page(page)
        await _fits_other_widths(page, size)
        await page.screenshot(path=shots / f"page{name.replace('/', '-')}-{width}.png", full_page=width == PHONE["width"])
    await page.goto("/dashboard/positions")
    await page.locator("#positions .row-link").first.click()
    await see(page, "Protection")
    await check_page(page)
    await moves(page, '#position [data-live^="mark-"]')


async def _fits_other_widths(page: Page, size: dict[str, int]) -> None:
    for width in (320, 768, size["width"]):
        await page.set_viewport_size({"width": width, "height": size["height"]})
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), f"{page.url} at {width}"


async def _twelve_tabs_share_one_stream(context: BrowserContext, services: Services, watch: Watch) -> None:
    tabs = [await tab(context, watch, PHONE) for _ in range(10)]
    await asyncio.gather(*(page.goto("/dashboard/positions") for page in tabs))
    for page in tabs:
        await connection(page, "live")
    await moves(tabs[0], '#positions [data-live^="pnl-"]')
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = (await client.get(f"{services.url}/metrics")).text
    assert "nt_live_streams 1.0" in metrics
    last = await tab(context, watch, PHONE)
    await last.goto("/dashboard/panic")
    await see(last, "What happens, in this order", milliseconds=3_000)
    for page in (*tabs, last):
        await page.close()


async def _the_keyboard_is_enough(browser: Browser, services: Services, engine: ScriptedEngine, watch: Watch) -> None:
    context = await browser.new_context(base_url=services.url)
    page = await tab(context, watch, DESK)
    await page.goto("/login")
    await _tab_to(page, "#f-username")
    await page.keyboard.type("ann")
    await _tab_to(page, "#f-password")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await see(page, "Open positions")
    engine.symbols = ["ADAUSDT"]
    await page.locator("#approvals article", has_text="ADAUSDT").wait_for()
    await _tab_to(page, "#approvals .primary")
    await page.keyboard.press("Enter")
    await see(page, "Approved and entered.")
    await page.goto("/dashboard/positions")
    row = page.locator("#positions li", has_text="ADAUSDT")
    place = await row.get_by_role("link", name="Close").get_attribute("href")
    await _tab_to(page, f'a[href="{place}"]')
    await page.keyboard.press("Enter")
    await see(page, "reduce-only")
    await _tab_to(page, "main form button")
    await page.keyboard.press("Enter")
    await see(page, "Closed.")
    await context.close()


async def _tab_to(page: Page, selector: str) -> None:
    """Presses Tab until this has the focus, and it shows."""
    for _ in range(60):
        if await page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            assert await page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {selector} on {page.url}")


async def _a_frozen_feed_is_said(phone: Page, desk: Page, engine: ScriptedEngine) -> None:
    await phone.goto("/dashboard/positions")
    await desk.goto("/dashboard")
    for page in (phone, desk):
        await connection(page, "live")
        await moves(page, '#positions [data-live^="pnl-"]')
    engine.frozen = True
    for page in (phone, desk):
        await see(page, "price is old")
        await check_page(page)
    await desk.locator(".side .stop").click()
    await see(desk, "Close 1 PAPER position now")
    engine.frozen = False
    await gone(phone, "[data-price-age]:not([hidden])", "price is old")


async def _it_ticks_without_a_shared_worker(browser: Browser, services: Services, watch: Watch) -> None:
    context = await browser.new_context(base_url=services.url)
    await context.add_init_script("delete window.SharedWorker")
    page = await tab(context, watch, PHONE)
    await _log_in(page)
    await connection(page, "live")
    await moves(page, '#positions [data-live^="pnl-"]')
    await page.goto("/dashboard/more")
    await page.get_by_role("button", name="Log out").click()
    await see(page, "You are logged out.")
    await page.go_back()
    await page.get_by_role("button", name="Log in").wait_for()
    assert "$" not in await page.evaluate("() => document.body.innerText")
    await context.close()


async def _it_works_without_scripts(browser: Browser, services: Services) -> None:
    context = await browser.new_context(base_url=services.url, java_script_enabled=False)
    page = await context.new_page()
    await _log_in(page)
    await page.locator("#positions .row-link").first.click()
    await page.get_by_role("button", name="Close half").click()
    await see(page, "A part is closed")
    await page.get_by_label("Stop price").fill("99.0")
    await page.get_by_role("button", name="Save stop and target").click()
    await see(page, "Stop and target are saved.")
    await context.close()


async def _log_in(page: Page) -> None:
    await page.goto("/login")
    await page.get_by_label("Name").fill("ann")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await see(page, "Open positions")


async def _the_server_restarts(phone: Page, desk: Page, services: Services, watch: Watch, shots: Path) -> None:
    await phone.goto("/dashboard")
    await desk.goto("/dashboard")
    await connection(phone, "live")
    watch.outage = True
    await services.stop("app")
    await connection(phone, "lost")
    await see(phone, "Live connection lost")
    await phone.screenshot(path=shots / "lost-360.png")
    await services.start("app")
    for page in (phone, desk):
        await connection(page, "live", milliseconds=10_000)
        await moves(page, '#positions [data-live^="pnl-"]')
    watch.outage = False


async def _panic(phone: Page, desk: Page, shots: Path) -> None:
    await phone.locator(".bar .stop").click()
    await see(phone, "What happens, in this order")
    await check_page(phone)
    await phone.get_by_role("button", name="Close 1 PAPER position now").click()
    await see(phone, "The account reports 0 positions and 0 orders")
    await check_page(phone)
    await phone.screenshot(path=shots / "receipt-360.png", full_page=True)
    await see(desk, "Nothing is open.")
    await see(desk, "Auto-trading is off")
