"""nautilus_trader's incremental indicators, one a symbol and figure: takes the next 15m close and ranks. Run in its own environment."""

import sys

import numpy as np
from nautilus_trader.indicators import (  # type: ignore[import-not-found, unused-ignore]
    AverageTrueRange,
    BollingerBands,
    DirectionalMovement,
    EfficiencyRatio,
    ExponentialMovingAverage,
    MovingAverageConvergenceDivergence,
    MovingAverageType,
    RateOfChange,
    RelativeStrengthIndex,
    SimpleMovingAverage,
)

from tests.bench.peers.ranking import Picks, ranked
from tests.bench.peers.serving import WIDTH, Rows, read_market, serve


class Quarter:
    """What is carried on for one symbol. It has no volume deviation; its RSI is 0..1; ADX is directional movement only."""

    def __init__(self, history: Rows) -> None:
        self.rsi = RelativeStrengthIndex(14, MovingAverageType.WILDER)
        self.atr = AverageTrueRange(14, MovingAverageType.WILDER)
        self.movement = DirectionalMovement(14, MovingAverageType.WILDER)
        self.closes = (
            ExponentialMovingAverage(50),
            ExponentialMovingAverage(200),
            MovingAverageConvergenceDivergence(12, 26),
            EfficiencyRatio(10),
            RateOfChange(3),
        )
        self.bands = BollingerBands(20, 2.0)
        self.volume = SimpleMovingAverage(20)
        for candle in history.tolist():
            self.take(candle)

    def take(self, candle: list[float]) -> tuple[float, float]:
        """The next candle; volume over its mean, and relative strength."""
        _, _, high, low, close, volume = candle
        self.rsi.update_raw(close)
        self.atr.update_raw(high, low, close)
        self.movement.update_raw(high, low)
        for indicator in self.closes:
            indicator.update_raw(close)
        self.bands.update_raw(high, low, close)
        self.volume.update_raw(volume)
        return volume / self.volume.value, self.rsi.value * 100


def average(history: Rows) -> float:
    """EMA200 of the 4h track, seeded by the mean of its first period as every other side seeds it: nautilus begins at the first close."""
    value, closes = float(history[:200, 4].mean()), history[200:, 4]
    for close in closes.tolist():
        value += (close - value) * 2 / 201
    return value


def main() -> None:
    """Seeds every symbol, then answers."""
    symbols, quarter, four_hour = read_market(sys.argv[1])
    carried = [Quarter(rows[:WIDTH]) for rows in quarter]
    ema = np.array([average(rows) for rows in four_hour])

    def close(place: int) -> Picks:
        candles = quarter[:, WIDTH + place]
        found = [one.take(candle) for one, candle in zip(carried, candles.tolist(), strict=True)]
        ratio, rsi = np.array(found).T
        return ranked(symbols, candles[:, 4], ratio, rsi, ema)

    serve(close)


if __name__ == "__main__":
    main()
