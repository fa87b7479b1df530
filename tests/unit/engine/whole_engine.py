"""Every door of the engine over worlds in memory, for tests that walk all of them."""

from litestar import Litestar

from engine.analysis import MarketDesk, RulesAnalyst, ScanPlan, Sources
from engine.core.screen import ScreenBounds
from engine.keys import Seal, new_private_key, private_keys_of
from engine.ports import Exchange, Exchanges, KeyPair, Urgency
from engine.routes import execution, keys, market, schema
from engine.routes.http import EXCEPTION_HANDLERS, token_guard, trace_middleware
from shared.execution import RealAccount
from tests.unit.engine import execution_desk, market_world
from tests.unit.engine.fake_exchange import FakeExchange

TOKEN = "right"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
DOORS = [*market.HANDLERS, *execution.HANDLERS, *keys.HANDLERS, *schema.HANDLERS]


class FreshAccounts:
    """Opens whatever is sealed, an account of its own each time."""

    def of(self, account: RealAccount, urgency: Urgency) -> Exchange:
        del account, urgency
        return FakeExchange()


class SealedAccounts:
    """Opens what the seal opens for the user who asks, and remembers for whom."""

    def __init__(self, seal: Seal) -> None:
        self.seal = seal
        self.exchange = FakeExchange()
        self.opened: list[str] = []

    def of(self, account: RealAccount, urgency: Urgency) -> Exchange:
        del urgency
        assert account.credentials is not None
        self.seal.open(account.user_id, account.credentials)
        self.opened.append(account.user_id)
        return self.exchange


def new_seal() -> Seal:
    """A seal with one key of its own."""
    return Seal(private_keys_of(new_private_key()))


def whole_engine(exchanges: Exchanges | None = None, seal: Seal | None = None) -> Litestar:
    """The application as `engine.app` mounts it."""
    clock = execution_desk.StandingClock()
    world, kept = market_world.World(clock), market_world.Kept()
    kept.feed = market_world.living_feed()
    world.list_dip("BTCUSDT")
    app = Litestar(
        route_handlers=DOORS,
        guards=[token_guard(TOKEN)],
        middleware=[trace_middleware],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
        logging_config=None,
    )
    app.state.desk = execution_desk.World(exchanges=exchanges or FreshAccounts(), dry_run=False).desk
    app.state.seal = seal or new_seal()
    app.state.own_pair = KeyPair(api_key="own-key", api_secret="own-secret")
    app.state.market_desk = MarketDesk(
        sources=Sources(market=world, snapshots=kept, clock=clock),
        plan=ScanPlan(bounds=ScreenBounds(min_quote_volume=3e7, min_change_percent=1.5, top_n=10), min_confidence=60),
        analyst=RulesAnalyst(),
        widen=lambda _candles: {},
        exchange=world,
        redis=kept,
        weight_used=lambda: 17,
    )
    return app
