"""Reads one symbol of a running sandbox by REST and by socket, and judges every reading against a path of ticks.

The judge knows nothing of the sandbox's sums: it folds ticks by itself, so an altered tick must show.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp
import numpy as np

from deploy.sandbox.core.funding import premium
from deploy.sandbox.core.intervals import DAY_MS, INTERVALS, MINUTE_MS, next_open, open_time
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.path import INDEX_WINDOW, TICKS

SHORT_INTERVALS = sorted(INTERVALS - {"1w", "1M", "3d"})
PATH_DAYS = 3


@dataclass
class Path:
    """Ticks of one symbol over some days, oldest first."""

    times: np.ndarray[Any, Any]
    price: np.ndarray[Any, Any]
    quantity: np.ndarray[Any, Any]
    buyer: np.ndarray[Any, Any]
    ids: np.ndarray[Any, Any]
    tick: Decimal
    step: Decimal
    premium: Callable[[int], float]
    """Of the mark over the index at a time; the same throughout a funding period."""

    def until(self, now: int) -> "Path":
        return self.inside(0, now)

    def inside(self, start: int, end: int) -> "Path":
        """Ticks with times in [start, end]."""
        kept = (self.times >= start) & (self.times <= end)
        columns = [column[kept] for column in (self.times, self.price, self.quantity, self.buyer, self.ids)]
        return Path(columns[0], columns[1], columns[2], columns[3], columns[4], self.tick, self.step, self.premium)

    def altered(self, at: int) -> "Path":
        """The same path with one price moved by one tick."""
        price = self.price.copy()
        price[at] += 1
        return Path(self.times, price, self.quantity, self.buyer, self.ids, self.tick, self.step, self.premium)

    def candle(self) -> list[Decimal]:
        """Open, high, low, close, volume, quote volume, trades, taker base, taker quote."""
        quote = self.price * self.quantity
        amounts = self.tick * self.step
        prices = [self.price[0], self.price.max(), self.price.min(), self.price[-1]]
        return [
            *(Decimal(int(price)) * self.tick for price in prices),
            Decimal(int(self.quantity.sum())) * self.step,
            Decimal(int(quote.sum())) * amounts,
            Decimal(int((self.quantity > 0).sum())),
            Decimal(int(self.quantity[self.buyer].sum())) * self.step,
            Decimal(int(quote[self.buyer].sum())) * amounts,
        ]

    def index(self) -> np.ndarray[Any, Any]:
        """The mean of the last INDEX_WINDOW prices at each tick from the INDEX_WINDOW-th on, USDT."""
        sums = np.cumsum(self.price.astype(np.float64))
        sums[INDEX_WINDOW:] = sums[INDEX_WINDOW:] - sums[:-INDEX_WINDOW]
        return sums / INDEX_WINDOW * float(self.tick)


def path_of(market: Market, symbol: str, now: int) -> Path:
    """The last days of a symbol's path, from the ticks alone."""
    tape = market.tapes[symbol]
    last = tape.current(now)
    blocks = [tape.ticks(number) for number in range(last - PATH_DAYS * 96, last + 1)]
    return Path(
        times=np.concatenate([block.times for block in blocks]),
        price=np.concatenate([block.price for block in blocks]),
        quantity=np.concatenate([block.quantity for block in blocks]),
        buyer=np.concatenate([block.buyer for block in blocks]),
        ids=np.concatenate([np.arange(TICKS) + block.number * TICKS for block in blocks]),
        tick=Decimal(tape.rules.tick),
        step=Decimal(tape.rules.step),
        premium=lambda time_ms: premium(tape, time_ms),
    )


@dataclass
class Readings:
    """What the sandbox said about one symbol at one moment."""

    symbol: str
    now: int
    rest: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, Any] = field(default_factory=dict)


async def read(session: aiohttp.ClientSession, base: str, symbol: str) -> Readings:
    """Read everything; the sandbox's clock must stand still."""

    async def get(path: str, **params: str) -> Any:
        async with session.get(f"{base}{path}", params={"symbol": symbol, **params}) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    clock = await get("/sandbox/clock")
    assert clock["speed"] == 0
    out = Readings(symbol, clock["market_ms"])
    for interval in SHORT_INTERVALS:
        out.rest[f"klines {interval}"] = await get("/fapi/v1/klines", interval=interval, limit="2")
    for interval in ("1m", "15m", "1h"):
        out.rest[f"markPriceKlines {interval}"] = await get("/fapi/v1/markPriceKlines", interval=interval, limit="2")
    for name in ("ticker/24hr", "ticker/price", "ticker/bookTicker", "premiumIndex", "depth", "trades", "aggTrades"):
        out.rest[name] = await get(f"/fapi/v1/{name}")
    lower = symbol.lower()
    market = [f"{lower}@kline_{interval}" for interval in SHORT_INTERVALS]
    market += [f"{lower}@{name}" for name in ("ticker", "miniTicker", "markPrice@1s")]
    out.streams |= await first_frames(session, f"{base}/market/stream", market)
    out.streams |= await first_frames(session, f"{base}/public/stream", [f"{lower}@bookTicker", f"{lower}@depth20@100ms"])
    return out


async def first_frames(session: aiohttp.ClientSession, url: str, names: list[str]) -> dict[str, Any]:
    """The first frame of each stream, by what follows the symbol."""
    found: dict[str, Any] = {}
    async with session.ws_connect(f"{url}?streams={'/'.join(names)}") as socket:
        while len(found) < len(names):
            frame = json.loads((await socket.receive(timeout=5)).data)
            found.setdefault(frame["stream"].partition("@")[2], frame["data"])
    return found


