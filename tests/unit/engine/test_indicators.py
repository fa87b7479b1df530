"""pandas-ta's wider set: the figures that TA-Lib also knows agree with it, and too little history is left out."""

import json
import subprocess
import sys

import msgspec
import pytest
import talib

from engine.indicators import load, widen
from tests.unit.engine.test_features import candles


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    load()


def test_what_talib_also_knows_agrees_with_it() -> None:
    series = candles(5, 300)
    found = widen(series)
    high, low, close, volume = series.high, series.low, series.close, series.volume
    down, up = talib.AROON(high, low, 14)
    expected = {
        "MFI_14": talib.MFI(high, low, close, volume, 14)[-1],
        "WILLR_14": talib.WILLR(high, low, close, 14)[-1],
        "EMA_50": talib.EMA(close, 50)[-1],
        "AROOND_14": down[-1],
        "AROONU_14": up[-1],
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_no_figure_changes_where_talib_is_not_installed() -> None:
    code = """
import importlib.util, json
from tests.unit.engine.test_features import candles
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "talib" else found(name, *rest)
from engine.indicators import widen
print(json.dumps(widen(candles(5, 120))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == widen(candles(5, 120))


def test_the_names_are_the_same_for_every_symbol() -> None:
    assert set(widen(candles(1, 300))) == set(widen(candles(2, 499)))


def test_a_young_symbol_leaves_out_what_its_history_cannot_say() -> None:
    found = widen(msgspec.structs.replace(candles(1, 30), symbol="YOUNG"))
    assert "EMA_50" not in found
    assert "WILLR_14" in found


def test_a_process_without_a_model_never_loads_pandas() -> None:
    code = "import sys, engine.app; print(sorted({'pandas', 'pandas_ta', 'openai', 'ccxt'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
