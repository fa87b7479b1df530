"""How independent clients are pointed at a sandbox, and what the recorded examples demand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(os.environ.get("NEUROTRADE_FIXTURES", Path(__file__).resolve().parents[2].parent / "shared" / "fixtures"))
REST_EXAMPLES = FIXTURES / "official_sdk" / "rest_api_examples.json"
STREAM_EXAMPLES = FIXTURES / "official_sdk" / "websocket_streams_examples.json"

examples = pytest.mark.skipif(not REST_EXAMPLES.exists(), reason=f"no recorded examples at {REST_EXAMPLES}")

CCXT_PATHS = {
    "fapiPublic": "/fapi/v1",
    "fapiPublicV2": "/fapi/v2",
    "fapiPublicV3": "/fapi/v3",
    "fapiPrivate": "/fapi/v1",
    "fapiPrivateV2": "/fapi/v2",
    "fapiPrivateV3": "/fapi/v3",
    "fapiData": "/futures/data",
}


def ccxt_options(base: str, key: str = "", secret: str = "") -> dict[str, Any]:
    """Constructor options that send an unmodified ccxt `binanceusdm` to a sandbox and nowhere else."""
    import ccxt

    stray = dict.fromkeys(
        ("sapi", "sapiV2", "sapiV3", "sapiV4", "public", "private", "dapiPublic", "eapiPublic", "papi", "v1"), base
    )
    socket = base.replace("http", "ws")
    return {
        "apiKey": key,
        "secret": secret,
        "enableRateLimit": False,
        "options": {"fetchCurrencies": False},
        "urls": {"api": {**stray, **{name: base + path for name, path in CCXT_PATHS.items()}, "ws": {"linear": f"{socket}/ws"}}},
        "exceptions": {"exact": ccxt.binanceusdm().exceptions["linear"]["exact"]},
    }


def rest_examples() -> list[dict[str, Any]]:
    """The official SDK's documented replies of every public endpoint."""
    if not REST_EXAMPLES.exists():
        return []
    rows = json.loads(REST_EXAMPLES.read_text(encoding="utf-8"))
    return [row for row in rows if row["file"] == "rest_api/test_market_data_api.py" and row["method"] == "GET"]


def stream_examples() -> list[dict[str, Any]]:
    """The official SDK's documented stream payloads, one for each test."""
    if not STREAM_EXAMPLES.exists():
        return []
    rows = json.loads(STREAM_EXAMPLES.read_text(encoding="utf-8"))
    return [row for row in rows if row["test"].endswith("_success")]


def lacking(sample: Any, reply: Any, where: str = "") -> list[str]:
    """Keys that a reply lacks and values whose JSON type differs from the sample's."""
    if isinstance(sample, dict):
        if not isinstance(reply, dict):
            return [f"{where}: not an object"]
        out = [f"{where}.{key}: missing" for key in sample if key not in reply]
        return out + [text for key in sample if key in reply for text in lacking(sample[key], reply[key], f"{where}.{key}")]
    if isinstance(sample, list):
        if not isinstance(reply, list):
            return [f"{where}: not an array"]
        return lacking(sample[0], reply[0], f"{where}[]") if sample and reply else []
    same = _json_type(sample) == _json_type(reply)
    return [] if same else [f"{where}: {type(reply).__name__} for {type(sample).__name__}"]


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__
