"""The only door to pandas-ta: the wider indicator set of the few shortlisted symbols that go to the analyst.

pandas-ta is called with `talib=False` throughout: its figures change silently where TA-Lib happens to be installed. Indicators that call
others inside (supertrend, stochastic RSI) do not hand that on, so it is also told that there is no TA-Lib.
Its own CCI is left out: in 0.4.71b0 it is off by orders of magnitude.
"""

import importlib
import math
import warnings
from typing import Any, Final

import numpy as np

from engine.core.market import Candles, Timeframe

DIGITS: Final = 8


def widen(candles: Candles) -> dict[str, float]:
    """Indicators of the newest closed candle by name; those that the history cannot say are left out.

    Args:
        candles: One symbol's 15m candles, oldest first.
    """
    frame, ta = _frame(candles)
    columns: list[Any] = [
        ta.stochrsi(frame["close"], talib=False),
        ta.mfi(frame["high"], frame["low"], frame["close"], frame["volume"], talib=False),
        ta.willr(frame["high"], frame["low"], frame["close"], talib=False),
        ta.cmf(frame["high"], frame["low"], frame["close"], frame["volume"]),
        ta.supertrend(frame["high"], frame["low"], frame["close"]),
        ta.donchian(frame["high"], frame["low"]),
        ta.aroon(frame["high"], frame["low"], talib=False),
        ta.ema(frame["close"], length=50, talib=False),
    ]
    return {name: value for column in columns if column is not None for name, value in _last(column)}


def load() -> None:
    """Imports pandas-ta and computes once ahead of the first use; both take seconds."""
    steps = np.array([1 + step / 200 for step in range(200)], np.float64)
    widen(
        Candles(
            symbol="WARM",
            timeframe=Timeframe.M15,
            open_ms=np.arange(200),
            open=steps,
            high=steps + 1,
            low=steps - 0.5,
            close=steps,
            volume=steps,
        )
    )


def _pandas_ta() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ta = importlib.import_module("pandas_ta")
        importlib.import_module("pandas_ta.maps").Imports["talib"] = False
        return ta


def _frame(candles: Candles) -> tuple[Any, Any]:
    pandas, ta = importlib.import_module("pandas"), _pandas_ta()
    names = ("open", "high", "low", "close", "volume")
    return pandas.DataFrame({name: getattr(candles, name) for name in names}), ta


def _last(column: Any) -> list[tuple[str, float]]:
    newest = column.iloc[-1]
    pairs = [(str(column.name), newest)] if column.ndim == 1 else [(str(name), value) for name, value in newest.items()]
    return [(name, round(float(value), DIGITS)) for name, value in pairs if math.isfinite(float(value))]