def disagreements(readings: Readings, path: Path) -> list[str]:
    """Names of readings that do not follow from the path."""
    seen = path.until(readings.now)
    wrong = [f"{name} {row[0]}" for name, row in _kline_rows(readings) if not _kline_right(name, row, seen, readings.now)]
    wrong += [name for name, said in _facts(readings).items() if said != _expected(readings, seen)[name]]
    wrong += [name for name in ("trades", "aggTrades") if not _trades_right(readings.rest[name], seen)]
    last = Decimal(int(seen.price[-1])) * seen.tick
    wrong += [name for name, (bid, ask) in _books(readings).items() if last not in (bid, ask) or bid >= ask]
    return wrong


def _kline_rows(readings: Readings) -> list[tuple[str, list[Any]]]:
    rows = [(name, row) for name, said in readings.rest.items() if "lines " in name for row in said]
    for name, frame in readings.streams.items():
        if name.startswith("kline_"):
            kline = frame["k"]
            values = [kline[key] for key in ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")]
            rows.append((f"klines {kline['i']}", values))
    return rows


def _kline_right(name: str, row: list[Any], seen: Path, now: int) -> bool:
    interval = name.split()[1]
    assert open_time(interval, row[0]) == row[0]
    closes = next_open(interval, row[0])
    if row[6] != closes - 1 or row[0] > now:
        return False
    inside = seen.inside(row[0], closes - 1)
    if name.startswith("mark"):
        return _mark_right(row, seen, inside)
    o, h, low, c, volume, quote, trades, taker, taker_quote = inside.candle()
    said = [Decimal(str(row[at])) for at in (1, 2, 3, 4, 5, 8, 9)]
    exact = said == [o, h, low, c, volume, trades, taker]
    return exact and _near(row[7], quote) and _near(row[10], taker_quote)


def _mark_right(row: list[Any], seen: Path, inside: Path) -> bool:
    at = int(np.searchsorted(seen.times, inside.times[0]))
    marks = seen.index()[at : at + len(inside.times)] * (1 + seen.premium(row[0]))
    expected = [marks[0], marks.max(), marks.min(), marks[-1]]
    return all(abs(float(said) - value) < 1.1e-8 + value * 1e-11 for said, value in zip(row[1:5], expected, strict=True))


def _near(said: str, value: Decimal) -> bool:
    """Equal but for what the wire's decimals and a float's 53 bits cut off."""
    return abs(Decimal(said) - value) <= Decimal("0.000001") + abs(value) * Decimal("1e-14")


def _facts(readings: Readings) -> dict[str, Any]:
    rest, streams = readings.rest, readings.streams
    ticker, event, mini = rest["ticker/24hr"], streams["ticker"], streams["miniTicker"]
    day = [Decimal(ticker[name]) for name in ("openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "priceChange")]
    mark, told = rest["premiumIndex"], streams["markPrice@1s"]
    return {
        "ticker/24hr": [*day, round(Decimal(ticker["quoteVolume"]), 3), ticker["count"], ticker["lastId"]],
        "ticker": [*(Decimal(event[key]) for key in "ohlcvp"), round(Decimal(event["q"]), 3), event["n"], event["L"]],
        "miniTicker": [Decimal(mini[key]) for key in "ohlcv"],
        "ticker/price": Decimal(rest["ticker/price"]["price"]),
        "premiumIndex": [round(float(mark[name]), 7) for name in ("indexPrice", "markPrice")],
        "markPrice": [round(float(told[key]), 7) for key in "ip"],
    }


def _expected(readings: Readings, seen: Path) -> dict[str, Any]:
    day = seen.inside(readings.now // MINUTE_MS * MINUTE_MS - DAY_MS, readings.now)
    o, h, low, c, volume, quote, trades, *_ = day.candle()
    whole = [o, h, low, c, volume, c - o, round(quote, 3), int(trades), int(seen.ids[-1])]
    index = float(seen.index()[-1])
    marks = [round(round(index, 8), 7), round(round(index * (1 + seen.premium(readings.now)), 8), 7)]
    return {
        "ticker/24hr": whole,
        "ticker": whole,
        "miniTicker": whole[:5],
        "ticker/price": c,
        "premiumIndex": marks,
        "markPrice": marks,
    }


def _trades_right(rows: list[dict[str, Any]], seen: Path) -> bool:
    traded = seen.quantity > 0
    columns = (seen.ids, seen.price, seen.quantity, seen.times, seen.buyer)
    ids, price, quantity, times, buyer = (column[traded][-len(rows) :].tolist() for column in columns)
    for at, row in enumerate(rows):
        names = ("a", "p", "q", "T", "m") if "a" in row else ("id", "price", "qty", "time", "isBuyerMaker")
        number, cost, size, time_ms, maker = (row[name] for name in names)
        said = [number, Decimal(cost), Decimal(size), time_ms, maker]
        if said != [ids[at], price[at] * seen.tick, quantity[at] * seen.step, times[at], not buyer[at]]:
            return False
    return len(rows) == 500


def _books(readings: Readings) -> dict[str, tuple[Decimal, Decimal]]:
    rest, streams = readings.rest, readings.streams
    best, told = rest["ticker/bookTicker"], streams["bookTicker"]
    depth, partial = rest["depth"], streams["depth20@100ms"]
    return {
        "ticker/bookTicker": (Decimal(best["bidPrice"]), Decimal(best["askPrice"])),
        "bookTicker": (Decimal(told["b"]), Decimal(told["a"])),
        "depth": (Decimal(depth["bids"][0][0]), Decimal(depth["asks"][0][0])),
        "depth20": (Decimal(partial["b"][0][0]), Decimal(partial["a"][0][0])),
    }
