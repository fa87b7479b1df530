"""Stream events as pure functions of a span of market time: what is to be told about (since, now].

An emitter has no state. Asked for one span, it tells what happened in it; asked without a beginning (a fresh subscription), it tells how
things stand.

Source: Binance USDⓈ-M "Websocket Market Streams" (read 2026-11); `st` is 1 for USDⓈ-M and 2 for COIN-M rows in broadcast streams.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from deploy.sandbox.core import funding, klines
from deploy.sandbox.core.book import Book, book_at
from deploy.sandbox.core.intervals import MINUTE_MS, QUARTER_MS, next_open
from deploy.sandbox.core.market import Liquidation, largest_each
from deploy.sandbox.core.path import TICKS, TICKS_A_MINUTE, Ints
from deploy.sandbox.core.replies import Prices, aggregate, book_sides, index_at, mark_at, trade_rows
from deploy.sandbox.core.statistics import trade_id
from deploy.sandbox.core.stream_names import Stream
from deploy.sandbox.core.tape import Rows, Tape

Event = dict[str, Any] | list[dict[str, Any]]
Emitter = Callable[[int | None, int], list[Event]]
"""(since, now) to events; since is None for a fresh subscription."""

MOST_CLOSED = 500
"""Closing frames told at once: at any sane speed a cadence closes fewer."""
MOST_TRADES = 1_000
COIN_MARGINED = {"BTCUSD_PERP": "BTCUSDT", "ETHUSD_PERP": "ETHUSDT"}
"""COIN-M rows that broadcast streams carry too, and the tape they are copied from."""


class Events:
    """Builds the emitter of each stream.

    Args:
        prices: For the market and its wording.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._market = prices.market
        self._makers: dict[str, Callable[[Stream], Emitter]] = {
            "kline": self._klines,
            "continuousKline": self._klines,
            "aggTrade": self._trades,
            "trade": self._trades,
            "ticker": self._tickers,
            "miniTicker": self._tickers,
            "markPrice": self._mark_prices,
            "bookTicker": self._book_tickers,
            "depth": self._depths,
            "forceOrder": self._forced,
        }

    def emitter(self, stream: Stream) -> Emitter | None:
        """The emitter of a stream; None where there is nothing to tell, ever."""
        maker = self._makers.get(stream.kind)
        if maker is None or (stream.symbol is not None and stream.symbol not in self._market.tapes):
            return None
        return maker(stream)

    def _tape(self, stream: Stream) -> Tape:
        return self._market.tapes[stream.symbol or ""]

    def _changed(self, since: int | None, now: int) -> Iterator[Tape]:
        """Live symbols with a tick in the span."""
        return (tape for tape in self._market.live(now) if ticked(tape, since, now))

    def _klines(self, stream: Stream) -> Emitter:
        tape, interval = self._tape(stream), stream.detail

        def emit(since: int | None, now: int) -> list[Event]:
            if not tape.first * QUARTER_MS <= now:
                return []
            newest = klines.last_open(tape, interval, now)
            first = newest if since is None else klines.last_open(tape, interval, since)
            first = max(first, next_open(interval, newest, -MOST_CLOSED), klines.first_open(tape, interval))
            rows = klines.candles(tape, interval, first, newest, now)
            events = [self._kline(stream, tape, rows, at, now) for at in range(len(rows.opened))]
            open_one = events[-1:] if ticked(tape, since, now) else []
            return [*events[:-1], *open_one]

        return emit

    def _kline(self, stream: Stream, tape: Tape, rows: Rows, at: int, now: int) -> Event:
        words, column = self._prices.words(tape), rows.table[:, at].tolist()
        opened = int(rows.opened[at])
        closes = next_open(stream.detail, opened)
        kline = {
            "t": opened,
            "T": closes - 1,
            "s": tape.rules.symbol,
            "i": stream.detail,
            "f": first_id(opened),
            "L": first_id(closes) - 1 if closes <= now else last_id(tape, now),
            "o": words.price(column[0]),
            "c": words.price(column[3]),
            "h": words.price(column[1]),
            "l": words.price(column[2]),
            "v": words.quantity(column[4]),
            "n": column[5],
            "x": closes <= now,
            "q": words.quote(column[6]),
            "V": words.quantity(column[7]),
            "Q": words.quote(column[8]),
            "B": "0",
        }
        if stream.kind == "kline":
            return {"e": "kline", "E": now, "s": tape.rules.symbol, "k": kline}
        del kline["s"]
        return {"e": "continuous_kline", "E": now, "ps": tape.rules.pair, "ct": tape.rules.contract_type, "k": kline}

    def _trades(self, stream: Stream) -> Emitter:
        tape = self._tape(stream)
        words = self._prices.words(tape)

        def emit(since: int | None, now: int) -> list[Event]:
            if since is None or not ticked(tape, since, now):
                return []
            rows = trade_rows(tape, last_id(tape, since) + 1, last_id(tape, now), MOST_TRADES, newest=True)
            head = {"e": "aggTrade", "E": now, "s": tape.rules.symbol}
            if stream.kind == "aggTrade":
                return [head | aggregate(words, *row) | {"st": 1} for row in rows]
            return [_trade(head, aggregate(words, *row)) for row in rows]

        return emit

    def _tickers(self, stream: Stream) -> Emitter:
        full = stream.kind == "ticker"
        if stream.symbol is not None:
            tape = self._tape(stream)
            return lambda since, now: [self._ticker(tape, now, full=full)] if ticked(tape, since, now) else []

        def emit(since: int | None, now: int) -> list[Event]:
            rows = [self._ticker(tape, now, full=full) for tape in self._changed(since, now)]
            return [[*rows, *_coin_margined(rows)]] if rows else []

        return emit

    def _ticker(self, tape: Tape, now: int, *, full: bool) -> dict[str, Any]:
        row = self._prices.ticker(tape, now)
        event = {"e": "24hrTicker" if full else "24hrMiniTicker", "E": now, "s": tape.rules.symbol, "ps": tape.rules.pair}
        keys = _TICKER_KEYS if full else _MINI_TICKER_KEYS
        return event | {short: row[name] for short, name in keys.items()} | {"st": 1}

    def _mark_prices(self, stream: Stream) -> Emitter:
        if stream.symbol is not None:
            tape = self._tape(stream)
            return lambda since, now: [self._mark_price(tape, now)] if tape.alive(now) else []  # noqa: ARG005 - told anyway
        return lambda since, now: [[self._mark_price(tape, now) for tape in self._market.live(now)]]  # noqa: ARG005

    def _mark_price(self, tape: Tape, now: int) -> dict[str, Any]:
        words, index, mark = self._prices.words(tape), index_at(tape, now), mark_at(tape, now)
        time_ms = funding.next_time(tape, now)
        perpetual = tape.rules.contract_type == "PERPETUAL"
        return {
            "e": "markPriceUpdate",
            "E": now,
            "s": tape.rules.symbol,
            "ps": tape.rules.pair,
            "p": words.fine(mark),
            "ap": words.fine(mark),
            "i": words.fine(index),
            "P": words.fine(index),
            "r": f"{funding.rate(tape, time_ms):.8f}" if perpetual else "",
            "T": time_ms if perpetual else 0,
            "st": 1,
        }

    def _book_tickers(self, stream: Stream) -> Emitter:
        if stream.symbol is not None:
            tape = self._tape(stream)
            return lambda since, now: [self._book_ticker(tape, now)] if ticked(tape, since, now) else []

        def emit(since: int | None, now: int) -> list[Event]:
            rows = [self._book_ticker(tape, now) for tape in self._changed(since, now)]
            return [*rows, *_coin_margined(rows)]

        return emit

    def _book_ticker(self, tape: Tape, now: int) -> dict[str, Any]:
        words, book = self._prices.words(tape), book_at(tape, now, 1)
        return {
            "e": "bookTicker",
            "u": book.update_id,
            "E": now,
            "T": book.time_ms,
            "s": tape.rules.symbol,
            "ps": tape.rules.pair,
            "b": words.price(book.bids[0, 0]),
            "B": words.quantity(book.bids[1, 0]),
            "a": words.price(book.asks[0, 0]),
            "A": words.quantity(book.asks[1, 0]),
            "st": 1,
        }

    def _depths(self, stream: Stream) -> Emitter:
        tape, words = self._tape(stream), self._prices.words(self._tape(stream))
        levels = int(stream.detail) if stream.detail else DIFF_LEVELS

        def emit(since: int | None, now: int) -> list[Event]:
            if not ticked(tape, since, now):
                return []
            book = book_at(tape, now, levels)
            if since is None or not tape.alive(since):
                earlier = [book]
            else:
                earlier = [book_at(tape, moment, levels) for moment in ([since] if stream.detail else _moments(tape, since, now))]
            shown = book if stream.detail or earlier[0] is book else difference(earlier, book)
            bids, asks = book_sides(words, shown)
            return [_depth(tape, book, earlier[0].update_id, now) | {"b": bids, "a": asks, "st": 1}]

        return emit

    def _forced(self, stream: Stream) -> Emitter:
        def emit(since: int | None, now: int) -> list[Event]:
            if since is None:
                return []
            told = [item for item in self._market.liquidations(since, now) if stream.symbol in (None, item.symbol)]
            rows = [forced_event(item, now) for item in largest_each(told)]
            return [*rows, *(_coin_margined(rows) if stream.symbol is None else [])]

        return emit


