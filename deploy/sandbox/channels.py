"""Who listens to what: channels of streams, their cadence, and the frames that go out.

A channel exists while somebody listens. Every frame is encoded once for all of its listeners.
"""

from collections.abc import Callable

import msgspec

from deploy.sandbox.core.events import Emitter, Events
from deploy.sandbox.core.stream_names import Stream
from deploy.sandbox.faults_frames import Courier, Listener

PASSING = frozenset({"aggTrade", "trade", "forceOrder"})
"""Streams of things that happen: a new listener hears what comes from now on. The others begin with how things stand."""


class Channel:
    """One stream that somebody listens to.

    Args:
        name: As subscribed.
        stream: What it is.
        emit: Its emitter.
        courier: Brings its frames.
    """

    def __init__(self, name: str, stream: Stream, emit: Emitter, courier: Courier) -> None:
        self._courier = courier
        self.name = name
        self.stream = stream
        self.emit = emit
        self.listeners: dict[Listener, None] = {}
        self.told_until: int | None = None
        self.due_wall_ms = 0

    def speak(self, now: int, wall_ms: int) -> None:
        """Tell what happened since the last time and set the next time."""
        events = self.emit(self.told_until, now)
        self.told_until = now
        self.due_wall_ms = max(self.due_wall_ms + self.stream.cadence_ms, wall_ms)
        for event in events:
            raw, occasion = msgspec.json.encode(event), self._courier.occasion(self.name, event)
            wrapped: bytes | None = None
            for listener in list(self.listeners):
                if listener.combined:
                    wrapped = wrapped or msgspec.json.encode({"stream": self.name, "data": msgspec.Raw(raw)})
                self._courier.bring(listener, wrapped if listener.combined and wrapped else raw, occasion)


class Channels:
    """All channels with a listener.

    Args:
        events: Builds emitters.
        parse: Reads stream names.
        courier: Brings frames.
    """

    def __init__(self, events: Events, parse: Callable[[str], Stream | None], courier: Courier) -> None:
        self._events = events
        self._courier = courier
        self._parse = parse
        self._open: dict[str, Channel] = {}

    def join(self, listener: Listener, name: str, routes: frozenset[str], moments: tuple[int, int]) -> None:
        """Listen to a stream; on the wrong route or without such a stream nothing will ever come, as on the exchange.

        Args:
            listener: Who.
            name: Of the stream.
            routes: What the listener's path carries.
            moments: Market time and wall time.
        """
        channel = self._open.get(name) or self._opened(name, *moments)
        if channel is not None and channel.stream.route in routes:
            self._open[name] = channel
            channel.listeners[listener] = None

    def leave(self, listener: Listener, name: str) -> None:
        """Stop listening to a stream."""
        channel = self._open.get(name)
        if channel is None:
            return
        channel.listeners.pop(listener, None)
        if not channel.listeners:
            del self._open[name]

    def speak(self, now: int, wall_ms: int) -> None:
        """Let every channel that is due speak."""
        for channel in list(self._open.values()):
            if channel.due_wall_ms <= wall_ms:
                channel.speak(now, wall_ms)

    def _opened(self, name: str, now: int, wall_ms: int) -> Channel | None:
        stream = self._parse(name)
        emit = self._events.emitter(stream) if stream else None
        if stream is None or emit is None:
            return None
        channel = Channel(name, stream, emit, self._courier)
        channel.due_wall_ms = wall_ms
        channel.told_until = now if stream.kind in PASSING else None
        return channel
