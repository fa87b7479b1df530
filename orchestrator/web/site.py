"""The web application as a whole: every router, one guard, one form of error. `app` gives it its doors and serves it.

Nothing here knows how a door was made, so that tests give it doors of their own.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar
from litestar.openapi.config import OpenAPIConfig
from litestar.router import Router
from litestar.types import ControllerRouterHandler

from orchestrator.web.api_admin import admin_router
from orchestrator.web.api_auth import auth_router
from orchestrator.web.api_health import health_router
from orchestrator.web.api_keys import keys_router
from orchestrator.web.api_money import money_router
from orchestrator.web.api_positions import positions_router
from orchestrator.web.api_signals import signals_router
from orchestrator.web.api_totp import totp_router
from orchestrator.web.api_user import user_router
from orchestrator.web.doors import Doors
from orchestrator.web.live import live_router
from orchestrator.web.problems import ErrorPage, exception_handlers, trace_middleware
from orchestrator.web.schema import SchemaPlugin
from orchestrator.web.security import before_send, guard
from orchestrator.web.sent import give_form_back

MAX_BODY = 64 * 1024
"""No form and no body of ours is a tenth of it."""

API: tuple[Router, ...] = (
    auth_router,
    user_router,
    keys_router,
    totp_router,
    positions_router,
    money_router,
    signals_router,
    admin_router,
    health_router,
    live_router,
)

type OpenDoors = Callable[[], AbstractAsyncContextManager[Doors]]


def create_site(
    open_doors: OpenDoors, *, pages: Sequence[ControllerRouterHandler] = (), error_page: ErrorPage | None = None
) -> Litestar:
    """The application.

    Args:
        open_doors: Opens what the routes reach when the application starts, and closes it when it ends.
        pages: Routers of the HTML pages and their files.
        error_page: Draws a problem for people.
    """

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_doors() as doors:
            app.state.doors = doors
            yield

    return Litestar(
        route_handlers=[*API, *pages],
        guards=[guard],
        middleware=[trace_middleware],
        before_send=[before_send],
        after_exception=[give_form_back],
        exception_handlers=exception_handlers(error_page),
        lifespan=[lifespan],
        openapi_config=OpenAPIConfig(
            title="NeuroTrade",
            version="1",
            openapi_router=Router("/schema", route_handlers=[], opt={"open": True}),
            render_plugins=[SchemaPlugin(path=["/", "/openapi.json"])],
        ),
        logging_config=None,
        request_max_body_size=MAX_BODY,
    )
