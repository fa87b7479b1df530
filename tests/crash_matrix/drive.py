"""Kills one process after another under trading, at seeded moments between an order's commit and its fill, and looks at what became of it.

A trigger in the demo's database tells each change of an order's status at its commit, and keeps the wall time: so a kill can be
aimed at an order that was just SENT, and it can be proven afterwards that the fill came later than the kill.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

import httpx
import msgspec
import psutil
import redis

from deploy.folder import SESSION
from deploy.people import add_person
from engine.reports import KEY_PREFIX, Record
from shared.execution import ExecutionReport
from tests.crash_matrix.books import read_books, violations
from tests.demo import RunningDemo

VICTIMS: Final = ("engine", "worker", "feed", "orchestrator", "redis", "postgres")
TRADERS: Final = 5
"""More people than the demo's one, so that orders are under way more often."""

AIM_SECONDS: Final = 25.0
RECOVER_SECONDS: Final = 60.0
LONGEST_DELAY_SECONDS: Final = 0.02
"""An order on paper is filled within some 30 ms of being sent."""

AUDIT: Final = (
    """CREATE TABLE IF NOT EXISTS audit_orders (
      n bigint GENERATED ALWAYS AS IDENTITY, order_id uuid, purpose text, status text, at timestamptz DEFAULT clock_timestamp())""",
    """CREATE OR REPLACE FUNCTION audit_order() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO audit_orders (order_id, purpose, status) VALUES (NEW.id, NEW.purpose, NEW.status);
      PERFORM pg_notify('orders', NEW.purpose || ' ' || NEW.status);
      RETURN NULL;
    END $$""",
    """CREATE OR REPLACE TRIGGER audit_order AFTER INSERT OR UPDATE OF status ON orders
      FOR EACH ROW EXECUTE FUNCTION audit_order()""",
    "UPDATE users SET max_positions = 100, max_exposure = 10000000, max_daily_loss = 1000000, fixed_order_size = 20",
)
"""Each in a transaction of its own: together they would wait for traders who wait for them."""

IN_FLIGHT: Final = """
SELECT count(*), count(*) FILTER (WHERE ends.status = 'FILLED') FROM (
  SELECT order_id, min(at) FILTER (WHERE status IN ('CLAIMED', 'SENT')) AS committed,
         min(at) FILTER (WHERE status IN ('FILLED', 'REFUSED')) AS ended
  FROM audit_orders GROUP BY order_id) AS life
JOIN audit_orders ends ON ends.order_id = life.order_id AND ends.at = life.ended
WHERE committed <= %s AND ended > %s
"""
"""Orders that were committed before the kill and ended after it; and those of them that were filled."""


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """One kill and what became of it.

    Attributes:
        at: Wall time, seconds.
        in_flight: Orders committed before and ended after it.
        filled_after: Those of them whose fill came after it.
        back_seconds: Until the process ran again.
        trading_seconds: Until a later scan was made.
        violations: Rows that are not as they must be while orders may be under way, and processes that fell too.
    """

    victim: str
    at: float
    in_flight: int = 0
    filled_after: int = 0
    back_seconds: float
    trading_seconds: float
    violations: list[str]


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """One kill of each process, and the books when every order had come to rest.

    Attributes:
        rest_seconds: From the last kill until no order was under way.
        violations: Rows that are not as they must be.
    """

    kills: list[Kill]
    rest_seconds: float
    violations: list[str]


