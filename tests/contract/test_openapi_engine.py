"""schemathesis against the engine in-process: nothing that its own document allows ends in a crash or an answer that it does not tell.

OPENAPI_EXAMPLES sets how many requests each operation gets; few and always the same ones by default.
"""

import os
from typing import Any

import hypothesis
import schemathesis
from litestar import Litestar
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from engine.analysis import MarketDesk, RulesAnalyst, ScanPlan, Sources
from engine.core.screen import ScreenBounds
from engine.errors import SealBroken
from engine.ports import Exchange, Urgency
from engine.routes import execution, market, schema
from engine.routes.http import EXCEPTION_HANDLERS, token_guard, trace_middleware
from shared.execution import RealAccount
from tests.unit.engine import execution_desk, market_world
from tests.unit.engine.fake_exchange import FakeExchange

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "15"))
BEARER = {"Authorization": "Bearer right"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
]
SETTINGS = hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


class Accounts:
    """Opens whatever is sealed, an account of its own each time."""

    def of(self, account: RealAccount, urgency: Urgency) -> Exchange:
        del urgency
        if account.credentials is None:
            raise SealBroken("there is nothing to open")
        return FakeExchange()


def engine() -> Litestar:
    """Every door of the engine over worlds in memory."""
    clock = execution_desk.StandingClock()
    world, kept = market_world.World(clock), market_world.Kept()
    kept.feed = market_world.living_feed()
    world.list_dip("BTCUSDT")
    app = Litestar(
        route_handlers=[*market.HANDLERS, *execution.HANDLERS, *schema.HANDLERS],
        guards=[token_guard("right")],
        middleware=[trace_middleware],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
        logging_config=None,
    )
    app.state.desk = execution_desk.World(exchanges=Accounts(), dry_run=False).desk
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


APP = engine()
DOCUMENT = schemathesis.openapi.from_asgi("/schema", APP, headers=BEARER)


def test_the_document_names_every_door() -> None:
    doors = {
        (method, schema.public(route.path))
        for route in APP.routes
        for method in getattr(route, "methods", ())
        if method not in ("OPTIONS", "HEAD")
    }
    told = {(method.upper(), path) for path, item in DOCUMENT.raw_schema["paths"].items() for method in item}
    assert told == doors


@DOCUMENT.parametrize()
@SETTINGS
def test_the_engine_answers_as_its_document_says(case: Case[Any]) -> None:
    case.call_and_validate(headers=BEARER, checks=CHECKS)
