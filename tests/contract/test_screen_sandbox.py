"""`neurotrade screen` for now: it asks the exchange that the settings name, here the sandbox, and keeps what /analyze's screen would."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy import cli
from deploy.servers import free_port
from tests.polling import wait_until

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def exchange() -> Iterator[str]:
    """A sandbox whose market time runs at the wall's pace, so that no candle closes in between."""
    base = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "deploy.sandbox", "--port", base.rpartition(":")[2], "--speed", "1"]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            return httpx.get(f"{base}/fapi/v1/ping").is_success
        except httpx.HTTPError:
            return False

    try:
        wait_until(answers, seconds=30, what="a sandbox")
        yield base
    finally:
        process.terminate()
        process.wait(10)


def test_now_is_what_the_exchange_says_and_every_symbol_is_accounted_for(
    exchange: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "BINANCE_REST_URL": exchange,
        "MARKET_CLOCK_URL": exchange,
        "MIN_VOLATILITY_24H": "0.1",
        "MIN_VOLUME_USDT": "1000",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",  # nobody is there: a warning, and never in the output
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["neurotrade", "screen", "--preset", "v4", "--json", "--top", "60"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    said = capsys.readouterr()
    assert "Redis is away: this replica counts the exchange's budget alone" in said.err
    found = json.loads(said.out)
    assert (found["source"], found["preset"]) == (exchange, "v4")
    told = [one["symbol"] for one in (*found["candidates"], *found["rejections"])]
    assert len(told) == len(set(told)) == found["universe"] > 0
    assert found["screened"] > 0
    assert found["candidates"]
    scores = [kept["score"] for kept in found["candidates"]]
    assert scores == sorted(scores, reverse=True)
