"""Public market data and symbol rules of Binance USDⓈ-M by aiohttp and msgspec; the leftmost adapter of the arrow."""

from engine.candles.budget import WeightBudget
from engine.candles.door import Door, open_session
from engine.candles.klines import warm_up
from engine.candles.source import BinanceData

__all__ = ["BinanceData", "Door", "WeightBudget", "open_session", "warm_up"]
