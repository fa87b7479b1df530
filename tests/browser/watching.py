"""A real browser that notes everything that goes wrong in it, and waits for what must be seen."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright

from tests.conftest import missing

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
PHONE = {"width": 360, "height": 780}
DESK = {"width": 1280, "height": 860}
ODD_TEXT = re.compile(r"NaN|None|undefined|\bnull\b|\$[-\u2212]|Infinity|\[object")
SEEN_MS = 20_000
MOVES_MS = 10_000

SMALL = """() => [...document.querySelectorAll('a.btn, button, input, select, .bar a, .side a, .segments a, .row-link')]
  .filter((node) => !['hidden', 'radio'].includes(node.type) && node.offsetParent && node.getBoundingClientRect().height < 43.5)
  .map((node) => node.outerHTML.slice(0, 120))"""
_STOP_IS_FREE = """() => {
  const links = [...document.querySelectorAll('a.stop')].filter((node) => node.offsetParent || node.getClientRects().length);
  return links.some((link) => {
    const box = link.getBoundingClientRect();
    const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return hit === link || link.contains(hit);
  });
}"""


class Watch:
    """The faults of a browser's pages. While `outage` is set, a server that does not answer is no fault."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.outage = False

    def follow(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("requestfailed", self._failed)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not self.outage:
            self.faults.append(f"console {message.type}: {message.text} at {message.location}")

    def _failed(self, request: Request) -> None:
        # A page that is left aborts what it was still asking for, and a shared worker's script counts as such.
        if request.failure != "net::ERR_ABORTED" and not self.outage:
            self.faults.append(f"{request.url}: {request.failure}")


@asynccontextmanager
async def shown_on_failure(pages: dict[str, Page], watch: Watch, folder: Path) -> AsyncIterator[None]:
    """Keeps what the tabs looked like when a step failed, and adds what they say to the failure."""
    try:
        yield
    except Exception as error:
        for name, page in pages.items():
            await page.screenshot(path=folder / f"failed-{name}.png")
            text = await page.evaluate("() => document.body.innerText")
            error.add_note(f"{name} at {page.url}:\n{text[:1500]}")
        error.add_note(f"screenshots in {folder}; faults so far: {watch.faults}")
        raise


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium, headless."""
    if not CHROMIUM.exists():  # noqa: ASYNC240 - one look before anything runs
        missing(f"no browser at {CHROMIUM}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


async def tab(context: BrowserContext, watch: Watch, size: dict[str, int]) -> Page:
    """A new tab of this size."""
    page = await context.new_page()
    await page.set_viewport_size({"width": size["width"], "height": size["height"]})
    page.set_default_timeout(SEEN_MS)
    watch.follow(page)
    return page


async def check_page(page: Page) -> None:
    """What holds on every page of the dashboard: the mode is said, STOP is free, nothing odd, nothing sideways, nothing too small."""
    assert await page.locator(".top .badge").inner_text() in ("PAPER", "REAL")
    assert await page.evaluate(_STOP_IS_FREE), f"STOP is covered on {page.url}"
    text = await page.evaluate("() => document.body.innerText")
    assert not ODD_TEXT.search(text), (page.url, ODD_TEXT.findall(text))
    assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), f"{page.url} goes sideways"
    assert await page.evaluate(SMALL) == [], page.url


async def see(page: Page, text: str, *, milliseconds: float = SEEN_MS) -> None:
    """Waits until a text is on the page."""
    await page.get_by_text(text).first.wait_for(state="visible", timeout=milliseconds)


async def gone(page: Page, selector: str, text: str) -> None:
    """Waits until no such element with this text is left."""
    await page.locator(selector).filter(has_text=text).first.wait_for(state="detached", timeout=SEEN_MS)


async def connection(page: Page, state: Literal["live", "lost"], *, milliseconds: float = SEEN_MS) -> None:
    """Waits for what the page says of its live link."""
    await page.wait_for_function("(state) => document.body.dataset.connection === state", arg=state, timeout=milliseconds)


async def moves(page: Page, selector: str) -> None:
    """A live number must not stand still for ten seconds."""
    before = await page.locator(selector).first.inner_text()
    await page.wait_for_function(
        "([selector, before]) => document.querySelector(selector)?.innerText !== before", arg=[selector, before], timeout=MOVES_MS
    )
