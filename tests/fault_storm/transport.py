"""How ccxt reaches the sandbox here: the sandbox's session without sockets, with our processes' gates around each request.

The caller's process may be cut right before a request leaves and right after the exchange acted; the exchange goes on either way.
"""

from collections import deque
from typing import Any, Final

from yarl import URL

from deploy.sandbox.exchange import Exchange
from deploy.sandbox.inprocess import InProcess, InProcessResponse, InProcessSession, InProcessSocket
from deploy.sandbox.wire import Asked, Told
from tests.fault_storm.board import Weather
from tests.fault_storm.processes import Process

TRAVEL_SECONDS: Final = (0.002, 0.03)
"""One way."""

UNTOLD: Final = frozenset({"signature", "timestamp", "recvWindow", "newOrderRespType", "algoType"})


class Doors(InProcess):
    """An exchange's doors, reached through a network of changing speed; `trace` keeps what passed, for whoever replays a seed."""

    def __init__(self, exchange: Exchange, weather: Weather) -> None:
        self._weather = weather
        super().__init__(exchange)
        self.trace: deque[str] | None = None

    @property
    def latency(self) -> float:
        """Of this one way."""
        return self._weather.between(*TRAVEL_SECONDS)

    @latency.setter
    def latency(self, seconds: float) -> None:
        del seconds

    async def send(self, asked: Asked, patience: float) -> Told:
        try:
            told = await super().send(asked, patience)
        except BaseException as error:
            self._note(asked, type(error).__name__)
            raise
        self._note(asked, f"{told.status} {told.body[:600].decode(errors='replace')}")
        return told

    def of(self, process: Process) -> "GatedSession":
        """A process's own session."""
        return GatedSession(self, process)

    def _note(self, asked: Asked, what: str) -> None:
        if self.trace is not None:
            given = {name: text for name, text in asked.parameters().items() if name not in UNTOLD}
            self.trace.append(
                f"    {self.exchange.wall_ms() // 100 % 10_000 / 10:5.1f} {asked.method} {asked.path} {given} -> {what}"
            )


class GatedSession(InProcessSession):
    """One process's way to the exchange."""

    def __init__(self, doors: Doors, process: Process) -> None:
        super().__init__(doors, "127.0.0.1")
        self._process = process

    async def _answered(self, method: str, url: URL, **given: Any) -> InProcessResponse:
        name = f"{method} {url.path}"
        await self._process.gate(f"before {name}")
        try:
            return await super()._answered(method, url, **given)
        finally:
            await self._process.gate(f"after {name}")

    async def _connected(self, url: URL) -> InProcessSocket:
        await self._process.gate("before a stream")
        socket = await super()._connected(url)
        await self._process.here()
        return socket
