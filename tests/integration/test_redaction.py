"""A user's key goes through both services, well and badly, and is found nowhere afterwards: no log line, reply, metric or row has it."""

import io
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import structlog
from litestar import Litestar
from msgspec import structs
from prometheus_client import REGISTRY, generate_latest

from engine.errors import VenueHalted
from engine.execution.venues import Venues
from engine.keys import Seal, new_private_key, private_keys_of
from engine.ports import AccountModes, Exchange, Permissions, Urgency
from engine.routes import keys
from engine.routes.http import EXCEPTION_HANDLERS, token_guard, trace_middleware
from orchestrator.engine_client import HttpEngine
from orchestrator.keys import EngineSealer
from orchestrator.store.database import Database, open_database
from orchestrator.store.vault import SqlFactorVault, SqlKeyVault
from orchestrator.trading.arm import Arm
from orchestrator.web.factors import FactorKey, Factors
from shared.enums import PositionMode
from shared.execution import RealAccount
from tests.fakes import FakeLifeline
from tests.integration.store_rows import NOW, add_user
from tests.integration.test_vault import dump_of
from tests.unit.orchestrator.web_fakes import SECRET, World, client_of

pytestmark = pytest.mark.servers

KEY, PRIVATE = "CANARYKEYxQ7" + "k" * 52, "CANARYSECRETz9" + "s" * 50
TOKEN = "t" * 40


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Everything that is logged, tracebacks with it, without the filter that the processes put before it."""
    text = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=repr)],
        logger_factory=structlog.WriteLoggerFactory(file=text),
        cache_logger_on_first_use=False,
    )
    yield text
    structlog.reset_defaults()


class OpenedExchange:
    """An exchange that knows the opened key, and may crash with it in its hands."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self.breaks: type[Exception] | None = None
        self.seen: list[str] = []

    def of(self, account: RealAccount, urgency: Urgency) -> Exchange:
        assert account.credentials is not None
        pair = self._seal.open(account.user_id, account.credentials)
        self.seen += [pair.api_key, pair.api_secret]
        return cast("Exchange", self)

    async def permissions(self) -> Permissions:
        if self.breaks is not None:
            raise self.breaks("-2015: Invalid API-key, IP, or permissions for action.")
        return Permissions(can_trade=True, can_withdraw=False, ip_restricted=False)

    async def modes(self) -> AccountModes:
        return AccountModes(position=PositionMode.ONE_WAY, multi_assets=False)


def engine_app(seal: Seal, exchange: OpenedExchange) -> Litestar:
    anything = cast("Any", None)
    venues = Venues(paper=anything, dry=anything, real=anything, exchanges=cast("Any", exchange), dry_run=False)
    site = Litestar(
        route_handlers=keys.HANDLERS,
        guards=[token_guard(TOKEN)],
        middleware=[trace_middleware],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
        logging_config=None,
    )
    site.state.desk = SimpleNamespace(venues=venues, clock=SimpleNamespace(now=lambda: NOW))
    site.state.seal, site.state.own_pair = seal, None
    return site


async def test_a_key_that_went_through_both_services_is_found_nowhere(
    database: Database, database_url: str, written: io.StringIO
) -> None:
    seal = Seal(private_keys_of(new_private_key()))
    exchange = OpenedExchange(seal)
    transport = httpx.ASGITransport(cast("Any", engine_app(seal, exchange)), raise_app_exceptions=False)
    replies: list[str] = []

    async def kept(response: httpx.Response) -> None:
        replies.append((await response.aread()).decode() + str(response.headers))

    inner = httpx.AsyncClient(
        transport=transport,
        base_url="http://engine.test",
        headers={"Authorization": f"Bearer {TOKEN}"},
        event_hooks={"response": [kept]},
    )
    world = World()
    engine = HttpEngine(inner)
    world.arm = Arm(SqlKeyVault(database), EngineSealer(engine), engine, FakeLifeline(), world.bus, world.clock, dry_run=False)
    world.factors = Factors(SqlFactorVault(database), world.throttle, world.clock, FactorKey(SECRET))
    async with inner, client_of(world) as http:
        user_id = await add_user(database)
        stranger = await world.person("ada")
        world.store.users[user_id] = structs.replace(world.store.users.pop(stranger), id=user_id)
        headers = {"Authorization": f"Bearer {(await world.token(user_id))[0]}"}
        bodies: list[Any] = [
            {"api_key": KEY, "api_secret": PRIVATE},
            {"api_key": KEY, "api_secret": PRIVATE, "more": PRIVATE},
            {"api_key": [KEY], "api_secret": {"x": PRIVATE}},
            {"api_key": KEY + " ", "api_secret": PRIVATE + "\u00e9"},
            PRIVATE,
        ]
        for breaks in (None, VenueHalted, RuntimeError):
            exchange.breaks = breaks
            replies += [(await http.put("/api/user/api-key", json=body, headers=headers)).text for body in bodies]
        broken = ('{"api_key": "' + KEY + '", "api_secret": "' + PRIVATE).encode()
        replies.append(
            (await http.put("/api/user/api-key", content=broken, headers=headers | {"Content-Type": "application/json"})).text
        )
        paths = ("/api/user/me", "/api/user/arming", "/api/settings", "/metrics")
        replies += [(await http.get(path, headers=headers)).text for path in paths]
        sealed = await SqlKeyVault(database).credentials(user_id)
        assert sealed is not None
        replies += [
            repr(sealed),
            repr(world.arm.__dict__),
            repr(world.factors),
            repr(seal),
            json.dumps(world.bus.told, default=repr),
        ]
    assert KEY in exchange.seen, "the key was never opened: nothing is proven"
    everything = "\n".join([*replies, written.getvalue(), generate_latest(REGISTRY).decode(), dump_of(database_url)])
    assert "api_secret" in everything
    for text in (KEY, PRIVATE):
        assert not [form for form in forms_of(text) if form in everything]


def forms_of(text: str) -> list[str]:
    """Plain, hexadecimal, and base64 at each of its three alignments, without the ends that neighbours change."""
    aligned = [b64encode(b"\0" * shift + text.encode()).decode()[4:-4] for shift in range(3)]
    return [text, text[:20], text.encode().hex(), *aligned]
