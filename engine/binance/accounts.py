"""Opens real accounts: one client a key, kept while it is used, all on one session, one budget and one clock skew.

Adapter of the Exchanges port. Only here an opened key pair exists, for as long as its client.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import aiohttp
import msgspec

from engine.binance import vendor
from engine.binance.client import Client, Skew
from engine.binance.exchange import BinanceExchange, Leverages
from engine.binance.fees import Fees, Marks
from engine.binance.history import PAGE
from engine.binance.stream import UserStream
from engine.errors import VenueHalted
from engine.ports import Budget, Clock, KeyPair, Urgency
from shared.execution import RealAccount, SealedCredentials

CONNECTIONS: Final = 100
"""Of their own: an order never waits behind a scan."""

KEEP_ALIVE_SECONDS: Final = 10.0
"""Shorter than the exchange's, so that no order is sent into a connection that it is just closing."""

MOST_ACCOUNTS: Final = 512
IDLE_SECONDS: Final = 900.0


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Base addresses without a slash at the end."""

    rest: str
    streams: str
    spot: str


class Opener(Protocol):
    """The part of the seal that an account needs."""

    def open(self, user_id: str, credentials: SealedCredentials) -> KeyPair:
        """The pair; raises SealBroken."""
        ...


class _Opened(msgspec.Struct):
    client: Client
    faces: dict[Urgency, BinanceExchange]
    used: float


class BinanceExchanges:
    """See `engine.ports.Exchanges`.

    Args:
        keys: Opens sealed credentials.
        addresses: Of the exchange.
        budget: Shared by all replicas.
        market: Prices fees that were paid in another coin.
        clock: Wall time signs, market time ends a search in the past.
        open_session: Makes the session that all accounts share.
        page: Rows of a long list asked for at once.
        doubt_rules: See `BinanceExchange`.
    """

    def __init__(
        self,
        keys: Opener,
        addresses: Addresses,
        budget: Budget,
        market: Marks,
        clock: Clock,
        open_session: Callable[[], Any] | None = None,
        page: int = PAGE,
        doubt_rules: Callable[[], None] = lambda: None,
    ) -> None:
        self._doubt_rules = doubt_rules
        self._keys = keys
        self._addresses = addresses
        self._budget = budget
        self._fees = Fees(market)
        self._clock = clock
        self._open_session = open_session or session_of_accounts
        self._page = page
        self._session: Any = None
        self._skew = Skew()
        self._opened: OrderedDict[tuple[str, str, str], _Opened] = OrderedDict()

    async def load(self) -> None:
        """Imports ccxt in a thread; without it the first account to be opened waits for that."""
        await vendor.load()

    def of(self, account: RealAccount, urgency: Urgency) -> BinanceExchange:
        """The account's exchange.

        Raises:
            VenueHalted: The account has no credentials.
            SealBroken: They do not open.
        """
        if account.credentials is None:
            raise VenueHalted("the account has no key for the exchange")
        name = (account.user_id, account.credentials.key_id, account.credentials.sealed)
        self._drop_idle()
        opened = self._opened.get(name)
        if opened is None:
            opened = self._opened[name] = self._open(account, account.credentials)
        self._opened.move_to_end(name)
        opened.used = time.monotonic()
        return opened.faces[urgency]

    async def close(self) -> None:
        """Closes what is shared; nothing may be asked after it."""
        for opened in self._opened.values():
            opened.client.release()
        self._opened.clear()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self, account: RealAccount, credentials: SealedCredentials) -> _Opened:
        pair = self._keys.open(account.user_id, credentials)
        if self._session is None:
            self._session = self._open_session()
        client = Client(
            account.user_id,
            pair,
            (self._addresses.rest, self._addresses.spot),
            self._session,
            self._budget,
            self._clock,
            self._skew,
        )
        stream = UserStream(client, self._session, self._addresses.streams, self._clock)
        leverages = Leverages()
        faces = {
            urgency: BinanceExchange(client, urgency, self._fees, self._clock, stream, leverages, self._page, self._doubt_rules)
            for urgency in Urgency
        }
        return _Opened(client, faces, time.monotonic())

    def _drop_idle(self) -> None:
        """A client holds no connection of its own: whoever still has one of its exchanges goes on with it."""
        now = time.monotonic()
        while self._opened:
            name, oldest = next(iter(self._opened.items()))
            if len(self._opened) <= MOST_ACCOUNTS and now - oldest.used < IDLE_SECONDS:
                return
            self._opened.pop(name).client.release()


class Session:
    """A session that follows no redirection: whoever answers with one would be shown the key, and an order would be sent twice."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.headers = session.headers
        self.ws_connect = session.ws_connect
        self.close = session.close
        self.get, self.post = self._straight(session.get), self._straight(session.post)
        self.put, self.delete = self._straight(session.put), self._straight(session.delete)

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._session.closed

    @staticmethod
    def _straight(ask: Callable[..., Any]) -> Callable[..., Any]:
        return partial(ask, allow_redirects=False)


def session_of_accounts() -> Session:
    """A session apart from the public data's."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS, ttl_dns_cache=60)
    return Session(aiohttp.ClientSession(connector=connector))
