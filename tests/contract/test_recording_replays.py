"""What the engine's recorder wrote is what the sandbox replays: the same candles, the same forced orders, the same path inside a candle."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

from deploy.sandbox.core.market import Market
from deploy.sandbox.core.path import TICK_MS, TICKS
from deploy.sandbox.files import open_market
from deploy.sandbox.options import SandboxOptions
from engine.core.market import Candles, ForcedOrder, Mark, Timeframe
from engine.core.recording import DAY_MS
from engine.recorder import Recorder
from shared.enums import Side

QUARTER = Timeframe.M15.ms
BEGIN = 1_760_400_000_000 // Timeframe.H4.ms * Timeframe.H4.ms
CANDLES = 330


def _recorded(folder: Path, silent: range = range(0)) -> Candles:
    """A symbol's candles, a gap far back that a feed could not fill, and the marks of the last candle but those of `silent` seconds."""
    rng = np.random.default_rng(5)
    close = np.rint(50_000 + rng.normal(0, 30, CANDLES).cumsum()) / 100
    opened = np.concatenate([[500.0], close[:-1]])
    high, low = np.maximum(opened, close) + 0.5, np.minimum(opened, close) - 0.5
    open_ms = BEGIN + np.arange(CANDLES) * QUARTER
    open_ms[:5] -= QUARTER
    volume = np.rint(rng.uniform(100, 200, CANDLES) * 10) / 10
    candles = Candles(
        symbol="AAVEUSDT", timeframe=Timeframe.M15, open_ms=open_ms, open=opened, high=high, low=low, close=close, volume=volume
    )
    recorder = Recorder(folder, 100, "feed", lambda: int(open_ms[-1]))
    recorder.candles(candles)
    recorder.write()
    begins = int(open_ms[-1])
    for second in range(900):
        if second not in silent:
            recorder.marks([_mark(begins + second * 1000 + 700, low[-1] + (high[-1] - low[-1]) * second / 900)])
    recorder.liquidation(
        ForcedOrder(
            symbol="AAVEUSDT",
            side=Side.LONG,
            price=Decimal("0.00001234"),
            quantity=Decimal("1200000"),
            at_ms=begins + 400,
            fill_price=Decimal("0.00001250"),
        )
    )
    recorder.candles(candles)
    recorder.write()
    return candles


def _mark(at_ms: int, price: float) -> Mark:
    told = Decimal(f"{price:.8f}")
    return Mark(
        symbol="AAVEUSDT",
        price=told,
        at_ms=at_ms,
        funding_rate=Decimal(0),
        next_funding_ms=at_ms // QUARTER * QUARTER,
        received_ms=0,
    )


def _market(folder: Path) -> Market:
    return open_market(SandboxOptions(market=folder, start_ms=BEGIN + 320 * QUARTER))[0]


def test_candles_come_back_as_recorded_from_after_their_last_gap(tmp_path: Path) -> None:
    candles = _recorded(tmp_path)
    tape = _market(tmp_path).tapes["AAVEUSDT"]
    rows = tape.quarters(tape.first, tape.first + CANDLES)
    assert rows.opened.tolist() == candles.open_ms[5:].tolist()
    tick, step = float(tape.rules.tick), float(tape.rules.step)
    for row, column in zip(rows.table[:5], (candles.open, candles.high, candles.low, candles.close, candles.volume), strict=True):
        assert np.allclose(row * (step if column is candles.volume else tick), column[5:], rtol=1e-12)


