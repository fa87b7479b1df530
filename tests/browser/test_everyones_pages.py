"""Pages for everyone, in real Chromium over a made-up world: narrow and wide, with text at 200 %, by touch, light and dark, and read by axe-core."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

import msgspec
import pytest
import uvicorn
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page

from deploy.servers import free_port
from tests.browser.fakes import FakeBus, FakeMarket, FakeWorld, fill, site_of
from tests.browser.watching import DESK, PHONE, SMALL, Watch, chromium, tab
from tests.polling import eventually

pytestmark = pytest.mark.browser

PASSWORD: Final = "correct horse battery"
NEIGHBOURS: Final = {360: (320, 360), 1280: (768, 1280)}
"""Each page is loaded at a phone's width and at a desk's, and squeezed to the one below."""

OUTSIDE: Final = ("/", "/register", "/login")
INSIDE: Final = ("", "/positions", "/signals", "/market", "/history", "/ledger", "/settings", "/stop", "/panic", "/more")
RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
"""WCAG 2.2 AA as axe-core tags it. Source: axe-core API documentation, "Axe-core Tags"."""

_VIOLATIONS: Final = """async (tags) => (await axe.run({runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})).violations
  .map((rule) => `${rule.impact} ${rule.id}: ` + rule.nodes.map((node) => node.target.join(' ') + ' ' + node.html.slice(0, 100)).join(' | '))"""
_SIDEWAYS: Final = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5).slice(0, 5).map((node) => node.outerHTML.slice(0, 120))
  .concat(`${document.documentElement.scrollWidth} of ${innerWidth}`)"""
_CUT_OFF: Final = """() => [...document.querySelectorAll('a.btn, button, .bar a, .segments a')]
  .filter((node) => node.offsetParent && node.scrollWidth > node.clientWidth + 1).map((node) => node.outerHTML.slice(0, 120))"""


class Look(msgspec.Struct, frozen=True):
    """How a page is looked at."""

    width: int
    scheme: Literal["light", "dark"]


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """The dashboard over a made-up world, on a port of its own."""
    world, market, port = FakeWorld(), FakeMarket(), free_port()
    fill(world, market)
    app = site_of(world, market, FakeBus())
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return bool(server.started)

    try:
        await eventually(started, seconds=10, what="the dashboard to answer")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


async def test_every_page_fits_every_width_at_200_percent_text_too_and_axe_finds_nothing_serious() -> None:
    watch = Watch()
    async with served() as url, chromium() as browser:
        visitor = await browser.new_context(base_url=url)
        page = await tab(visitor, watch, PHONE)
        found = await _walk(page, OUTSIDE, Look(width=360, scheme="light"))
        found += await _walk(page, OUTSIDE, Look(width=1280, scheme="dark"))
        await _register(page)
        places = [f"/dashboard{name}" for name in INSIDE] + await _details(page)
        wide = await tab(visitor, watch, DESK)
        both = await asyncio.gather(
            _walk(page, places, Look(width=360, scheme="light")), _walk(wide, places, Look(width=1280, scheme="dark"))
        )
        await visitor.close()
    faults = [*found, *both[0], *both[1]]
    assert faults == [], "\n".join(faults)
    assert watch.faults == [], "\n".join(watch.faults)


async def _register(page: Page) -> None:
    await page.goto("/register")
    await page.get_by_label("Name").fill("ann")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Open a paper account").click()
    await page.wait_for_url("**/dashboard")


async def _details(page: Page) -> list[str]:
    """One position, the question before it is closed, one signal."""
    await page.goto("/dashboard/positions")
    rows = page.locator("#positions li").first
    close = await rows.get_by_role("link", name="Close").get_attribute("href")
    position = await rows.locator(".row-link").get_attribute("href")
    await page.goto("/dashboard/signals")
    signal = await page.locator("#signals li a").first.get_attribute("href")
    return [place for place in (position, close, signal) if place]


async def _walk(page: Page, places: Sequence[str], look: Look) -> list[str]:
    """What is wrong with the pages at this width and its narrow or middle neighbour; empty where nothing is."""
    await page.emulate_media(color_scheme=look.scheme, reduced_motion="reduce")
    return [f"{place} {look.scheme}: {fault}" for place in places for fault in await _faults(page, place, look.width)]


async def _faults(page: Page, place: str, width: int) -> list[str]:
    found: list[str] = []
    await _resize(page, width)
    reply = await page.goto(place)
    if reply is None or reply.status != 200:
        return ["is not there"]
    await page.evaluate(AXE_SCRIPT)  # not by a script tag: the page's policy forbids one
    found += [f"axe: {violation}" for violation in await page.evaluate(_VIOLATIONS, RULES)]
    for each in NEIGHBOURS[width]:
        await _resize(page, each)
        found += [f"small at {each} px: {node}" for node in await page.evaluate(SMALL)]
        found += [f"sideways at {each} px: {node}" for node in await page.evaluate(_SIDEWAYS)]
    await _resize(page, width)
    await page.evaluate("() => { document.documentElement.style.fontSize = '200%' }")
    found += [f"sideways at {width} px and 200 % text: {node}" for node in await page.evaluate(_SIDEWAYS)]
    found += [f"cut off at {width} px and 200 % text: {node}" for node in await page.evaluate(_CUT_OFF)]
    return found


async def _resize(page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": PHONE["height"]})
