"""Kills the real processes of a demo that trades with the real executor, each at a named step, and waits until everything is whole again.

Whole means, on one look at the books and the exchange: the process is back, no order that was under way is still open, no executed order is
doubled, nothing of ours rests for no position, every position has its stop, the ledger is the exchange's wallet, and a panic ended flat and
with its receipt.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, Final

import httpx
import msgspec
import psutil
import psycopg
import pyotp

from deploy.real import FILE, SandboxAccount, books_of, differences
from deploy.sandbox.core.faults import Rule
from tests.crash_matrix.books import claims_amiss, read_books
from tests.crash_matrix.drive import AUDIT
from tests.crash_matrix.steps import Step
from tests.demo import RunningDemo

HELD_SECONDS: Final = 6.0
"""Of an answer: longer than a process lives on after the exchange was seen to hold it. A request that is late arrives sooner."""

MET_SECONDS: Final = 30.0
TRIES: Final = 5
"""A position may be closed by its stop before the deed reaches it: then it is done to another."""

WHOLE_SECONDS: Final = 120.0
"""A round of reconciliation, and a start of a process on a machine that is busy."""

UNPROTECTED_MOST_SECONDS: Final = 30.0
"""Beside the time in which the killed process was away: its order belongs to whoever carried it for 25 s."""

LOOK_SECONDS: Final = 0.3
NO_ORDER: Final = frozenset({"amend", "trail", "panic"})
"""Deeds that have no row among the orders."""

UNDER_WAY: Final = ("CLAIMED", "SENT", "UNKNOWN")
OPEN: Final = (
    "SELECT id, symbol, side, size, step_size, stop_loss, tick_size FROM positions "
    "WHERE status = 'OPEN' AND mode = 'REAL' ORDER BY opened_at DESC"
)


class RealKill(msgspec.Struct, frozen=True, kw_only=True):
    """One kill and what became of it.

    Attributes:
        in_flight: Orders under way at the kill, and the deed that is none.
        back_seconds: Until the process served again.
        whole_seconds: Until everything was whole again.
        unprotected_seconds: The longest that a position had no stop since, as the exchange counted it.
    """

    unit: str
    step: str
    victim: str
    in_flight: int
    back_seconds: float
    whole_seconds: float
    unprotected_seconds: float
    violations: list[str]


class Killer:
    """A demo under real trading, and the kills done to it.

    Args:
        demo: Trades already.
    """

    def __init__(self, demo: RunningDemo) -> None:
        self.demo = demo
        sandbox = demo.children()["sandbox"].cmdline()
        self.account = msgspec.json.decode((demo.folder / FILE).read_bytes(), type=SandboxAccount)
        self.market = httpx.Client(
            base_url=f"http://127.0.0.1:{sandbox[sandbox.index('--port') + 1]}", trust_env=False, timeout=20
        )
        self.people = httpx.Client(base_url=f"http://127.0.0.1:{demo.port}", trust_env=False, timeout=60)
        self.hands = ThreadPoolExecutor(4, thread_name_prefix="person")

    def prepare(self) -> None:
        """Lets a trigger tell of orders, and logs in."""
        with self.demo.connect() as connection:
            for statement in AUDIT:
                connection.execute(statement)
            # The arming used the codes of this half minute.
            connection.execute("UPDATE second_factors SET last_step = 0")
        code = pyotp.TOTP(self.account.totp_secret).now()
        body = {"username": "demo", "password": self.demo.secrets.demo_password, "totp": code}
        told = self.people.post("/api/auth/login", json=body)
        assert told.is_success, told.text
        self.people.cookies.clear()
        self.people.headers["Authorization"] = f"Bearer {told.json()['access_token']}"

    def close(self) -> None:
        """Lets go of every connection."""
        self.hands.shutdown(wait=False, cancel_futures=True)
        self.market.close()
        self.people.close()

    def run(self, step: Step) -> RealKill:
        """Kills at the step and waits until everything is whole again."""
        before, begun_at = {name: child.pid for name, child in self.demo.children().items()}, time.time()
        if not any(self._meet(step) for _ in range(TRIES)):
            self.market.delete("/sandbox/faults").raise_for_status()
            return _not_met(step)
        under_way = self._under_way()
        killed_at = self.demo.kill(step.victim)
        back_after, back = _timed(lambda: self._is_back(step.victim, before[step.victim]), killed_at)
        amiss = self._until_whole(step, under_way) if back else [f"{step.victim} is not back"]
        whole_after = time.time() - killed_at
        self.market.delete("/sandbox/faults").raise_for_status()
        unprotected = self._unprotected(begun_at)
        if unprotected - back_after > UNPROTECTED_MOST_SECONDS:
            amiss.append(f"a position had no stop for {unprotected:.1f} s")
        if step.deed == "panic":
            amiss += self._trade_again()
        return RealKill(
            unit=step.unit,
            step=step.name,
            victim=step.victim,
            in_flight=len(under_way) + (step.deed in NO_ORDER),
            back_seconds=round(back_after, 1),
            whole_seconds=round(whole_after, 1),
            unprotected_seconds=round(unprotected, 1),
            violations=amiss,
        )

    def _meet(self, step: Step) -> bool:
        """Brings the moment about; False where it did not come."""
        position = self._position(step)
        if position is None and step.deed != "entry":
            return False
        if step.row:
            return self._committed(step, position)
        assert step.kind is not None
        symbol = position["symbol"] if position and step.deed != "panic" else None
        rule = Rule(
            kind=step.kind,
            match=msgspec.structs.replace(step.match, account=self.account.api_key, symbol=symbol),
            nth=1,
            times=1,
            seconds=None if step.kind == "arrives_late" else HELD_SECONDS,
        )
        body = msgspec.json.encode({"rules": [rule]})
        self.market.post("/sandbox/faults", content=body).raise_for_status()
        self._begin(step, position)
        met = _comes(lambda: bool(self.market.get("/sandbox/faults").json()["log"]), MET_SECONDS)
        # Reconciliation reads too: what names no id of the entry may be no step of it.
        return met and (step.deed != "entry" or step.match.client_id is not None or bool(self._under_way()))

    def _committed(self, step: Step, position: dict[str, Any] | None) -> bool:
        with self.demo.connect() as connection:
            connection.execute("LISTEN orders")
            self._begin(step, position)
            return any(notice.payload == step.row for notice in connection.notifies(timeout=MET_SECONDS))

    def _position(self, step: Step) -> dict[str, Any] | None:
        if step.deed == "entry" or not _comes(lambda: bool(self.demo.ask(OPEN)), MET_SECONDS):
            return None
        names = ("id", "symbol", "side", "size", "step_size", "stop_loss", "tick_size")
        return next((dict(zip(names, row, strict=True)) for row in self.demo.ask(OPEN)), None)

    def _begin(self, step: Step, position: dict[str, Any] | None) -> None:
        if position is not None:
            self.hands.submit(self._do, step.deed, position)

    def _do(self, deed: str, position: dict[str, Any]) -> None:
        path = f"/api/user/positions/{position['id']}"
        away = Decimal("0.998") if position["side"] == "LONG" else Decimal("1.002")
        stop = position["stop_loss"] * away // position["tick_size"] * position["tick_size"]
        half = position["size"] / 2 // position["step_size"] * position["step_size"]
        calls: dict[str, Callable[[], httpx.Response]] = {
            "close": lambda: self.people.post(f"{path}/close", json={}),
            "part": lambda: self.people.post(f"{path}/close", json={"quantity": f"{half:f}"}),
            "amend": lambda: self.people.patch(path, json={"stop_loss": f"{stop:f}"}),
            "trail": lambda: self.people.patch(path, json={"trailing": "0.01"}),
            "panic": lambda: self.people.post("/api/user/panic-button"),
        }
        # The orchestrator may be killed under this person's hands, and a position be closed before they reach it.
        with contextlib.suppress(httpx.HTTPError):
            calls[deed]()

    def _under_way(self) -> list[str]:
        with self.demo.connect() as connection:
            found = connection.execute("SELECT client_order_id FROM orders WHERE status = ANY(%s)", [list(UNDER_WAY)])
            return [row[0] for row in found]

    def _until_whole(self, step: Step, under_way: list[str]) -> list[str]:
        deadline = time.monotonic() + WHOLE_SECONDS
        while True:
            amiss = self._amiss(step, under_way)
            if not amiss or time.monotonic() >= deadline:
                return amiss
            time.sleep(LOOK_SECONDS)

    def _amiss(self, step: Step, under_way: list[str]) -> list[str]:
        try:
            return [*self._unequal(under_way), *(self._not_flat() if step.deed == "panic" else ())]
        except (psycopg.Error, httpx.HTTPError) as error:
            return [f"somebody does not answer: {type(error).__name__}"]

    def _is_back(self, victim: str, pid: int) -> bool:
        with contextlib.suppress(psutil.Error, httpx.HTTPError):
            child = self.demo.children().get(victim)
            if child is None or child.pid == pid or child.status() == psutil.STATUS_ZOMBIE:
                return False
            if victim == "worker":
                return True
            port = child.environ()["ENGINE_PORT"] if victim == "engine" else self.demo.port
            return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=2).is_success
        return False

    def _unequal(self, under_way: list[str]) -> Iterator[str]:
        url = self.demo.urls["DATABASE_URL"]
        truth = self._truth()
        books = books_of(url, "demo")
        with self.demo.connect() as connection:
            rows = read_books(connection)
        yield from differences(books, truth)
        yield from claims_amiss(rows)
        yield from duplicates(rows.orders.values(), truth)
        yield from orphans(truth, {symbol for symbol, _ in books.held})
        yield from naked(truth)
        yield from (
            f"{order['client_order_id']} is {order['status']} still"
            for order in rows.unsettled
            if order["client_order_id"] in under_way
        )

    def _not_flat(self) -> Iterator[str]:
        truth = self._truth()
        if truth["positions"] or truth["resting"] or truth["waiting"]:
            yield f"after a panic {len(truth['positions'])} positions and {len(truth['waiting'])} conditional orders are left"
        if self.demo.ask("SELECT count(*) FROM panic_receipts WHERE finished_at IS NULL")[0][0]:
            yield "a panic has no receipt yet"
        if self.demo.ask("SELECT auto_trade_enabled FROM users WHERE username = 'demo'")[0][0]:
            yield "after a panic auto-trading is on"

    def _trade_again(self) -> list[str]:
        told = self.people.patch("/api/settings", json={"auto_trade_enabled": True})
        return [] if told.is_success else [f"auto-trading could not be switched on again: {told.text[:200]}"]

    def _truth(self) -> dict[str, Any]:
        truth: dict[str, Any] = self.market.get(f"/sandbox/accounts/{self.account.api_key}").raise_for_status().json()
        return truth

    def _unprotected(self, since: float) -> float:
        spans = [span for span in self._truth()["unprotected"] if span["since_wall_ms"] >= since * 1000]
        return max((float(span["counted_wall_ms"]) / 1000 for span in spans), default=0.0)


def duplicates(orders: Any, truth: dict[str, Any]) -> Iterator[str]:
    """Intents that became more than one executed order, and executed entries that nobody asked for."""
    executed: dict[str, set[int]] = {}
    for trade in truth["trades"]:
        executed.setdefault(trade["client_id"], set()).add(trade["order_id"])
    known = {order["client_order_id"]: order for order in orders}
    yield from (f"{name} was executed {len(ids)} times" for name, ids in executed.items() if len(ids) > 1)
    yield from (f"{name} was never asked for" for name in executed if name.startswith("nt-e-") and name not in known)
    signals = Counter(known[name]["signal_id"] for name in executed if name.startswith("nt-e-") and name in known)
    yield from (f"signal {signal} was entered {count} times" for signal, count in signals.items() if count > 1)


def orphans(truth: dict[str, Any], ours: set[str]) -> Iterator[str]:
    """Orders of ours that rest for no position."""
    held = {row["symbol"] for row in truth["positions"]}
    for order in (*truth["resting"], *truth["waiting"]):
        if order["client_id"].startswith("nt-") and order["symbol"] not in held & ours:
            yield f"{order['client_id']} rests in {order['symbol']} for no position"


def naked(truth: dict[str, Any]) -> Iterator[str]:
    """Positions that their stops do not cover."""
    for row in truth["positions"]:
        if Decimal(row["stopped"]) < abs(Decimal(row["quantity"])):
            yield f"{row['symbol']} {row['quantity']} has stops for {row['stopped']}"


def _comes(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while not true():
        if time.monotonic() >= deadline:
            return False
        waiting.wait(0.02)
    return True


def _timed(true: Callable[[], bool], since: float) -> tuple[float, bool]:
    came = _comes(true, WHOLE_SECONDS)
    return time.time() - since, came


def _not_met(step: Step) -> RealKill:
    return RealKill(
        unit=step.unit,
        step=step.name,
        victim=step.victim,
        in_flight=0,
        back_seconds=0.0,
        whole_seconds=0.0,
        unprotected_seconds=0.0,
        violations=["the step was never met"],
    )
