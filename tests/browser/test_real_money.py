"""Real money as a person meets it, on a phone and a desktop: key, second factor, arming, a position that opens, is amended and closes, panic.

The whole stack trades at the sandbox exchange, whose own word is asked after each step that moves something there.
"""

import asyncio
import hashlib
import hmac
import os
import re
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import pyotp
import pytest
from playwright.async_api import Page

from tests.browser.watching import DESK, PHONE, Watch, check_page, chromium, connection, moves, see, shown_on_failure, tab
from tests.demo import RunningDemo
from tests.polling import eventually

pytestmark = [pytest.mark.browser, pytest.mark.servers]

PASSWORD: Final = "correct horse battery"
SPEED: Final = "250"
OPENS_MS: Final = 60_000
SETTLES_SECONDS: Final = 30.0
TRIES: Final = 4
"""A position may meet its stop while somebody is still reading: the next one is taken then."""

PAGES: Final = ("", "/positions", "/signals", "/history", "/ledger", "/settings", "/stop", "/panic", "/more")


class Exchange:
    """The person's account at the sandbox, and what it truly holds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.api_key = self.api_secret = ""

    async def open(self) -> None:
        """Puts 10,000 USDT into a new account."""
        opened = await self._ask("POST", "/sandbox/accounts", {"wallet": "10000"})
        self.api_key, self.api_secret = opened["api_key"], opened["api_secret"]

    async def truth(self) -> dict[str, Any]:
        """Wallet, positions and orders."""
        return await self._ask("GET", f"/sandbox/accounts/{self.api_key}", None)

    async def stops_of(self, symbol: str) -> set[Decimal]:
        """Trigger prices of the stops that rest, as the exchange lists them to whoever has the key."""
        query = urlencode({"symbol": symbol, "timestamp": int(time.time() * 1000)})
        signature = hmac.new(self.api_secret.encode(), query.encode(), hashlib.sha256).hexdigest()
        async with httpx.AsyncClient(timeout=20, trust_env=False, headers={"X-MBX-APIKEY": self.api_key}) as http:
            reply = await http.get(f"{self._url}/fapi/v1/openAlgoOrders?{query}&signature={signature}")
        listed = reply.raise_for_status().json()
        return {Decimal(order["triggerPrice"]) for order in listed if order["orderType"] == "STOP_MARKET"}

    async def holds(self) -> set[str]:
        """Symbols with something open."""
        return {row["symbol"] for row in (await self.truth())["positions"]}

    async def _ask(self, method: str, path: str, body: object) -> dict[str, Any]:
        async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
            told: dict[str, Any] = (await http.request(method, self._url + path, json=body)).raise_for_status().json()
            return told


async def test_a_person_arms_real_trades_amends_closes_and_panics(tmp_path: Path) -> None:
    shots = Path(os.environ["NEUROTRADE_SHOTS"]) if "NEUROTRADE_SHOTS" in os.environ else None
    watch = Watch()
    demo = RunningDemo(tmp_path / "demo", "--seed", "7", "--speed", SPEED, env={"BINANCE_DRY_RUN": "false"})
    await asyncio.to_thread(demo.__enter__)
    try:
        await asyncio.to_thread(demo.wait_trading)
        exchange = Exchange(_sandbox_of(demo.output))
        await exchange.open()
        async with chromium() as browser:
            context = await browser.new_context(base_url=f"http://127.0.0.1:{demo.port}")
            phone, desk = await tab(context, watch, PHONE), await tab(context, watch, DESK)
            async with shown_on_failure({"phone": phone, "desk": desk}, watch, shots or tmp_path):
                await _arm(phone, desk, exchange, shots)
                await _a_stop_is_amended(phone, desk, exchange, shots)
                await _one_is_closed_by_hand(phone, desk, exchange, shots)
                await _every_page_says_real(phone, desk, shots)
                await _panic(phone, desk, exchange, shots)
            await context.close()
    finally:
        await asyncio.to_thread(demo.__exit__, None, None, None)
    assert watch.faults == [], "\n".join(watch.faults)


def _sandbox_of(output: str) -> str:
    found = re.search(r"sandbox\s+ready after.*?(http://\S+)", output)
    assert found, output[-2000:]
    return found[1]


async def _keep(page: Page, shots: Path | None, name: str) -> None:
    """A picture for whoever wants to look."""
    if shots is not None:
        await page.screenshot(path=shots / name, full_page=True)


async def _arm(phone: Page, desk: Page, exchange: Exchange, shots: Path | None) -> None:
    await phone.goto("/register")
    await phone.get_by_label("Name").fill("ada")
    await phone.get_by_label("Password").fill(PASSWORD)
    await phone.get_by_role("button", name="Open a paper account").click()
    await see(phone, "nothing you do here can cost you anything")
    await desk.goto("/dashboard/settings")
    await see(desk, "What REAL needs")

    await phone.goto("/dashboard/settings")
    await phone.get_by_label("API key").fill(exchange.api_key)
    await phone.get_by_label("API secret").fill(exchange.api_secret)
    await phone.get_by_role("button", name="Store the key").click()
    await see(phone, "The key is stored, sealed.")
    assert exchange.api_secret not in await phone.content()

    await phone.get_by_role("button", name="Set up").click()
    secret = await phone.locator(".secret").inner_text()
    await _keep(phone, shots, "second-factor-360.png")
    codes, now = pyotp.TOTP(secret), int(time.time())
    await phone.get_by_label("First code").fill(codes.at(now))
    await phone.get_by_role("button", name="Switch on").click()
    await see(phone, "Write these recovery codes down now.")
    recovery = await phone.locator(".codes li").first.inner_text()

    await phone.goto("/dashboard/settings")
    await phone.locator("#f-totp-arm").fill(codes.at(now + codes.interval))
    await phone.get_by_role("button", name="Check everything now and arm REAL").click()
    await see(phone, "REAL is armed")
    assert await phone.locator("#mode .unmet").count() == 0
    await _raise_the_margin(phone, recovery, shots)
    await _keep(phone, shots, "armed-360.png")

    await phone.goto("/dashboard")
    await phone.get_by_role("button", name="Switch auto-trading on, REAL money").click()
    await see(phone, "Trading is on, with REAL money")
    await desk.goto("/dashboard")
    for page in (phone, desk):
        await connection(page, "live")
        await _shows_the_wallet(page, exchange)


async def _shows_the_wallet(page: Page, exchange: Exchange) -> None:
    """What the page says the exchange holds is what it holds, to the cent; a trade of this moment takes one to follow."""

    async def same() -> bool:
        shown = re.search(r"\$([\d,]+\.\d\d)", await page.locator("#wallet").inner_text())
        holds = Decimal((await exchange.truth())["wallet"])
        return shown is not None and abs(Decimal(shown[1].replace(",", "")) - holds) <= Decimal("0.01")

    await eventually(same, seconds=SETTLES_SECONDS, what="the page to show the exchange's wallet")


async def _raise_the_margin(page: Page, recovery: str, shots: Path | None) -> None:
    await page.get_by_label("Margin per trade").fill("120")
    await page.get_by_role("button", name="Save", exact=True).click()
    await see(page, "Raise what each REAL trade puts up?")
    await see(page, "$120.00")
    await check_page(page)
    await _keep(page, shots, "raise-360.png")
    await page.get_by_label("Code of your authenticator").fill(recovery)
    await page.get_by_role("button", name="Raise it").click()
    await see(page, "Saved.")
    assert await page.get_by_label("Margin per trade").input_value() == "120"


async def _a_stop_is_amended(phone: Page, desk: Page, exchange: Exchange, shots: Path | None) -> None:
    async def amended(symbol: str) -> bool:
        await see(phone, "Stop rests at the exchange, confirmed")
        await connection(phone, "live")
        await moves(phone, '#position [data-live^="mark-"]')
        stop, target = phone.get_by_label("Stop price"), phone.get_by_label("Target price")
        before, aim = Decimal(await stop.input_value()), Decimal(await target.input_value())
        after = (before - (aim - before) / 20).quantize(
            before
        )  # a little farther from the price, so that it cannot be met at once
        await _keep(phone, shots, "position-360.png")
        await stop.fill(str(after))
        await phone.get_by_role("button", name="Save stop and target").click()
        await phone.wait_for_load_state()
        if not await phone.get_by_text("Stop and target are saved.").count():
            return False
        assert await stop.input_value() == str(after)
        return after in await exchange.stops_of(symbol)

    for page in (phone, desk):
        await page.locator("#positions .name").first.wait_for(timeout=OPENS_MS)
        await moves(page, '#equity [data-live="equity"]')
        await check_page(page)
    await _keep(phone, shots, "overview-360.png")
    await _keep(desk, shots, "overview-1280.png")
    await _with_some_position(phone, amended, "an amended stop that rests at the exchange")


async def _one_is_closed_by_hand(phone: Page, desk: Page, exchange: Exchange, shots: Path | None) -> None:
    async def closed(symbol: str) -> bool:
        await phone.get_by_role("button", name="Close all of it, REAL money").click()
        await phone.wait_for_load_state()
        return await phone.get_by_text("closed by you").count() > 0 and symbol not in await exchange.holds()

    await _with_some_position(phone, closed, "a position closed by hand")
    await _keep(phone, shots, "closed-360.png")
    await desk.goto("/dashboard/history")
    await see(desk, "closed by you")


async def _with_some_position(page: Page, act: Callable[[str], Awaitable[bool]], what: str) -> None:
    """Does something with the newest position; with another where it was closed meanwhile."""
    for _ in range(TRIES):
        await page.goto("/dashboard/positions")
        link = page.locator("#positions .row-link").first
        await link.wait_for(timeout=OPENS_MS)
        symbol = await link.locator(".name").inner_text()
        await page.goto(str(await link.get_attribute("href")))
        if await page.locator("#protect").count() and await act(symbol):
            return
    pytest.fail(f"{what} was not seen in {TRIES} tries")


async def _every_page_says_real(phone: Page, desk: Page, shots: Path | None) -> None:
    for page, width, names in ((phone, 360, PAGES), (desk, 1280, PAGES[:2])):
        for name in names:
            await page.goto(f"/dashboard{name}")
            await connection(page, "live")
            await check_page(page)
            assert await page.locator(".top .badge").inner_text() == "REAL"
            assert (await page.title()).startswith("REAL")
            await _keep(page, shots, f"real-{(name or '/overview')[1:]}-{width}.png")
    await desk.goto("/dashboard/ledger?mode=PAPER")
    await see(desk, "$10,000.00")
    await desk.goto("/dashboard/ledger")
    await see(desk, "Equal to the exchange")


async def _panic(phone: Page, desk: Page, exchange: Exchange, shots: Path | None) -> None:
    await phone.goto("/dashboard")
    await phone.locator("#positions .name").first.wait_for(timeout=OPENS_MS)
    await desk.goto("/dashboard")
    await phone.locator(".bar .stop").click()
    await see(phone, "The exchange is asked until it answers: 0 positions, 0 orders")
    await check_page(phone)
    await phone.locator("main form").first.get_by_role("button").click()
    await see(phone, "The exchange reports 0 positions and 0 orders")
    await check_page(phone)
    await _keep(phone, shots, "receipt-360.png")
    await see(desk, "Auto-trading is off")
    await see(desk, "Nothing is open.")
    await _keep(desk, shots, "flat-1280.png")

    async def flat() -> bool:
        return not await exchange.holds() and not (await exchange.truth())["open_algo_orders"]

    await eventually(flat, seconds=SETTLES_SECONDS, what="the exchange to be flat")
