"""Panic with real processes while a server hangs: the exchange is empty within seconds, and the rows follow when the server is back."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import psutil
import pyotp
import pytest

from deploy.real import FILE, SandboxAccount, books_of, differences
from tests.demo import RunningDemo
from tests.polling import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("stack")]

POSITIONS: Final = 2
EMPTY_SECONDS: Final = 20.0
"""Generous: tests share the machine."""


class Armed:
    """A demo that trades an account of the sandbox, with a token taken while everything still answered."""

    def __init__(self, demo: RunningDemo) -> None:
        self.demo = demo
        self.dashboard = f"http://127.0.0.1:{demo.port}"
        line = demo.children()["sandbox"].cmdline()
        self.market = f"http://127.0.0.1:{line[line.index('--port') + 1]}"
        self.account = msgspec.json.decode((demo.folder / FILE).read_bytes(), type=SandboxAccount)
        self.bearer = self._logged_in()

    def _logged_in(self) -> str:
        """Arming used this step's code and the next one; a person would wait a minute for another."""
        with self.demo.connect() as connection:
            connection.execute("UPDATE second_factors SET last_step = 0")
        code = pyotp.TOTP(self.account.totp_secret).now()
        body = {"username": "demo", "password": self.demo.secrets.demo_password, "totp": code}
        reply = httpx.post(f"{self.dashboard}/api/auth/login", json=body, trust_env=False, timeout=10)
        assert reply.is_success, reply.text
        return str(reply.json()["access_token"])

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.bearer}"}
        return httpx.request(method, f"{self.dashboard}{path}", json=body, headers=headers, timeout=100, trust_env=False)

    def truth(self) -> dict[str, Any]:
        told: dict[str, Any] = httpx.get(f"{self.market}/sandbox/accounts/{self.account.api_key}", trust_env=False).json()
        return told

    def left(self) -> list[object]:
        """Positions and orders at the exchange."""
        truth = self.truth()
        return [*truth["positions"], *truth["resting"], *truth["waiting"]]

    def wait_positions(self) -> None:
        wait_until(lambda: len(self.truth()["positions"]) >= POSITIONS, seconds=90, what="positions at the exchange")

    def wait_equal(self) -> None:
        """The rows and the exchange tell the same."""
        wait_until(lambda: not self.differences(), seconds=60, what="books equal to the exchange")

    def differences(self) -> list[str]:
        return differences(books_of(self.demo.urls["DATABASE_URL"], "demo"), self.truth())

    def auto_trading(self) -> bool:
        return bool(self.demo.ask("SELECT auto_trade_enabled FROM users WHERE username = 'demo'")[0][0])

    def entries(self) -> int:
        return int(self.demo.ask("SELECT count(*) FROM orders WHERE purpose = 'ENTRY' AND status = 'FILLED'")[0][0])


@contextmanager
def frozen(child: psutil.Process) -> Iterator[None]:
    """A process that hangs with all that it started: connections stand, and nobody answers."""
    family = [child, *child.children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in family:
            one.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def armed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Armed]:
    folder: Path = tmp_path_factory.mktemp("panic") / "demo"
    with RunningDemo(folder, "--real", "--seed", "7") as demo:
        demo.wait_trading(150)
        yield Armed(demo)


def test_panic_while_postgresql_hangs_empties_the_exchange_and_the_rows_follow(armed: Armed) -> None:
    armed.wait_positions()
    with frozen(armed.demo.children()["postgres"]):
        pressed = time.monotonic()
        reply = armed.ask("POST", "/api/user/panic-button")
        took = time.monotonic() - pressed
        assert reply.status_code == 207, reply.text
        told = reply.json()
        assert (told["open_positions"], told["open_orders"], told["auto_trade_enabled"]) == (0, 0, False)
        assert {"PAPER": "waiting", "REAL": "flat"}.items() <= {row["symbol"]: row["result"] for row in told["positions"]}.items()
        assert not armed.left()
        assert took < EMPTY_SECONDS
    wait_until(lambda: not armed.auto_trading(), seconds=60, what="the stop to be written back")
    armed.wait_equal()
    assert not armed.left()


def test_panic_while_redis_hangs_goes_on_through_the_store(armed: Armed) -> None:
    assert armed.ask("PATCH", "/api/settings", {"auto_trade_enabled": True}).is_success
    armed.wait_positions()
    with frozen(armed.demo.children()["redis"]):
        pressed = time.monotonic()
        reply = armed.ask("POST", "/api/user/panic-button")
        took = time.monotonic() - pressed
        assert not armed.left(), reply.text
        assert not armed.auto_trading()
        assert took < EMPTY_SECONDS * 2
    armed.wait_equal()
    assert not armed.left()


def test_stop_and_close_closes_real_positions_by_the_normal_closes(armed: Armed) -> None:
    assert armed.ask("PATCH", "/api/settings", {"auto_trade_enabled": True}).is_success
    armed.wait_positions()
    reply = armed.ask("POST", "/api/user/stop", {"positions": "close"})
    assert reply.is_success, reply.text
    wait_until(lambda: not armed.left(), seconds=30, what="an empty exchange")
    armed.wait_equal()
    assert not armed.auto_trading()
    reasons = armed.demo.ask("SELECT DISTINCT close_reason FROM positions WHERE mode = 'REAL' AND closed_at IS NOT NULL")
    assert ("MANUAL",) in reasons
