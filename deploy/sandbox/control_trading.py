"""The control surface of the trading side under /sandbox/: accounts and their truth, revoked keys, and how the exchange behaves."""

import secrets
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from deploy.sandbox.control_bodies import answered, body_of
from deploy.sandbox.core.account import Account, rounded
from deploy.sandbox.core.account_replies import money
from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.core.order_counts import OrderLimits
from deploy.sandbox.core.settlement import deleverage
from deploy.sandbox.core.truth import truth
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.rest import reply

DEFAULT_WALLET = Decimal(10_000)
LARGEST_WALLET = Decimal(1_000_000_000)
LONGEST_LATENCY_MS = 3_600_000
MOST_ORDERS = 1_000_000


class NewAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account with its first deposit, USDT, and what its key is allowed."""

    wallet: Decimal = DEFAULT_WALLET
    trading: bool = True
    withdrawals: bool = False
    ip_restricted: bool = True
    hedge_mode: bool = False


class Deleverage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which position to close."""

    symbol: str


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the exchange behaves from now on; what is absent stays.

    Args:
        average_in_replies: Whether replies to POST, PUT and DELETE of an order carry avgPrice and cumQuote, as before July 2026.
        trigger_latency_ms: Market time for which a triggered order is TRIGGERING.
        orders_per_10s: Of one account.
        orders_per_minute: Of one account.
        listen_key_ms: Wall time for which a listen key is good.
    """

    average_in_replies: bool | None = None
    trigger_latency_ms: int | None = None
    orders_per_10s: int | None = None
    orders_per_minute: int | None = None
    listen_key_ms: int | None = None


class TradingControl:
    """The control door of the trading side.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[web.RouteDef]:
        """The control paths."""
        return [
            web.post("/sandbox/accounts", answered(self.open_account)),
            web.get("/sandbox/accounts/{key}", answered(self.account)),
            web.delete("/sandbox/accounts/{key}", answered(self.revoke)),
            web.post("/sandbox/accounts/{key}/revoke", answered(self.revoke)),
            web.post("/sandbox/accounts/{key}/restore", answered(self.restore)),
            web.post("/sandbox/accounts/{key}/deleverage", answered(self.deleverage)),
            web.get("/sandbox/behaviour", self.behaviour),
            web.post("/sandbox/behaviour", answered(self.behave)),
        ]

    async def open_account(self, request: web.Request) -> web.Response:
        """Open an account; its secret is told here and never again."""
        wanted = await body_of(request, NewAccount)
        if not (wanted.wallet.is_finite() and 0 <= wanted.wallet <= LARGEST_WALLET):
            raise Rejected(-1130, "wallet must be between 0 and 1000000000")
        key, secret = secrets.token_hex(32), secrets.token_hex(32)
        given = {"key": key, "secret": secret, "wanted": msgspec.to_builtins(wanted)}
        now = self._exchange.now()
        self._exchange.advance(now)
        self._exchange.record("open", now, given)
        account = self.opened(given, now)
        return reply({"api_key": key, "api_secret": secret, "wallet": money(account.wallet)}, 201)

    async def account(self, request: web.Request) -> web.Response:
        """What an account truly is: wallet, positions, orders, fills, money history, and where it had no stop."""
        account = self._named(request)
        now = self._exchange.now()
        self._exchange.advance(now)
        return reply(truth(self._exchange.trading, account, now))

    async def revoke(self, request: web.Request) -> web.Response:
        """Refuse a key from now on; what the account has stays."""
        return self._set_revoked(request, revoked=True)

    async def restore(self, request: web.Request) -> web.Response:
        """Accept a revoked key again."""
        return self._set_revoked(request, revoked=False)

    async def deleverage(self, request: web.Request) -> web.Response:
        """Close an account's position in a symbol as auto-deleveraging does."""
        account = self._named(request)
        wanted = await body_of(request, Deleverage)
        now = self._exchange.now()
        self._exchange.advance(now)
        given = {"key": account.key, "symbol": wanted.symbol}
        self._exchange.record("deleverage", now, given)
        closed = self.deleveraged(given, now)
        self._exchange.told()
        return reply({"symbol": wanted.symbol, "orders": closed})

    def deleveraged(self, given: dict[str, Any], now: int) -> list[int]:
        """Deleverage as a deed says; returns the ids of the closing orders."""
        account, trading = self._exchange.trading.accounts[given["key"]], self._exchange.trading
        held = [position for position in account.held() if position.symbol == given["symbol"]]
        return [deleverage(trading, account, position, now).id for position in held]

    async def behaviour(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's handler shape
        """How the exchange behaves."""
        return reply(self._behaviour())

    async def behave(self, request: web.Request) -> web.Response:
        """Change how the exchange behaves."""
        wanted = await body_of(request, Behaviour)
        bounds = (
            (wanted.trigger_latency_ms, LONGEST_LATENCY_MS),
            (wanted.orders_per_10s, MOST_ORDERS),
            (wanted.orders_per_minute, MOST_ORDERS),
            (wanted.listen_key_ms, LONGEST_LATENCY_MS),
        )
        if not all(given is None or 0 <= given <= most for given, most in bounds):
            raise Rejected(-1130, "a number is out of range")
        given, now = self._behaviour() | _given(wanted), self._exchange.now()
        self._exchange.advance(now)
        self._exchange.record("behave", now, given)
        self.apply(given, now)
        return reply(self._behaviour())

    def apply(self, given: dict[str, Any], now: int) -> None:  # noqa: ARG002 - a deed's shape
        """Behave as a deed says."""
        exchange, wanted = self._exchange, msgspec.convert(given, Behaviour)
        exchange.average_in_replies = bool(wanted.average_in_replies)
        exchange.conditional.latency_ms = wanted.trigger_latency_ms or 0
        exchange.order_limits = OrderLimits(wanted.orders_per_10s or 0, wanted.orders_per_minute or 0)
        exchange.listen_keys.validity_ms = wanted.listen_key_ms or 0

    def _behaviour(self) -> dict[str, bool | int]:
        exchange = self._exchange
        return {
            "average_in_replies": exchange.average_in_replies,
            "trigger_latency_ms": exchange.conditional.latency_ms,
            "orders_per_10s": exchange.order_limits.short,
            "orders_per_minute": exchange.order_limits.minute,
            "listen_key_ms": exchange.listen_keys.validity_ms,
        }

    def _set_revoked(self, request: web.Request, *, revoked: bool) -> web.Response:
        account = self._named(request)
        given = {"key": account.key, "revoked": revoked}
        self._exchange.record("revoke", self._exchange.now(), given)
        self.revoked(given, self._exchange.now())
        return reply({"api_key": account.key, "revoked": revoked})

    def revoked(self, given: dict[str, Any], now: int) -> None:
        """Refuse or accept a key as a deed says; its user data stream ends with it."""
        account, vigil = self._exchange.trading.accounts[given["key"]], self._exchange.trading.herald.vigil
        account.revoked = given["revoked"]
        if account.revoked:
            self._exchange.listen_keys.forget(account)
            vigil.revoke(account.key, vigil.wall(now))
        else:
            vigil.accept(account.key, vigil.wall(now))

    def _named(self, request: web.Request) -> Account:
        account = self._exchange.trading.accounts.get(request.match_info["key"])
        if account is None:
            raise Rejected(-2015, "no such account", 404)
        return account

    def opened(self, given: dict[str, Any], now: int) -> Account:
        """Open an account as a deed says."""
        wanted = msgspec.convert(given["wanted"], NewAccount)
        account = self._exchange.trading.open_account(given["key"], given["secret"], rounded(wanted.wallet), now)
        account.may_trade, account.may_withdraw = wanted.trading, wanted.withdrawals
        account.ip_restricted, account.hedge = wanted.ip_restricted, wanted.hedge_mode
        return account


def _given(wanted: Behaviour) -> dict[str, bool | int]:
    given: dict[str, bool | int | None] = msgspec.to_builtins(wanted)
    return {name: value for name, value in given.items() if value is not None}
