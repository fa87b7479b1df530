"""Request limits in market time, and how they look to a client."""

import aiohttp
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.core.intervals import MINUTE_MS
from deploy.sandbox.core.limits import DATA, FIRST_BAN_MS, FUNDING, PATIENCE, WEIGHT, Ledger
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions

NOW = 1_000 * MINUTE_MS


def test_weight_is_counted_within_a_market_minute() -> None:
    ledger = Ledger(100)
    assert ledger.spend(WEIGHT, 60, NOW).used == 60
    assert ledger.spend(WEIGHT, 40, NOW + 59_999).used == 100
    assert ledger.spend(WEIGHT, 1, NOW + MINUTE_MS).used == 1


def test_too_much_weight_is_a_429_until_the_minute_ends() -> None:
    ledger = Ledger(100)
    standing = ledger.spend(WEIGHT, 101, NOW + 15_000)
    assert (standing.status, standing.wait_ms) == (429, 45_000)
    assert ledger.spend(WEIGHT, 1, NOW + MINUTE_MS).status == 200


def test_going_on_after_429_is_a_ban_that_grows() -> None:
    ledger = Ledger(10)
    statuses = [ledger.spend(WEIGHT, 11, NOW).status for _ in range(PATIENCE + 1)]
    assert statuses == [429] * PATIENCE + [418]
    assert ledger.spend(WEIGHT, 1, NOW + FIRST_BAN_MS - 1).status == 418
    later = NOW + FIRST_BAN_MS
    assert ledger.spend(WEIGHT, 1, later).status == 200
    again = [ledger.spend(WEIGHT, 11, later) for _ in range(PATIENCE + 1)][-1]
    assert (again.status, again.wait_ms) == (418, 2 * FIRST_BAN_MS)


@pytest.mark.parametrize("pool", [DATA, FUNDING])
def test_pools_of_their_own_leave_the_weight_alone(pool: object) -> None:
    ledger = Ledger(10)
    chosen = DATA if pool is DATA else FUNDING
    assert all(ledger.spend(chosen, 1, NOW).status == 200 for _ in range(chosen.limit))
    assert ledger.spend(chosen, 1, NOW).status == 429
    standing = ledger.spend(WEIGHT, 3, NOW)
    assert (standing.status, standing.used) == (200, 3)


async def test_a_client_sees_weight_429_and_418_as_binance_words_them() -> None:
    exchange = Exchange(SandboxOptions(port=0, speed=0, weight_limit=42))
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:

        async def ask(path: str) -> tuple[int, dict[str, str], object]:
            async with session.get(base + path) as response:
                return response.status, dict(response.headers), await response.json()

        status, headers, _ = await ask("/fapi/v1/ticker/24hr")
        assert (status, headers["X-MBX-USED-WEIGHT-1M"]) == (200, "40")
        status, headers, _ = await ask("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=499")
        assert (status, headers["X-MBX-USED-WEIGHT-1M"]) == (200, "42")
        status, headers, body = await ask("/fapi/v1/ping")
        assert status == 429
        assert 1 <= int(headers["Retry-After"]) <= 60
        assert isinstance(body, dict)
        assert body["code"] == -1003
        status, headers, _ = await ask("/fapi/v1/fundingInfo")
        assert status == 200
        assert "X-MBX-USED-WEIGHT-1M" not in headers
        replies = [await ask("/fapi/v1/ping") for _ in range(PATIENCE)]
        status, headers, body = replies[-1]
        assert status == 418
        assert isinstance(body, dict)
        assert body["msg"].startswith("Way too many requests; IP banned until")
