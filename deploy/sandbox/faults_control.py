"""`/sandbox/faults`: sets, tells and clears the rules by which the exchange goes wrong."""

from typing import Any

import msgspec
from aiohttp import web

from deploy.sandbox.control_bodies import answered, body_of
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.faults import Rule
from deploy.sandbox.core.faults_profiles import profile
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.rest import reply


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules that shall stand.

    Args:
        rules: The first that fires decides.
        profile: The rules of `storm` or `calm` after them.
        seed: Of the profile.
        add: Whether they stand beside those that do, instead of in their place.
    """

    rules: list[Rule] = []
    profile: str | None = None
    seed: int = 7
    add: bool = False


class FaultControl:
    """The control door of faults.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[web.RouteDef]:
        """The control paths."""
        return [
            web.get("/sandbox/faults", self.told),
            web.post("/sandbox/faults", answered(self.set)),
            web.delete("/sandbox/faults", self.clear),
        ]

    async def told(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's handler shape
        """The rules that stand and what they did, oldest first."""
        return reply(self._told())

    async def set(self, request: web.Request) -> web.Response:
        """Let rules stand."""
        wanted = await body_of(request, Wanted)
        mix = profile(wanted.profile, wanted.seed) if wanted.profile else []
        if mix is None:
            raise Rejected(-1130, "profile must be storm or calm")
        if not wanted.add:
            self._forget()
        self._exchange.faults.add(wanted.rules + mix, self._exchange.wall_ms())
        return reply(self._told(), 201)

    async def clear(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's handler shape
        """Let no rule stand; tells once more what they did."""
        told = self._told()
        self._forget()
        return reply(told)

    def _forget(self) -> None:
        self._exchange.faults.clear()
        self._exchange.past.forget()

    def _told(self) -> dict[str, Any]:
        faults = self._exchange.faults
        kinds: dict[str, int] = {}
        for firing in faults.log:
            kinds[firing.kind] = kinds.get(firing.kind, 0) + 1
        return {"rules": faults.rules, "fired": kinds, "log": list(faults.log)}
