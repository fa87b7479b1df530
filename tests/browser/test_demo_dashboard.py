"""The demo as a person meets it: the whole stack, its own market, its own user, real Chromium."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.browser.watching import DESK, Watch, check_page, chromium, connection, moves, see, shown_on_failure, tab
from tests.demo import RunningDemo
from tests.polling import eventually

pytestmark = [pytest.mark.browser, pytest.mark.servers]

OPENS_MS = 60_000
CLOSES_SECONDS = 30
PASSES_A_SCAN = ("", "/positions", "/signals", "/market", "/history", "/ledger")


async def test_the_demo_trades_before_ones_eyes(tmp_path: Path) -> None:
    watch = Watch()
    demo = RunningDemo(tmp_path / "demo", "--fresh", "--seed", "7")
    await asyncio.to_thread(demo.__enter__)
    try:
        await asyncio.to_thread(demo.wait_trading)
        async with chromium() as browser:
            context = await browser.new_context(base_url=f"http://127.0.0.1:{demo.port}")
            page = await tab(context, watch, DESK)
            async with shown_on_failure({"desk": page}, watch, tmp_path):
                await _look_around(page, demo.secrets.demo_password)
            await context.close()
    finally:
        await asyncio.to_thread(demo.__exit__, None, None, None)
    assert watch.faults == [], "\n".join(watch.faults)


async def _look_around(page: Page, password: str) -> None:
    await page.goto("/login")
    await page.get_by_label("Name").fill("demo")
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Log in").click()
    await see(page, "Trading is on, on paper")
    await connection(page, "live")
    await page.locator("#positions .name").first.wait_for(timeout=OPENS_MS)
    await moves(page, '#equity [data-live="equity"]')
    await moves(page, '#positions [data-live^="mark-"]')
    await page.locator("#status .btn").wait_for()
    for name in PASSES_A_SCAN:
        await page.goto(f"/dashboard{name}")
        await connection(page, "live")
        await check_page(page)
    await page.goto("/dashboard/history")

    async def closed() -> int:
        await page.reload()
        return await page.locator(".rows .row-link").count()

    await eventually(closed, seconds=CLOSES_SECONDS, what="a position to close")
    await connection(page, "live")
    await check_page(page)
