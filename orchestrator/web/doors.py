"""What the routes reach: one object in the application's state, composed in `app`."""

from dataclasses import dataclass, field
from typing import Any

from litestar import Request
from litestar.datastructures import State

from orchestrator.ports import Bus, Clock, Desk, Logins, Preferences, Reads, SentForms
from orchestrator.trading.arm import Arm
from orchestrator.web.addresses import Addresses
from orchestrator.web.auth import Auth, Viewer
from orchestrator.web.factors import Factors
from orchestrator.web.health import Health
from orchestrator.web.hub import Hub
from orchestrator.web.market import Market

Asked = Request[Viewer, Any, State]


@dataclass(frozen=True, kw_only=True)
class Doors:
    """Everything behind the routes. `secure` says whether cookies are for https only."""

    auth: Auth
    logins: Logins
    reads: Reads
    preferences: Preferences
    desk: Desk
    arm: Arm
    factors: Factors
    bus: Bus
    clock: Clock
    market: Market
    hub: Hub
    health: Health
    forms: SentForms
    addresses: Addresses = field(default_factory=Addresses)
    secure: bool = True


def doors_of(request: Request[Any, Any, Any]) -> Doors:
    """The doors of the application that answers this request."""
    doors: Doors = request.app.state.doors
    return doors
