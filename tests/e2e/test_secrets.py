"""Real processes trade for real under faults, somebody's key is refused, what Redis holds is malformed: no secret is found anywhere after it.

The exchange's own files aside, which hold its accounts' keys as Binance does, and the two files of the data folder that keep secrets.
"""

import contextlib
import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import redis

from deploy.folder import RUNNING, SECRETS
from deploy.real import FILE, JOURNAL
from tests.demo import RunningDemo
from tests.polling import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("stack")]

KEPT: Final = {FILE, JOURNAL, RUNNING, SECRETS, "redis.conf"}
"""Files that keep secrets on purpose, for their owner alone."""

REFUSED_KEY, REFUSED_SECRET = "REFUSEDKEYq7" + "k" * 52, "REFUSEDSECRET" + "s" * 51
NEWCOMER: Final = {"username": "newcomer", "password": "a password that nobody may read"}


class Ran:
    """What a run left: its folder, its replies, its secrets, the words of the audit."""

    def __init__(self, folder: Path, said: str, secrets: dict[str, str], audit: subprocess.CompletedProcess[str]) -> None:
        self.folder, self.said, self.secrets, self.audit = folder, said, secrets, audit


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("secrets") / "demo"
    with RunningDemo(folder, "--real", "--faults", "storm", "--seed", "7") as demo:
        demo.wait_trading()
        secrets = {**json.loads((folder / SECRETS).read_bytes()), **json.loads((folder / FILE).read_bytes())}
        demo_password = secrets.pop("demo_password")  # printed for the person who runs the demo, and nowhere else
        said = [_refused(demo), _broken(demo), _metrics(demo, secrets["engine_token"])]
        wait_until(lambda: bool(demo.ask("SELECT count(*) FROM fills")[0][0]), seconds=60, what="a fill")
        with redis.Redis.from_url(demo.urls["REDIS_URL"]) as there:
            said += [repr((name, there.dump(name))) for name in there.scan_iter()]
        secrets |= {"refused_key": REFUSED_KEY, "refused_secret": REFUSED_SECRET, "password": NEWCOMER["password"]}
        command = [sys.executable, "-m", "deploy.cli", "audit", "verify", "--data", str(folder)]
        env = {**demo.env, "DATABASE_URL": demo.urls["DATABASE_URL"]}
        audit = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        printed = demo.output.replace(demo_password, "")
    return Ran(folder, "\n".join([*said, printed]), secrets | {"demo_password": demo_password}, audit)


def _refused(demo: RunningDemo) -> str:
    """Somebody registers, stores a key that the exchange refuses, badly and well, hears what is missing, and then a handler crashes."""
    with httpx.Client(base_url=f"http://127.0.0.1:{demo.port}", timeout=60, trust_env=False) as http:
        http.post("/api/auth/register", json=NEWCOMER)
        token = http.post("/api/auth/login", json=NEWCOMER).json()["access_token"]
        http.cookies.clear()
        bearer, pair = {"Authorization": f"Bearer {token}"}, {"api_key": REFUSED_KEY, "api_secret": REFUSED_SECRET}
        bodies: list[Any] = [
            pair,
            pair | {"more": REFUSED_SECRET},
            {"api_key": [REFUSED_KEY], "api_secret": {"x": REFUSED_SECRET}},
        ]
        replies = [http.put("/api/user/api-key", json=body, headers=bearer) for body in bodies]
        assert [reply.status_code for reply in replies] == [204, 400, 400]
        arming = http.get("/api/user/arming", headers=bearer)
        assert arming.json()["armed"] is False
        replies += [arming, http.patch("/api/settings", json={"mode": "REAL"}, headers=bearer), http.get("/metrics")]
        with demo.connect() as connection:
            connection.execute(
                "UPDATE exchange_keys SET problems = '3' WHERE user_id = (SELECT id FROM users WHERE username = 'newcomer')"
            )
        replies.append(http.get("/api/user/arming", headers=bearer))
        assert replies[-1].json()["code"] == "internal"
        return "\n".join(reply.text + str(reply.headers) for reply in replies)


def _broken(demo: RunningDemo) -> str:
    """What Redis holds is malformed, and the worker dies amid its work."""
    with redis.Redis.from_url(demo.urls["REDIS_URL"]) as there:
        kept = there.hgetall("lifeline:credentials")
        for name in kept:
            there.hset("lifeline:credentials", name, b'{"key_id": 1, "sealed": ')
        demo.kill("worker")
        for key in [key for key in there.scan_iter() if b"report" in key or b"snapshot" in key or b"ticker" in key][:20]:
            with contextlib.suppress(redis.ResponseError):
                there.set(key, b"\xff not what was put here", keepttl=True)
    return repr(kept)


def _metrics(demo: RunningDemo, token: str) -> str:
    env = demo.children()["orchestrator"].environ()
    reply = httpx.get(f"{env['ENGINE_URL']}/metrics", headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=20)
    assert reply.status_code == 200
    return reply.text


def test_no_file_reply_metric_or_value_in_redis_holds_a_secret(ran: Ran) -> None:
    assert "a request crashed" in (ran.folder / "logs" / "orchestrator.jsonl").read_text()
    files = {path: held for path in ran.folder.rglob("*") if path.name not in KEPT and (held := _held(path)) is not None}
    assert {"engine.jsonl", "orchestrator.jsonl", "worker.jsonl"} <= {path.name for path in files}
    assert any("postgres" in path.parts and len(held) > 1_000_000 for path, held in files.items()), (
        "the tables themselves are read"
    )
    everything = {str(path): held for path, held in files.items()} | {"what was said": ran.said.encode()}
    for name, secret in ran.secrets.items():
        for form in forms_of(secret):
            assert not [where for where, text in everything.items() if form in text], name


def _held(path: Path) -> bytes | None:
    """What a file holds; None where it is none, or PostgreSQL took its temporary file away while it ends."""
    try:
        return path.read_bytes() if path.is_file() else None
    except FileNotFoundError:
        return None


def test_the_audit_of_all_that_is_sound(ran: Ran) -> None:
    assert ran.audit.returncode == 0, ran.audit.stdout + ran.audit.stderr


def forms_of(secret: str) -> list[bytes]:
    """Plain, hexadecimal, and base64 at each of its three alignments, without the ends that neighbours change."""
    text = secret.encode()
    return [text, text.hex().encode(), *(b64encode(b"\0" * shift + text)[4:-4] for shift in range(3))]
