"""`neurotrade demo --real`: the demo user trades an account of the sandbox exchange with the real executor, under faults if asked.

It arms the account by the same doors as a person: key, second factor, canary. At the end the weather is calmed, entries stop, and the
books are held against what the exchange truly has.
"""

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import psycopg
import pyotp

from deploy.errors import DeployError

WALLET: Final = "10000"
FILE: Final = "real.json"
JOURNAL: Final = "exchange.journal"
SECONDS: Final = 60.0
SETTLES_SECONDS: Final = 75.0
"""How long the books may take to equal the exchange once the faults are off: a round of reconciliation and a little."""

CODES_TRIED: Final = (0, 1)
"""Steps from now: this one may have been used by the arming a moment before."""

LOOK_SECONDS: Final = 0.25

OURS: Final = "nt-"
"""How the ids of our orders begin."""


class SandboxAccount(msgspec.Struct, frozen=True, kw_only=True):
    """The demo user's account at the sandbox and the seed of their second factor, kept in the data folder with mode 0600."""

    api_key: str
    api_secret: str
    totp_secret: str = ""

    def __repr__(self) -> str:
        return "SandboxAccount(***)"


class RealOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What only the exchange could say. Seconds are wall time, as it counted them while it took this account's orders.

    `exchange_equal`: wallet, sizes, stops and orders are what our books say, and nothing is under way any more.
    """

    exchange_equal: bool
    unprotected_seconds: float
    unknown_orders: int
    faults: dict[str, int]
    differences: list[str]


class RealDemo:
    """The exchange's side of one run."""

    def __init__(self, market: str, dashboard: str, folder: Path, say: Callable[[str], None]) -> None:
        """Nothing is asked yet.

        Args:
            market: The sandbox's address.
            dashboard: The orchestrator's.
            folder: The data folder.
            say: Takes a line for the terminal.
        """
        self._market = market
        self._dashboard = dashboard
        self._file = folder / FILE
        self._say = say
        self._account: SandboxAccount | None = None

    async def arm(self, username: str, password: str) -> None:
        """Opens the account, or finds it again, and arms the user with it.

        Raises:
            DeployError: One of the doors refused.
        """
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as http:
            self._account = self._kept()
            bearer = await self._log_in(http, username, password)
            if self._account is None:
                self._account = await self._arm(http, bearer, await self._open(http))
                self._keep(self._account)
            settings = await self._done(http, "GET", "/api/settings", None, who=bearer)
            if settings["mode"] != "REAL":
                raise DeployError("the demo user is not in REAL; --fresh begins anew")

    async def storm(self, profile: str, seed: int) -> None:
        """Lets a profile of faults stand."""
        await self._sandbox("POST", "/sandbox/faults", {"profile": profile, "seed": seed})
        self._say(f"the exchange goes wrong now as `{profile}` says")

    async def calm(self) -> dict[str, int]:
        """Takes every fault away; how often each kind fired."""
        fired: dict[str, int] = (await self._sandbox("DELETE", "/sandbox/faults"))["fired"]
        return fired

    async def outcome(self, database_url: str, username: str, password: str, fired: dict[str, int]) -> RealOutcome:
        """Stops new entries and waits until the books equal the exchange, or says where they do not."""
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as http:
            bearer = await self._log_in(http, username, password)
            await self._done(http, "POST", "/api/user/stop", {"positions": "keep"}, who=bearer)
        until = time.monotonic() + SETTLES_SECONDS
        while True:
            truth = await self._truth()
            books = await asyncio.to_thread(books_of, database_url, username)
            found = at_rest(books, truth)
            if not found or time.monotonic() >= until:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return RealOutcome(
            exchange_equal=not found,
            unprotected_seconds=longest_unprotected(truth),
            unknown_orders=books.unknown_orders,
            faults=fired,
            differences=found,
        )

    async def _open(self, http: httpx.AsyncClient) -> SandboxAccount:
        reply = await http.post(f"{self._market}/sandbox/accounts", json={"wallet": WALLET})
        opened = reply.raise_for_status().json()
        return SandboxAccount(api_key=opened["api_key"], api_secret=opened["api_secret"])

    async def _log_in(self, http: httpx.AsyncClient, username: str, password: str) -> str:
        """A token, with a code once the user is armed; a code is good for one use, so that the next one is tried after it."""
        body = {"username": username, "password": password}
        if self._account is not None:
            codes = pyotp.TOTP(self._account.totp_secret)
            for shift in CODES_TRIED:
                reply = await http.post(
                    f"{self._dashboard}/api/auth/login",
                    json={**body, "totp": codes.at(int(time.time()) + shift * codes.interval)},
                )
                if reply.is_success:
                    return str(reply.json()["access_token"])
        return str((await self._done(http, "POST", "/api/auth/login", body, who=""))["access_token"])

    async def _arm(self, http: httpx.AsyncClient, bearer: str, account: SandboxAccount) -> SandboxAccount:
        """Key first, which needs no code yet; each code is good for one use, so that arming takes the next one."""
        pair = {"api_key": account.api_key, "api_secret": account.api_secret}
        await self._done(http, "PUT", "/api/user/api-key", pair, who=bearer)
        begun = await self._done(http, "POST", "/api/user/totp", None, who=bearer)
        codes = pyotp.TOTP(begun["secret"])
        now = int(time.time())
        await self._done(http, "POST", "/api/user/totp/confirm", {"code": codes.at(now)}, who=bearer)
        await self._done(http, "PATCH", "/api/settings", {"mode": "REAL"}, who=bearer, code=codes.at(now + codes.interval))
        self._say("the demo user is armed: real orders go to the sandbox exchange")
        return msgspec.structs.replace(account, totp_secret=begun["secret"])

    async def _truth(self) -> dict[str, Any]:
        assert self._account is not None  # noqa: S101 - armed before
        return await self._sandbox("GET", f"/sandbox/accounts/{self._account.api_key}")

    async def _sandbox(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as http:
            reply = await http.request(method, f"{self._market}{path}", json=body)
            told: dict[str, Any] = reply.raise_for_status().json()
            return told

    async def _done(
        self, http: httpx.AsyncClient, method: str, path: str, body: object, *, who: str, code: str = ""
    ) -> dict[str, Any]:
        headers = ({"Authorization": f"Bearer {who}"} if who else {}) | ({"X-TOTP": code} if code else {})
        reply = await http.request(method, f"{self._dashboard}{path}", json=body, headers=headers)
        if not reply.is_success:
            raise DeployError(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
        done: dict[str, Any] = reply.json() if reply.content else {}
        return done

    def _kept(self) -> SandboxAccount | None:
        return msgspec.json.decode(self._file.read_bytes(), type=SandboxAccount) if self._file.exists() else None

    def _keep(self, account: SandboxAccount) -> None:
        self._file.touch(mode=0o600)
        self._file.write_bytes(msgspec.json.encode(account))


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What our own tables say of a user's real account: the ledger's sum, sizes held by symbol and side, orders of unknown outcome.

    `under_way`: orders that are claimed, sent or of unknown outcome, by their ids, with where they stand.
    """

    ledger: Decimal
    held: dict[tuple[str, str], Decimal]
    unknown_orders: int
    under_way: dict[str, str] = {}


def books_of(database_url: str, username: str) -> Books:
    """The books at one moment.

    Raises:
        psycopg.Error: The database does not answer.
    """
    with psycopg.connect(database_url, connect_timeout=5) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            who = [username]
            ledger = connection.execute(
                "SELECT coalesce(sum(amount), 0) FROM ledger_entries l JOIN users u ON u.id = l.user_id "
                "WHERE l.mode = 'REAL' AND u.username = %s",
                who,
            ).fetchone()
            held = connection.execute(
                "SELECT symbol, side, size FROM positions p JOIN users u ON u.id = p.user_id "
                "WHERE p.mode = 'REAL' AND NOT dry_run AND status IN ('OPEN', 'CLOSING') AND u.username = %s",
                who,
            ).fetchall()
            under_way = connection.execute(
                "SELECT client_order_id, o.status FROM orders o JOIN users u ON u.id = o.user_id "
                "WHERE o.mode = 'REAL' AND NOT o.dry_run AND o.status IN ('CLAIMED', 'SENT', 'UNKNOWN') AND u.username = %s",
                who,
            ).fetchall()
    assert ledger is not None  # noqa: S101 - an aggregate always has a row
    return Books(
        ledger=ledger[0],
        held={(row[0], row[1]): row[2] for row in held},
        unknown_orders=sum(row[1] == "UNKNOWN" for row in under_way),
        under_way=dict(under_way),
    )


def differences(books: Books, truth: dict[str, Any]) -> list[str]:
    """Where the books and the exchange disagree; empty when the ledger is its wallet and the sizes are its positions."""
    wallet = Decimal(truth["wallet"])
    found = [] if books.ledger == wallet else [f"the ledger says {books.ledger:f}, the wallet holds {wallet:f}"]
    there = {
        (row["symbol"], "LONG" if Decimal(row["quantity"]) > 0 else "SHORT"): abs(Decimal(row["quantity"]))
        for row in truth["positions"]
    }
    for symbol, side in sorted(there.keys() | books.held.keys()):
        ours, theirs = books.held.get((symbol, side), Decimal(0)), there.get((symbol, side), Decimal(0))
        if ours != theirs:
            found.append(f"{symbol} {side}: {ours.normalize():f} in the books, {theirs.normalize():f} at the exchange")
    if Decimal(truth["exchange"]["imbalance"]) != 0:
        found.append(f"the exchange's own books are out by {truth['exchange']['imbalance']}")
    return found


def at_rest(books: Books, truth: dict[str, Any]) -> list[str]:
    """Where they disagree once nobody trades any more, empty when all is as it should be.

    Beside the differences: orders of ours without their position, positions without a whole stop, orders that nobody has settled.
    """
    return [
        *differences(books, truth),
        *_orphans(books, truth),
        *_naked(truth),
        *(f"{name} is {status} still" for name, status in sorted(books.under_way.items())),
    ]


def _orphans(books: Books, truth: dict[str, Any]) -> list[str]:
    owned = {symbol for symbol, _ in books.held} & {row["symbol"] for row in truth["positions"]}
    return [
        f"{row['client_id']} rests in {row['symbol']} without a live position"
        for row in [*truth["resting"], *truth["waiting"]]
        if row["client_id"].startswith(OURS) and row["symbol"] not in owned
    ]


def _naked(truth: dict[str, Any]) -> list[str]:
    return [
        f"{row['symbol']}: stops for {Decimal(row['stopped']).normalize():f} of {abs(Decimal(row['quantity'])).normalize():f}"
        for row in truth["positions"]
        if Decimal(row["stopped"]) < abs(Decimal(row["quantity"]))
    ]


def longest_unprotected(truth: dict[str, Any]) -> float:
    """The longest time that a position had no working stop for its whole quantity, while the exchange took the account's orders."""
    return max((float(span["counted_wall_ms"]) / 1000 for span in truth["unprotected"]), default=0.0)
