"""Who listens to which account: sends each notice to the sockets that hold its listen key.

Market time passes while somebody listens, so that what happens is told when it happens and not when somebody asks.
"""

import msgspec

from deploy.sandbox.core.notices import Notice
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.faults_frames import USER, Courier, Listener

type Kinds = frozenset[str] | None
"""Event types that a listener wants; None for all."""


class UserStreams:
    """All user data streams.

    Args:
        exchange: Whose accounts.
        courier: Brings frames.
    """

    def __init__(self, exchange: Exchange, courier: Courier) -> None:
        self._exchange = exchange
        self._courier = courier
        self._listeners: dict[str, dict[Listener, Kinds]] = {}

    def join(self, listener: Listener, text: str, kinds: Kinds) -> None:
        """Listen with a listen key; with one that is not good nothing will ever come."""
        if self._exchange.listen_keys.of(text) is not None:
            self._listeners.setdefault(text, {})[listener] = kinds

    def listeners(self, account_key: str) -> int:
        """How many sockets listen to an account."""
        return len(self._listeners.get(self._exchange.listen_keys.text_of(account_key) or "", {}))

    def leave(self, listener: Listener, text: str) -> None:
        """Stop listening with a key."""
        there = self._listeners.get(text, {})
        there.pop(listener, None)
        if not there:
            self._listeners.pop(text, None)

    def pass_time(self) -> None:
        """Bring the floor up to now while somebody listens, and tell what has happened."""
        if self._listeners:
            self._exchange.advance(self._exchange.now())
        self.speak()

    def speak(self) -> None:
        """Tell what has happened and which keys have ended."""
        for notice in self._exchange.trading.herald.drained():
            self.deliver(notice)
        for ended in self._exchange.listen_keys.ended(self._exchange.wall_ms()):
            body = {"e": "listenKeyExpired", "E": self._exchange.now(), "listenKey": ended.text}
            self._send(ended.text, "listenKeyExpired", body)
            self._listeners.pop(ended.text, None)

    def deliver(self, notice: Notice) -> None:
        """Send one notice to everyone who listens to its account."""
        text = self._exchange.listen_keys.text_of(notice.account)
        if text is not None:
            self._send(text, notice.kind, notice.body)

    def _send(self, text: str, kind: str, body: dict[str, object]) -> None:
        raw = msgspec.json.encode(body)
        account = self._exchange.listen_keys.of(text)
        occasion = self._courier.occasion(USER, body, account.key if account else "")
        for listener, kinds in list(self._listeners.get(text, {}).items()):
            if kinds is None or kind in kinds:
                frame = msgspec.json.encode({"stream": text, "data": msgspec.Raw(raw)}) if listener.combined else raw
                self._courier.bring(listener, frame, occasion)
