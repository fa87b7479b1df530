"""`neurotrade screen` as a person runs it: a recording's table, what it says of near misses, and plain words where it cannot."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from deploy import cli
from deploy.servers import free_port
from engine.core.features import features_of, panel_of
from engine.core.market import Candles, Timeframe, ms_of
from engine.core.screen import screen
from engine.core.screen_presets import PRESETS
from engine.core.screen_rules import RuleSet
from engine.core.structure import structure_of
from engine.recorder import Recorder
from tests.unit.engine.market_world import dip, series
from tests.unit.engine.test_screen_recorded import candles_until

NOW = datetime(2025, 9, 22, 8, tzinfo=UTC)
type Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def neurotrade(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command and gives its exit code, output and errors; liquid is what trades for a million a day."""
    monkeypatch.setenv("MIN_VOLUME_USDT", "1000000")
    for name, value in (("MIN_VOLATILITY_24H", "1.5"), ("TOP_COINS_LIMIT", "10"), ("SCREEN_PRESET", "v3.1")):
        monkeypatch.setenv(name, value)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["neurotrade", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


def frame_of(histories: list[Candles]) -> pl.DataFrame:
    names = ("open", "high", "low", "close", "volume")
    frames = [
        pl.DataFrame({"open_time": one.open_ms, **{name: getattr(one, name) for name in names}}).with_columns(
            symbol=pl.lit(one.symbol)
        )
        for one in histories
    ]
    return pl.concat(frames)


def moved(candles: Candles, symbol: str, last_volume: float | None = None) -> Candles:
    volume = candles.volume.copy()
    volume[-1] = volume[-1] if last_volume is None else last_volume
    return series(symbol, candles.timeframe, candles.close, volume, ms_of(NOW))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A falls on raised volume in a bull market, B on slightly more, C on none, D does not move, E was delisted ten hours ago."""
    quarter, four_hour = dip("A")
    still = np.full(len(quarter), 200.0)
    quarters = [
        moved(quarter, "AUSDT"),
        moved(quarter, "BUSDT", 160.0),
        moved(quarter, "CUSDT", 100.0),
        series("DUSDT", Timeframe.M15, still, None, ms_of(NOW)),
        series("EUSDT", Timeframe.M15, quarter.close, None, ms_of(NOW - timedelta(hours=10))),
    ]
    four_hours = [moved(four_hour, name) for name in ("AUSDT", "BUSDT", "CUSDT", "DUSDT")]
    paths = tmp_path / "market.parquet", tmp_path / "history.parquet"
    for path, histories in zip(paths, (quarters, four_hours), strict=True):
        frame_of(histories).write_parquet(path)
    return paths


def test_the_table_ranks_what_is_kept_and_says_why_each_near_miss_was_dropped(neurotrade: Run, files: tuple[Path, Path]) -> None:
    code, out, _ = neurotrade("screen", "--market", files[0], "--history", files[1], "--at", "2025-09-22T08:00", "--top", 1)
    head, table, near, others = out.strip().split("\n\n")
    assert code == 0
    assert head == "v3.1 at 2025-09-22T08:00:00+00:00, market.parquet: 5 symbols, 3 read, 1 kept"
    assert table.splitlines()[0].split()[:4] == ["rank", "symbol", "side", "score"]
    assert [line.split()[:3] for line in table.splitlines()[1:]] == [["1", "BUSDT", "LONG"]]
    assert [line.split()[:2] for line in near.splitlines()[1:]] == [["AUSDT", "outranked"], ["CUSDT", "low_volume_ratio"]]
    assert "volume ratio 1.00" in near
    assert others == "others dropped: low_change 1, market_data_missing 1"


def test_json_tells_every_symbol_once_and_the_end_of_the_recording_is_the_moment_by_default(
    neurotrade: Run, files: tuple[Path, Path]
) -> None:
    found = json.loads(neurotrade("screen", "--market", files[0], "--history", files[1], "--json")[1])
    assert (found["as_of"], found["preset"], found["universe"], found["screened"]) == ("2025-09-22T08:00:00Z", "v3.1", 5, 3)
    assert [kept["symbol"] for kept in found["candidates"]] == ["BUSDT", "AUSDT"]
    assert {no["symbol"]: no["reason"] for no in found["rejections"]} == {
        "CUSDT": "low_volume_ratio", "DUSDT": "low_change", "EUSDT": "market_data_missing",
    }  # fmt: skip
    assert found["near_misses"] == [no for no in found["rejections"] if no["symbol"] == "CUSDT"]


def test_the_presets_differ_and_the_setting_names_the_default(
    neurotrade: Run, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCREEN_PRESET", "momentum")
    by_setting = json.loads(neurotrade("screen", "--market", files[0], "--history", files[1], "--json")[1])
    assert by_setting["preset"] == "momentum"
    assert {no["reason"] for no in by_setting["near_misses"]} == {"no_setup"}
    by_option = neurotrade("screen", "--market", files[0], "--history", files[1], "--preset", "efficiency")[1]
    assert "SHORT" in by_option
    assert (
        neurotrade("screen", "--market", files[0], "--history", files[1], "--preset", "structure")[1].splitlines()[2] == "nobody"
    )


def test_what_closes_after_the_moment_is_not_seen(neurotrade: Run, files: tuple[Path, Path]) -> None:
    before = neurotrade("screen", "--market", files[0], "--history", files[1], "--at", "2025-09-22T07:59:59Z", "--json")[1]
    found = json.loads(before)
    assert found["candidates"] == []
    assert next(no for no in found["near_misses"] if no["symbol"] == "AUSDT")["detail"] == "volume ratio 1.00"


def test_without_a_history_four_hours_are_made_of_quarters_and_too_few_are_said_to_be(
    neurotrade: Run, files: tuple[Path, Path]
) -> None:
    found = json.loads(neurotrade("screen", "--market", files[0], "--json")[1])
    assert {no["detail"] for no in found["rejections"] if no["reason"] == "not_enough_history"} == {
        "299 candles of 15m, 18 of 4h"
    }
    assert found["near_misses"] == []


def cut(market: Path) -> Path:
    """The market without one of A's candles, 20 before the end."""
    path = market.with_name("cut.parquet")
    hole = (pl.col("symbol") == "AUSDT") & (pl.col("open_time") == ms_of(NOW) - 20 * Timeframe.M15.ms)
    pl.read_parquet(market).filter(~hole).write_parquet(path)
    return path


def test_only_what_follows_a_hole_counts(neurotrade: Run, files: tuple[Path, Path]) -> None:
    found = json.loads(neurotrade("screen", "--market", cut(files[0]), "--history", files[1], "--json")[1])
    (fallen,) = [no for no in found["rejections"] if no["symbol"] == "AUSDT"]
    assert (fallen["reason"], fallen["detail"]) == ("not_enough_history", "19 candles of 15m, 300 of 4h")


def test_of_a_recorder_s_folder_it_keeps_what_it_keeps_of_the_same_candles_in_two_files(
    neurotrade: Run, files: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, now_ms = tmp_path / "recording", ms_of(NOW)
    recorder = Recorder(folder, 100, "feed", lambda: now_ms)
    quarter, four_hour = dip("A")
    for _ in range(2):
        for name, last_volume in (("AUSDT", None), ("BUSDT", 160.0), ("CUSDT", 100.0)):
            recorder.candles(moved(quarter, name, last_volume))
            recorder.candles(moved(four_hour, name))
        recorder.write()
    told = json.loads(neurotrade("screen", "--market", folder, "--json")[1])
    read = json.loads(neurotrade("screen", "--market", files[0], "--history", files[1], "--json")[1])
    assert {candidate["symbol"] for candidate in told["candidates"]} == {"AUSDT", "BUSDT"}
    assert told["candidates"] == read["candidates"]
    assert told["as_of"] == read["as_of"]
    code, _, err = neurotrade("screen", "--market", tmp_path)
    assert (code, err) == (1, f"neurotrade: {tmp_path} is no recording: there is nothing in its candles_15m\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--at", "2025-01-01T00:00"], "2025-01-01T00:00:00+00:00 is outside the recording"),
        (["--at", "2025-09-22T08:00:01"], "goes from 2025-09-18T19:30:00+00:00 to 2025-09-22T08:00:00+00:00"),
        (["--at", "yesterday"], "--at yesterday: not a moment of ISO 8601"),
        (["--preset", "v9"], "SCREEN_PRESET: must be one of v3.1, v4"),
    ],
)
def test_a_moment_or_a_preset_that_is_not_there_is_one_readable_line(
    neurotrade: Run, files: tuple[Path, Path], arguments: list[str], words: str
) -> None:
    code, out, err = neurotrade("screen", "--market", files[0], *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("neurotrade: ")
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_file_that_is_missing_or_holds_something_else_is_named(
    neurotrade: Run, files: tuple[Path, Path], tmp_path: Path
) -> None:
    code, _, err = neurotrade("screen", "--market", tmp_path / "none.parquet")
    assert code == 2
    assert "does not exist" in err
    (tmp_path / "text.parquet").write_text("not a table")
    pl.DataFrame({"symbol": ["A"], "open_time": [0]}).write_parquet(tmp_path / "thin.parquet")
    pl.read_parquet(files[0]).clear().write_parquet(tmp_path / "empty.parquet")
    for name, words in (
        ("text.parquet", "the recording cannot be read"),
        ("thin.parquet", "has no column open, high, low, close, volume"),
        ("empty.parquet", "holds no candle"),
        ("history.parquet", "does not hold 15m candles"),
    ):
        code, out, err = neurotrade("screen", "--market", tmp_path / name)
        assert (code, out) == (1, "")
        assert words in err


def test_a_moment_needs_a_recording(neurotrade: Run) -> None:
    code, _, err = neurotrade("screen", "--at", "2025-09-22T08:00")
    assert (code, err) == (1, "neurotrade: --at and --history need --market: the exchange is asked for now\n")


def test_an_exchange_that_does_not_answer_is_one_readable_line(neurotrade: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("BINANCE_REST_URL", nobody := f"http://127.0.0.1:{free_port()}"),
        ("MARKET_CLOCK_URL", ""),
        ("REDIS_URL", ""),
    ):
        monkeypatch.setenv(name, value)
    code, out, err = neurotrade("screen")
    assert (code, out) == (1, "")
    assert err.startswith(f"neurotrade: {nobody} was asked in vain: ")
    assert len(err.splitlines()) == 1


def test_on_the_recorded_market_it_keeps_what_the_engine_keeps_of_the_same_candles(
    neurotrade: Run, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIN_VOLUME_USDT", "30000000")
    market, history = (data_folder / f"universe_{timeframe}_2025-09.parquet" for timeframe in ("15m", "4h"))
    arguments = ("--market", market, "--history", history, "--at", "2025-09-22T06:00", "--preset", "v5", "--json")
    found = json.loads(neurotrade("screen", *arguments)[1])
    early = {"low_quote_volume", "low_change", "outside_top_movers", "market_data_missing"}
    fallen = {no["symbol"] for no in found["rejections"] if no["reason"] not in early}
    read = sorted(fallen | {kept["symbol"] for kept in found["candidates"]})
    assert len(read) == found["screened"] == 60
    assert found["candidates"]
    assert plain(found["candidates"]) == engine_of(data_folder, read, PRESETS["v5"])


def plain(candidates: list[dict[str, Any]]) -> list[tuple[str, str, float]]:
    return [(kept["symbol"], kept["direction"], kept["score"]) for kept in candidates]


def engine_of(folder: Path, symbols: list[str], preset: RuleSet) -> list[tuple[str, str, float]]:
    now_ms = ms_of(datetime(2025, 9, 22, 6, tzinfo=UTC))
    quarter = candles_until(folder, "universe_15m_2025-09.parquet", Timeframe.M15, now_ms)
    four_hour = candles_until(folder, "universe_4h_2025-09.parquet", Timeframe.H4, now_ms - now_ms % Timeframe.H4.ms)
    panel = panel_of([quarter[symbol] for symbol in symbols])
    features = features_of(panel, panel_of([four_hour[symbol] for symbol in symbols]))
    found = screen(features, 10, preset, structure_of(panel))
    return [(kept.symbol, str(kept.direction), kept.score) for kept in found.candidates]
