"""The door to accounts at Binance, the only package that may import ccxt: the adapter of the Exchange and Exchanges ports.

It signs, sends, reads and says what an answer means. What to do about it is decided in `engine.execution`.
"""

from engine.binance.accounts import Addresses, BinanceExchanges
from engine.binance.announcement import announce

__all__ = ["Addresses", "BinanceExchanges", "announce"]