DIFF_LEVELS = 1_000
"""How deep a diff stream looks: as deep as the deepest snapshot that it keeps up to date."""
MOST_MOMENTS = 64
"""Books between two diffs that are looked at."""
_TICKER_KEYS = {
    "p": "priceChange",
    "P": "priceChangePercent",
    "w": "weightedAvgPrice",
    "c": "lastPrice",
    "Q": "lastQty",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
    "O": "openTime",
    "C": "closeTime",
    "F": "firstId",
    "L": "lastId",
    "n": "count",
}
_MINI_TICKER_KEYS = {name: _TICKER_KEYS[name] for name in "cohlvq"}


def forced_event(item: Liquidation, now: int) -> dict[str, Any]:
    """A forced order on the stream; synthesised ones carry `syn`, which Binance does not have."""
    event = {"e": "forceOrder", "E": now, "o": item.order, "ps": item.symbol.partition("_")[0], "st": 1}
    return event | {"syn": True} if item.synthetic else event


def ticked(tape: Tape, since: int | None, now: int) -> bool:
    """Whether a live symbol had a tick in (since, now]; always for a fresh look."""
    if not tape.alive(now):
        return False
    if since is None or not tape.alive(since):
        return True
    ticks, seen = tape.seen(now)
    return bool(ticks.times[seen - 1] > since)


