"""One day of a user on a phone and on a desktop, in real Chromium, on the orchestrator as it runs."""

import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.browser.scripted import ScriptedEngine, Services
from tests.browser.watching import DESK, PHONE, Watch, check_page, chromium, connection, gone, moves, see, shown_on_failure, tab
from tests.integration.store_rows import NOW

pytestmark = [pytest.mark.browser, pytest.mark.servers]

SPEED = 300.0
"""A candle's close every three seconds."""

PASSWORD = "correct horse battery"
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
    await _register(phone)
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
    await _it_ticks_without_a_shared_worker(browser, services, watch)
    await _it_works_without_scripts(browser, services)
    await _the_server_restarts(phone, desk, services, watch, shots)
    await _panic(phone, desk, shots)


async def _register(page: Page) -> None:
    await page.goto("/")
    await page.get_by_role("link", name="Start with").click()
    await page.get_by_label("Name").fill("ann")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Open a paper account").click()
    await see(page, "nothing you do here can cost you anything")
    await see(page, "$10,000.00")


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
    await desk.get_by_role("link", name="Stop auto-trading").first.click()
    await see(desk, "Leave them, protected")
    await desk.get_by_role("button", name="Stop auto-trading").click()
    await see(desk, "Auto-trading is off")
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
    for page, width in ((phone, 360), (desk, 1280)):
        for name in PAGES:
            await page.goto(f"/dashboard{name}")
            await connection(page, "live")
            await check_page(page)
            await page.screenshot(path=shots / f"page{name.replace('/', '-')}-{width}.png", full_page=width == PHONE["width"])
        await page.goto("/dashboard/positions")
        await page.locator("#positions .row-link").first.click()
        await see(page, "Protection")
        await check_page(page)
        await moves(page, '#position [data-live^="mark-"]')


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