class Matrix:
    """A demo under trading, and the kills done to it."""

    def __init__(self, demo: RunningDemo, seed: int) -> None:
        """Waits for nothing; call `prepare` once the demo trades."""
        self.demo = demo
        self.random = random.Random(seed)

    def prepare(self) -> None:
        """Adds traders and the trigger that tells of orders."""
        url = self.demo.urls["DATABASE_URL"]
        for number in range(1, TRADERS):
            asyncio.run(add_person(url, f"trader{number}", "a long password", at=datetime.now(UTC), auto_trade=True))
        with self.demo.connect() as connection:
            for statement in AUDIT:
                connection.execute(statement)

    def run_pass(self) -> Pass:
        """Kills each process once, in a seeded order, then waits for rest and compares everything."""
        kills = [self._strike(victim) for victim in self.random.sample(VICTIMS, len(VICTIMS))]
        took, fault = self._wait(self._is_at_rest, kills[-1].at, "orders never came to rest")
        found = [fault] if fault else self._violations()
        return Pass(kills=[self._completed(kill) for kill in kills], rest_seconds=round(took, 2), violations=found)

    def _strike(self, victim: str) -> Kill:
        """Kills one process while an order is under way, and waits until it is back and trading goes on."""
        others = {name: child.pid for name, child in self.demo.children().items() if name != victim}
        with self._close_by_hand() if victim == "orchestrator" else contextlib.nullcontext():
            self._await_an_order("CLOSE SENT" if victim == "orchestrator" else " SENT")
            time.sleep(self.random.uniform(0, LONGEST_DELAY_SECONDS))
            before = self.demo.children()[victim].pid
            at = self.demo.kill(victim)
        back = self._wait(lambda: self._runs_anew(victim, before), at, f"{victim} did not come back")
        trading = self._wait(lambda: self._trades_again(at), at, f"no scan was made after {victim} fell")
        now = {name: child.pid for name, child in self.demo.children().items()}
        return Kill(
            victim=victim,
            at=at,
            back_seconds=round(back[0], 2),
            trading_seconds=round(trading[0], 2),
            violations=[
                *(fault for _, fault in (back, trading) if fault),
                *(f"{name} fell too" for name, pid in others.items() if now.get(name) != pid),
                *self._violations(),
            ],
        )

    def _await_an_order(self, word: str) -> None:
        with self.demo.connect() as connection:
            connection.execute("LISTEN orders")
            for notice in connection.notifies(timeout=AIM_SECONDS):
                if word in notice.payload:
                    return

    def _violations(self) -> list[str]:
        # Reports first: what the venue told before the books were read must be in them, or under way.
        reports = self._reports()
        with self.demo.connect() as connection:
            return violations(read_books(connection), reports)

    def _reports(self) -> dict[str, ExecutionReport]:
        with redis.Redis.from_url(self.demo.urls["REDIS_URL"]) as client:
            keys: list[bytes] = list(client.scan_iter(match=f"{KEY_PREFIX}*", count=1000))
            values: list[bytes | None] = client.mget(keys) if keys else []
        records = {
            key.decode().removeprefix(KEY_PREFIX): msgspec.json.decode(value, type=Record)
            for key, value in zip(keys, values, strict=True)
            if value
        }
        return {name: record.report for name, record in records.items() if record.report is not None}

    def _runs_anew(self, victim: str, before: int) -> bool:
        child = self.demo.children().get(victim)
        if child is None or child.pid == before or child.status() == psutil.STATUS_ZOMBIE:
            return False
        return victim != "orchestrator" or self._pages_are_served()

    def _pages_are_served(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.demo.port}/health", trust_env=False, timeout=2).is_success
        except httpx.HTTPError:
            return False

    def _trades_again(self, killed_at: float) -> bool:
        newest = self.demo.ask("SELECT max(as_of) FROM scans")[0][0]
        return newest is not None and bool(newest.timestamp() * 1000 > self._market_ms(killed_at))

    def _is_at_rest(self) -> bool:
        under_way = self.demo.ask("SELECT count(*) FROM orders WHERE status IN ('CLAIMED', 'SENT', 'UNKNOWN')")[0][0]
        return bool(under_way == 0)

    def _market_ms(self, wall: float) -> float:
        session = self.demo.session
        noted_at = (self.demo.folder / SESSION).stat().st_mtime
        return (session.market_ms or 0) + (wall - noted_at) * (session.tape.speed or 1) * 1000

    def _completed(self, kill: Kill) -> Kill:
        moment = datetime.fromtimestamp(kill.at, UTC)
        in_flight, filled = self.demo.ask(IN_FLIGHT, moment, moment)[0]
        return msgspec.structs.replace(kill, in_flight=in_flight, filled_after=filled)

    def _wait(self, true: Callable[[], bool], since: float, fault: str) -> tuple[float, str]:
        deadline = time.monotonic() + RECOVER_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error):
                if true():
                    return time.time() - since, ""
            time.sleep(0.05)
        return time.time() - since, fault

    @contextlib.contextmanager
    def _close_by_hand(self) -> Iterator[None]:
        """Somebody closes positions through the dashboard's API meanwhile: the orchestrator's own orders."""
        done = threading.Event()
        person = threading.Thread(target=self._close_positions, args=(done,), daemon=True)
        person.start()
        try:
            yield
        finally:
            done.set()
            person.join(20)

    def _close_positions(self, done: threading.Event) -> None:
        address = f"http://127.0.0.1:{self.demo.port}"
        credentials = {"username": "demo", "password": self.demo.secrets.demo_password}
        # The orchestrator is killed under this person's hands, so any call may fail.
        with contextlib.suppress(httpx.HTTPError), httpx.Client(base_url=address, trust_env=False, timeout=10) as client:
            token = client.post("/api/auth/login", json=credentials).json()["access_token"]
            client.cookies.clear()
            client.headers["Authorization"] = f"Bearer {token}"
            while not done.wait(0.5):
                listed = client.get("/api/user/positions", params={"status": "OPEN"}).json()["positions"]
                if listed:
                    client.post(f"/api/user/positions/{listed[0]['id']}/close", json={})