def first_id(opened: int) -> int:
    """The id of the first trade of a candle that opens on a minute."""
    return trade_id(opened // QUARTER_MS, opened % QUARTER_MS // MINUTE_MS * TICKS_A_MINUTE)


def last_id(tape: Tape, now: int) -> int:
    """The id of the last trade at a moment; the one before the tape where there was none."""
    if now < tape.first * QUARTER_MS:
        return trade_id(tape.first, 0) - 1
    ticks, seen = tape.seen(now)
    return trade_id(ticks.number, int(np.maximum(seen - 1, 0)))


def _trade(head: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return {
        **head,
        "e": "trade",
        "T": row["T"],
        "t": row["a"],
        "p": row["p"],
        "q": row["q"],
        "X": "MARKET",
        "m": row["m"],
        "st": 1,
    }


def _depth(tape: Tape, book: Book, before: int, now: int) -> dict[str, Any]:
    return {
        "e": "depthUpdate",
        "E": now,
        "T": book.time_ms,
        "s": tape.rules.symbol,
        "ps": tape.rules.pair,
        "U": min(before + 1, book.update_id),
        "u": book.update_id,
        "pu": before,
    }


def _moments(tape: Tape, since: int, now: int) -> list[int]:
    """The beginning of a span and every tick inside it but the last."""
    ids = range(last_id(tape, since) + 1, last_id(tape, now))
    return [since, *(int(tape.ticks(number // TICKS).times[number % TICKS]) for number in ids[-MOST_MOMENTS:])]


def difference(earlier: list[Book], book: Book) -> Book:
    """What changed since the first of some books, as a book: new sizes, and 0 for levels that went.

    Args:
        earlier: At the beginning of a span and at each tick inside: a snapshot taken in between is kept up to date too.
        book: At its end.
    """
    return book._replace(
        bids=_changed_levels([old.bids for old in earlier], book.bids, -1),
        asks=_changed_levels([old.asks for old in earlier], book.asks, 1),
    )


def _changed_levels(earlier: list[Ints], side: Ints, sign: int) -> Ints:
    olds = [set(zip(*old.tolist(), strict=True)) for old in earlier]
    after = dict(zip(*side.tolist(), strict=True))
    went = set().union(*olds) - after.items()
    prices = sorted(
        {price for price, _ in went} | {price for price, _ in after.items() - olds[0]}, key=lambda price: sign * price
    )
    return np.array([prices, [after.get(price, 0) for price in prices]], dtype=np.int64)


def _coin_margined(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """COIN-M rows beside the USDⓈ-M rows they are copied from."""
    out = []
    for name, original in COIN_MARGINED.items():
        for row in rows:
            if row.get("s") == original:
                out.append({**row, "s": name, "ps": name.partition("_")[0], "st": 2})
            elif "o" in row and isinstance(row["o"], dict) and row["o"]["s"] == original:
                out.append({**row, "o": {**row["o"], "s": name}, "ps": name.partition("_")[0], "st": 2})
    return out
