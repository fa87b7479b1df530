"""Brings frames to their listeners, or does to them what the rules say: late, twice, out of order, never, or with the connection lost."""

import asyncio
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from deploy.sandbox.core.faults import ON_FRAMES, Firing, Kind, Occasion
from deploy.sandbox.exchange import Exchange

USER = "user"
"""The name of user data streams for rules."""


class Listener(Protocol):
    """A connection that takes frames."""

    combined: bool

    def offer(self, frame: bytes) -> None:
        """Queue a frame; never waits."""
        ...

    def drop(self) -> None:
        """Lose the connection, without a goodbye."""
        ...


class Courier:
    """The way of every frame.

    Args:
        exchange: Whose rules.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._silent: WeakKeyDictionary[Listener, int] = WeakKeyDictionary()
        self._waiting: WeakKeyDictionary[Listener, list[bytes]] = WeakKeyDictionary()

    def occasion(self, stream: str, event: Any, account: str = "") -> Occasion | None:
        """What rules are asked about; None where no rule stands."""
        wall = self._exchange.wall_ms()
        if not self._exchange.faults.stand(ON_FRAMES, wall):
            return None
        body = event if isinstance(event, dict) else {}
        inner: dict[str, Any] = next((body[name] for name in ("o", "k") if isinstance(body.get(name), dict)), {})
        numbers = {key: number for number, key in enumerate(self._exchange.trading.accounts)} if account else {}
        return Occasion(
            wall_ms=wall,
            caller=numbers.get(account, -1),
            account=account,
            symbol=str(inner.get("s") or body.get("s") or ""),
            side=str(inner.get("S") or ""),
            client_id=str(inner.get("c") or inner.get("caid") or ""),
            stream=stream,
            event=str(body.get("e") or ""),
            closed=inner.get("x") is True,
        )

    def bring(self, listener: Listener, frame: bytes, occasion: Occasion | None) -> None:
        """Let one frame reach one listener, or not."""
        if occasion is None:
            listener.offer(frame)
            return
        if self._silent.get(listener, 0) > occasion.wall_ms:
            return
        firing = self._exchange.faults.of_frame(occasion)
        if firing is None:
            self._offer(listener, frame)
        else:
            self._befall(listener, frame, firing)

    def _befall(self, listener: Listener, frame: bytes, firing: Firing) -> None:
        if firing.kind is Kind.WS_DROP:
            listener.drop()
        elif firing.kind is Kind.WS_SILENT:
            self._silent[listener] = firing.wall_ms + int(firing.seconds * 1000)
        elif firing.kind is Kind.WS_LATE:
            asyncio.get_running_loop().call_later(firing.seconds, listener.offer, frame)
        elif firing.kind is Kind.WS_REORDERED:
            self._waiting.setdefault(listener, []).append(frame)
            asyncio.get_running_loop().call_later(firing.seconds, self._release, listener)
        elif firing.kind is Kind.WS_DOUBLED:
            self._offer(listener, frame)
            self._offer(listener, frame)

    def _offer(self, listener: Listener, frame: bytes) -> None:
        """A frame, and after it those that it has overtaken."""
        listener.offer(frame)
        self._release(listener)

    def _release(self, listener: Listener) -> None:
        for frame in self._waiting.pop(listener, []):
            listener.offer(frame)
