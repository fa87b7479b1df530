"""Names of streams: what they carry, on which route, and how often they speak (wall time)."""

import re

import msgspec

from deploy.sandbox.core.intervals import INTERVALS

MARKET, PUBLIC, PRIVATE = "market", "public", "private"


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One stream.

    Args:
        kind: What it carries.
        symbol: Upper case; None for all.
        detail: The interval of klines, the number of levels of depth.
        cadence_ms: Wall time between two events.
        route: The path that gives its data.
    """

    kind: str
    symbol: str | None
    detail: str
    cadence_ms: int
    route: str


_SPEED = {"": 250, "@100ms": 100, "@250ms": 250, "@500ms": 500, "@0ms": 50}
_DEPTH = re.compile(r"depth(5|10|20|)(@(?:0|100|250|500)ms|)")
_SINGLE = {
    "aggTrade": ("aggTrade", 100, MARKET),
    "ticker": ("ticker", 1000, MARKET),
    "miniTicker": ("miniTicker", 1000, MARKET),
    "markPrice": ("markPrice", 3000, MARKET),
    "markPrice@1s": ("markPrice", 1000, MARKET),
    "forceOrder": ("forceOrder", 1000, MARKET),
    "bookTicker": ("bookTicker", 50, PUBLIC),
    "trade": ("trade", 50, PUBLIC),
}
_ALL = {
    "!ticker@arr": ("ticker", 1000, MARKET),
    "!miniTicker@arr": ("miniTicker", 1000, MARKET),
    "!markPrice@arr": ("markPrice", 3000, MARKET),
    "!markPrice@arr@1s": ("markPrice", 1000, MARKET),
    "!forceOrder@arr": ("forceOrder", 1000, MARKET),
    "!contractInfo": ("contractInfo", 1000, MARKET),
    "!bookTicker": ("bookTicker", 5000, PUBLIC),
}
KLINE_CADENCE_MS = 250


def parsed(name: str) -> Stream | None:
    """The stream of a name; None where there is no such stream: it is acknowledged and stays silent."""
    if name in _ALL:
        kind, cadence, route = _ALL[name]
        return Stream(kind=kind, symbol=None, detail="", cadence_ms=cadence, route=route)
    symbol, separator, what = name.partition("@")
    if not separator or symbol != symbol.lower():
        return None
    if what in _SINGLE:
        kind, cadence, route = _SINGLE[what]
        return Stream(kind=kind, symbol=symbol.upper(), detail="", cadence_ms=cadence, route=route)
    depth = _DEPTH.fullmatch(what)
    if depth:
        return Stream(kind="depth", symbol=symbol.upper(), detail=depth[1], cadence_ms=_SPEED[depth[2]], route=PUBLIC)
    return _kline(symbol, what)


def _kline(symbol: str, what: str) -> Stream | None:
    kind, _, interval = what.partition("_")
    if interval not in INTERVALS:
        return None
    if kind == "continuousKline":
        symbol, _, contract = symbol.partition("_")
        if contract != "perpetual":
            return None
    elif kind != "kline":
        return None
    return Stream(kind=kind, symbol=symbol.upper(), detail=interval, cadence_ms=KLINE_CADENCE_MS, route=MARKET)
