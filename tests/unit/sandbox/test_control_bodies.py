"""What the control surface will not do is said in the exchange's form on every path, and nothing of it happened."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions

PATHS = (
    "clock",
    "liquidations",
    "shocks",
    "symbols/SOLUSDT/rules",
    "accounts",
    "accounts/{key}/deleverage",
    "behaviour",
    "faults",
)
FORCED: dict[str, object] = {"symbol": "SOLUSDT", "side": "SELL", "quantity": "1", "price": "100"}
UNDOABLE: tuple[tuple[str, dict[str, object], tuple[int, int]], ...] = (
    ("clock", {"speed": -1}, (400, -1130)),
    ("liquidations", FORCED | {"side": "HOLD"}, (400, -1100)),
    ("liquidations", FORCED | {"price": "much"}, (400, -1100)),
    ("liquidations", FORCED | {"symbol": "NOPE"}, (400, -1121)),
    ("shocks", {"percent": 301}, (400, -1130)),
    ("symbols/SOLUSDT/rules", {"tick": "0.3"}, (400, -1100)),
    ("symbols/NOPE/rules", {}, (400, -1121)),
    ("symbols/NOPE/settle", {}, (400, -1121)),
    ("accounts", {"wallet": "-1"}, (400, -1130)),
    ("accounts/nobody/revoke", {}, (404, -2015)),
    ("accounts/nobody/deleverage", {"symbol": "SOLUSDT"}, (404, -2015)),
    ("behaviour", {"listen_key_ms": -1}, (400, -1130)),
    ("faults", {"profile": "hurricane"}, (400, -1130)),
)


class There:
    """A sandbox that stands still, with one account."""

    def __init__(self, session: aiohttp.ClientSession, base: str, exchange: Exchange, key: str) -> None:
        self.exchange = exchange
        self.key = key
        self._session = session
        self._base = base

    async def post(self, path: str, body: bytes | dict[str, object]) -> tuple[int, int]:
        """Status and code of a refusal."""
        given = {"data": body} if isinstance(body, bytes) else {"json": body}
        path = path.replace("{key}", self.key)
        async with self._session.post(f"{self._base}/sandbox/{path}", **given) as response:
            return response.status, (await response.json())["code"]


@pytest.fixture
async def there() -> AsyncIterator[There]:
    exchange = Exchange(SandboxOptions(port=0, speed=0))
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        async with session.post(f"{base}/sandbox/accounts", data=b"") as response:
            assert response.status == 201
            key = (await response.json())["api_key"]
        yield There(session, base, exchange, key)


async def test_a_body_that_is_not_what_a_path_wants_is_refused_the_same_way_everywhere(there: There) -> None:
    bodies = (b"{", b"[]", b'{"unknown": 1}')
    told = {(path, body): await there.post(path, body) for path in PATHS for body in bodies}
    assert told == dict.fromkeys(told, (400, -1100))


async def test_what_cannot_be_done_is_refused_with_its_code_and_changes_nothing(there: There) -> None:
    for path, body, refusal in UNDOABLE:
        assert (path, await there.post(path, body)) == (path, refusal)
    assert list(there.exchange.trading.accounts) == [there.key]
    assert there.exchange.market.injected == []
    assert there.exchange.clock.speed == 0
