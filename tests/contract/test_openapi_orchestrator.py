"""schemathesis against the orchestrator's API in-process: nothing that its own document allows ends in a crash or an undocumented answer.

Each request gets a world of its own, so that logging out or a spent limit is no other request's fault. OPENAPI_EXAMPLES sets how many
requests each operation gets; few and always the same ones by default.
"""

import os
from datetime import timedelta
from typing import Any
from uuid import UUID

import hypothesis
import msgspec
import schemathesis
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send
from schemathesis import Case, CheckContext, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from orchestrator.ports import NewUser
from orchestrator.web.site import create_site
from tests.unit.orchestrator.web_fakes import NOW, WALL, World

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "8"))
EXPECTED = {"/api/live": 503}
"""This world has room for no stream."""


def nothing_fails(_context: CheckContext, response: Response, case: Case[Any]) -> None:
    """The API tells of its own failures by 5xx only: here nothing may fail."""
    assert response.status_code < 500 or EXPECTED.get(case.path) == response.status_code, response.text


CHECKS = [
    nothing_fails,
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
USER, LOGIN = UUID(int=1), UUID(int=2)
POSITION, APPROVAL, SIGNAL = UUID(int=3), UUID(int=4), UUID(int=5)
MINE = {"position_id": POSITION, "approval_id": APPROVAL, "signal_id": SIGNAL}


class Fresh:
    """The site, with a world of its own for each request: one admin, logged in, with a position, an approval and a signal."""

    def __init__(self) -> None:
        self.site: Litestar = create_site(World().open_doors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            self.site.state.doors = (await a_world()).doors()
        await self.site(scope, receive, send)


async def a_world() -> World:
    world = World(most_streams=0)
    await world.store.add_user(NewUser(id=USER, username="Ada", password_hash="-", role="ADMIN", created_at=NOW))
    await world.store.open(LOGIN, USER, WALL, WALL + timedelta(hours=12))
    world.position(USER, id=POSITION)
    approval = world.approval(USER)
    world.store.approval_rows[:] = [(USER, msgspec.structs.replace(approval, id=APPROVAL))]
    world.store.signal_rows[:] = [msgspec.structs.replace(world.signal(), id=SIGNAL)]
    return world


BEARER = {"Authorization": "Bearer " + World().tokens.issue(USER, LOGIN, WALL, WALL + timedelta(hours=12))[0]}
DOCUMENT = schemathesis.openapi.from_asgi("/schema", Fresh()).exclude(path_regex="^/schema")


@DOCUMENT.parametrize()
@SETTINGS
def test_the_orchestrator_answers_as_its_document_says(case: Case[Any]) -> None:
    for name, given in (case.path_parameters or {}).items():
        if name in MINE and isinstance(given, str) and given[-1:] < "c":
            case.path_parameters[name] = str(MINE[name])  # others stay: nothing of that id is there
    case.call_and_validate(headers=BEARER, checks=CHECKS)
