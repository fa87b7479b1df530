"""CCXT's own live suite passes against the sandbox, where its source package is at hand."""

import tarfile
from pathlib import Path

import ccxt
import pytest

from tests.ccxt_suite.live import MENDED, PARTS, SKIPPED, mended, read, suite, unpacked
from tests.ccxt_suite.source import LOCK, pinned, unpack

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "ccxt-suite.md"


@pytest.mark.skipif(unpacked() is None, reason="CCXT_SOURCE does not name ccxt's unpacked source package")
@pytest.mark.parametrize("part", PARTS)
async def test_ccxt_s_own_suite_finds_nothing(part: str) -> None:
    folder = unpacked()
    assert folder is not None
    [outcome] = await suite(folder, {part: PARTS[part]})
    assert outcome.failures == ()


def test_every_skip_is_written_down_with_its_reason() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [method for method in SKIPPED if method not in text] == []


def test_a_failure_is_read_from_what_the_suite_prints() -> None:
    said = "[INFO] TESTING DONE       binanceusdm loadMarkets\n[TEST_FAILURE] binanceusdm fetchTicker"
    outcome = read("public", said)
    assert (outcome.tested, outcome.failures) == (("loadMarkets",), ("[TEST_FAILURE] binanceusdm fetchTicker",))
    assert read("public", "").failures


def test_a_test_of_orders_that_is_not_the_known_one_is_not_mended() -> None:
    assert mended("\n".join(MENDED)).startswith(next(iter(MENDED.values()))[:5])
    with pytest.raises(ValueError, match="has changed"):
        mended("something else")


def test_the_source_that_is_fetched_is_that_of_the_ccxt_in_use_and_only_with_its_hash() -> None:
    pin = pinned(LOCK.read_text(encoding="utf-8"))
    assert pin.startswith(f"ccxt=={ccxt.__version__} ")
    assert pin.count("--hash=sha256:") >= 1
    with pytest.raises(LookupError, match="pins no ccxt"):
        pinned("ccxt==4.5.90\ncertifi==1\n")


def test_a_package_without_the_suite_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ccxt-1").mkdir()
    archive = tmp_path / "ccxt-1.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tmp_path / "ccxt-1", "ccxt-1")
    with pytest.raises(LookupError, match="has no"):
        unpack(archive, tmp_path / "into")