def test_the_path_inside_a_candle_is_that_of_the_marks(tmp_path: Path) -> None:
    candles = _recorded(tmp_path)
    tape = _market(tmp_path).tapes["AAVEUSDT"]
    price = tape.ticks(int(candles.open_ms[-1]) // QUARTER).price * float(tape.rules.tick)
    told = candles.low[-1] + (candles.high[-1] - candles.low[-1]) * (np.arange(TICKS) * 5 + 4) / 900
    inner = price[3:-3]
    assert abs(inner - told[3:-3]).max() <= float(tape.rules.tick) / 2 + 1e-9
    assert (price[0], price[-1]) == (candles.open[-1], candles.close[-1])
    assert (price.max(), price.min()) == (candles.high[-1], candles.low[-1])


def test_a_candle_of_which_too_little_was_heard_is_walked_as_without_a_recording(tmp_path: Path) -> None:
    candles = _recorded(tmp_path / "whole")
    _recorded(tmp_path / "torn", silent=range(300, 330))
    number = int(candles.open_ms[-1]) // QUARTER
    whole, torn = (_market(tmp_path / name).tapes["AAVEUSDT"].ticks(number) for name in ("whole", "torn"))
    before = _market(tmp_path / "torn").tapes["AAVEUSDT"].ticks(number)
    assert (torn.price == before.price).all()
    assert (torn.price != whole.price).any()
    assert torn.price[0] == whole.price[0]
    assert torn.price.max() == whole.price.max()


def test_a_short_silence_holds_the_last_mark(tmp_path: Path) -> None:
    candles = _recorded(tmp_path, silent=range(300, 310))
    tape = _market(tmp_path).tapes["AAVEUSDT"]
    price = tape.ticks(int(candles.open_ms[-1]) // QUARTER).price
    assert price[60] == price[61] == price[59] != price[62]


def test_forced_orders_come_at_their_time_in_the_exchanges_words(tmp_path: Path) -> None:
    candles = _recorded(tmp_path)
    at_ms = int(candles.open_ms[-1]) + 400
    [order] = _market(tmp_path).liquidations(at_ms - TICK_MS, at_ms)
    assert (order.time_ms, order.symbol, order.synthetic) == (at_ms, "AAVEUSDT", False)
    assert (order.order["S"], order.order["p"], order.order["q"]) == ("SELL", "0.00001234", "1200000")
    assert order.order["ap"] == "0.0000125"


def test_forced_orders_of_files_from_before_their_fill_was_recorded_were_filled_at_their_price(tmp_path: Path) -> None:
    at_ms = int(_recorded(tmp_path).open_ms[-1]) + 400
    [file] = (tmp_path / "force_orders").iterdir()
    rows = pl.read_parquet(file)
    rows.drop("fill_price").write_parquet(file)
    rows.with_columns(pl.col("time") + 1).write_parquet(file.with_name("2099-01-01.parquet"))
    orders = _market(tmp_path).liquidations(at_ms - TICK_MS, at_ms + 1)
    assert [(order.order["p"], order.order["ap"]) for order in orders] == [
        ("0.00001234", "0.00001234"),
        ("0.00001234", "0.0000125"),
    ]


def _walked(timeframe: Timeframe, begin_ms: int, end_ms: int) -> Candles:
    open_ms = np.arange(begin_ms, end_ms, timeframe.ms)
    close = np.rint(50_000 + np.random.default_rng(7).normal(0, 30, len(open_ms)).cumsum()) / 100
    return Candles(
        symbol="AAVEUSDT",
        timeframe=timeframe,
        open_ms=open_ms,
        open=close,
        high=close + 0.5,
        low=close - 0.5,
        close=close,
        volume=np.ones(len(open_ms)),
    )


def test_a_recording_whose_budget_is_spent_many_times_over_still_has_the_history_that_its_replay_begins_with(
    tmp_path: Path,
) -> None:
    market_ms, budget_mb = BEGIN, 0.6
    recorder = Recorder(tmp_path, budget_mb, "feed", lambda: market_ms)
    for timeframe in (Timeframe.M15, Timeframe.H4):
        recorder.candles(_walked(timeframe, BEGIN - 498 * timeframe.ms, BEGIN))
    rng = np.random.default_rng(11)
    for _ in range(8):
        recorder.marks([_mark(market_ms + second * 1_000, rng.uniform(100, 900)) for second in range(8_000)])
        for timeframe in (Timeframe.M15, Timeframe.H4):
            recorder.candles(_walked(timeframe, market_ms, market_ms + DAY_MS))
        market_ms += DAY_MS
        recorder.write()
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.parquet")) <= budget_mb * 2**20
    assert len(list((tmp_path / "candles_4h").iterdir())) > 83
    assert 0 < len(list((tmp_path / "marks").iterdir())) < 7
    market, start_ms = open_market(SandboxOptions(market=tmp_path))
    assert start_ms <= BEGIN
    assert market.ends_ms == BEGIN + 8 * DAY_MS
