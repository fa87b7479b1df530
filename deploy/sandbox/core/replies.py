"""Replies of the public REST endpoints about prices: pure functions of the market, the parameters and market time.

Source: Binance USDⓈ-M "Market Data Endpoints" (read 2026-11); shapes as in the official SDK's models.
"""

from typing import Any

import msgspec
import numpy as np

from deploy.sandbox.core import funding, klines
from deploy.sandbox.core.book import Book, book_at
from deploy.sandbox.core.errors import out_of_range, unknown_interval, unknown_symbol
from deploy.sandbox.core.intervals import INTERVALS, QUARTER_MS, next_open, open_time
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.path import OPEN, QUOTE, TICKS, VOLUME
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.statistics import day_of, trade_id
from deploy.sandbox.core.tape import Tape
from deploy.sandbox.core.wording import RenderedKlines, Wording

Reply = msgspec.Raw | dict[str, Any] | list[Any]

DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
TradeRow = tuple[int, int, int, int, bool]


class Prices:
    """What is served about prices; keeps rendered klines and nothing else.

    Args:
        market: Where everything is cut from.
    """

    def __init__(self, market: Market) -> None:
        self.market = market
        self.wordings = {symbol: Wording(tape) for symbol, tape in market.tapes.items()}
        self._klines: dict[tuple[str, str, str], RenderedKlines] = {}

    def words(self, tape: Tape) -> Wording:
        """How a symbol's numbers are spelt."""
        return self.wordings[tape.rules.symbol]

    def klines(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/klines."""
        return self._candles(query.required("symbol"), "last", query, now)

    def mark_price_klines(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/markPriceKlines."""
        return self._candles(query.required("symbol"), "mark", query, now)

    def index_price_klines(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/indexPriceKlines."""
        return self._candles(query.required("pair"), "index", query, now)

    def premium_index_klines(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/premiumIndexKlines."""
        return self._candles(query.required("symbol"), "premium", query, now)

    def continuous_klines(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/continuousKlines: by pair and contract type."""
        pair, contract = query.required("pair"), query.required("contractType")
        for tape in self.market.tapes.values():
            if (tape.rules.pair, tape.rules.contract_type) == (pair, contract):
                return self._candles(tape.rules.symbol, "last", query, now)
        raise unknown_symbol()

    def _candles(self, symbol: str, kind: str, query: Query, now: int) -> Reply:
        interval = query.required("interval")
        if interval not in INTERVALS:
            raise unknown_interval()
        limit = query.limit(500, 1500)
        start, end = query.whole("startTime"), query.whole("endTime")
        if symbol in self.market.settled:
            return msgspec.Raw(b"[]")
        tape = self.market.tape(symbol, now)
        span = kline_span(tape, interval, start, end, limit, now)
        if span is None:
            return msgspec.Raw(b"[]")
        rendered = self._klines.get((symbol, interval, kind))
        if rendered is None:
            rendered = self._klines[symbol, interval, kind] = RenderedKlines(tape, self.words(tape), interval, kind)
        return msgspec.Raw(rendered.reply(*span, now))

    def depth(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/depth."""
        tape = self.market.trading(query.required("symbol"), now)
        levels = query.whole("limit")
        if levels is not None and levels not in DEPTHS:
            raise out_of_range("limit")
        book = book_at(tape, now, levels or 500)
        sides = book_sides(self.words(tape), book)
        return {"lastUpdateId": book.update_id, "E": now, "T": book.time_ms, "bids": sides[0], "asks": sides[1]}

    def trades(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/trades: the newest, oldest first."""
        tape = self.market.trading(query.required("symbol"), now)
        return self._trades(tape, trade_rows(tape, 0, _last_id(tape, now), query.limit(500, 1000), newest=True))

    def historical_trades(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/historicalTrades: from an id on, else the newest."""
        tape = self.market.trading(query.required("symbol"), now)
        limit, since = query.limit(100, 500), query.whole("fromId")
        return self._trades(tape, trade_rows(tape, since or 0, _last_id(tape, now), limit, newest=since is None))

    def aggregate_trades(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/aggTrades: by id or time from there on, else the newest."""
        tape = self.market.trading(query.required("symbol"), now)
        limit = query.limit(500, 1000)
        first, since, until = query.whole("fromId"), query.whole("startTime"), query.whole("endTime")
        if first is None and since is not None:
            first = _id_at(tape, since)
        last = _last_id(tape, now if until is None else max(tape.first * QUARTER_MS, min(now, until)))
        rows = trade_rows(tape, first or 0, last, limit, newest=first is None)
        return [aggregate(self.words(tape), *row) for row in rows]

    def _trades(self, tape: Tape, rows: list[TradeRow]) -> Reply:
        words = self.words(tape)
        return [
            {
                "id": number,
                "price": words.price(price),
                "qty": words.quantity(quantity),
                "quoteQty": words.quote(price * quantity),
                "time": time_ms,
                "isBuyerMaker": not buyer,
                "isRPITrade": False,
            }
            for number, price, quantity, time_ms, buyer in rows
        ]

    def ticker_24hr(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/ticker/24hr."""
        return self._one_or_all(query, now, self.ticker)

    def price(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/ticker/price and its v2."""
        return self._one_or_all(query, now, self._price)

    def book_ticker(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/ticker/bookTicker."""
        return self._one_or_all(query, now, self._book_ticker)

    def premium_index(self, query: Query, now: int) -> Reply:
        """GET /fapi/v1/premiumIndex."""
        return self._one_or_all(query, now, self._premium_index)

    def _one_or_all(self, query: Query, now: int, make: Any) -> Reply:
        symbol = query.text("symbol")
        if symbol is not None:
            single: Reply = make(self.market.trading(symbol, now), now)
            return single
        return [make(tape, now) for tape in self.market.live(now)]

    def ticker(self, tape: Tape, now: int) -> dict[str, Any]:
        """One row of ticker/24hr."""
        words, day = self.words(tape), day_of(tape, now)
        change = int(day.column[3] - day.column[OPEN])
        return {
            "symbol": tape.rules.symbol,
            "priceChange": words.price(change),
            "priceChangePercent": f"{change / day.column[OPEN] * 100:.3f}",
            "weightedAvgPrice": words.price(day.column[QUOTE] / max(1, day.column[VOLUME])),
            "lastPrice": words.price(day.column[3]),
            "lastQty": words.quantity(day.last_quantity),
            "openPrice": words.price(day.column[OPEN]),
            "highPrice": words.price(day.column[1]),
            "lowPrice": words.price(day.column[2]),
            "volume": words.quantity(day.column[VOLUME]),
            "quoteVolume": words.quote(day.column[QUOTE]),
            "openTime": day.opened_ms,
            "closeTime": day.closed_ms,
            "firstId": day.first_id,
            "lastId": day.last_id,
            "count": int(day.column[5]),
        }

    def _price(self, tape: Tape, now: int) -> dict[str, Any]:
        ticks, seen = tape.seen(now)
        price = self.words(tape).price(ticks.price[seen - 1])
        return {"symbol": tape.rules.symbol, "price": price, "time": int(ticks.times[seen - 1])}

    def _book_ticker(self, tape: Tape, now: int) -> dict[str, Any]:
        words, book = self.words(tape), book_at(tape, now, 1)
        return {
            "symbol": tape.rules.symbol,
            "bidPrice": words.price(book.bids[0, 0]),
            "bidQty": words.quantity(book.bids[1, 0]),
            "askPrice": words.price(book.asks[0, 0]),
            "askQty": words.quantity(book.asks[1, 0]),
            "time": book.time_ms,
            "lastUpdateId": book.update_id,
        }

    def _premium_index(self, tape: Tape, now: int) -> dict[str, Any]:
        words, index = self.words(tape), index_at(tape, now)
        time_ms = funding.next_time(tape, now)
        perpetual = tape.rules.contract_type == "PERPETUAL"
        return {
            "symbol": tape.rules.symbol,
            "markPrice": words.fine(index * (1 + funding.premium(tape, now))),
            "indexPrice": words.fine(index),
            "estimatedSettlePrice": words.fine(index),
            "lastFundingRate": f"{funding.rate(tape, time_ms):.8f}" if perpetual else "",
            "interestRate": "0.00010000" if perpetual else "",
            "nextFundingTime": time_ms if perpetual else 0,
            "time": now,
        }


def index_at(tape: Tape, now: int) -> float:
    """The index price of a live symbol at a moment, ticks."""
    ticks, seen = tape.seen(now)
    return float(ticks.spot[seen - 1])


def mark_at(tape: Tape, now: int) -> float:
    """The mark price of a live symbol at a moment, ticks."""
    return index_at(tape, now) * (1 + funding.premium(tape, now))


def kline_span(tape: Tape, interval: str, start: int | None, end: int | None, limit: int, now: int) -> tuple[int, int] | None:
    """Open times of the first and the last candle of a reply, None where it is empty.

    With a start the candles from there on, without one the newest up to the end.
    """
    oldest, newest = klines.first_open(tape, interval), klines.last_open(tape, interval, now)
    last = newest if end is None else min(newest, open_time(interval, end))
    if start is None:
        first = max(oldest, next_open(interval, last, 1 - limit))
    else:
        begins = open_time(interval, start)
        first = max(oldest, begins if begins == start else next_open(interval, begins))
        last = min(last, next_open(interval, first, limit - 1))
    return (first, last) if first <= last else None


def book_sides(words: Wording, book: Book) -> tuple[list[list[str]], list[list[str]]]:
    """Bids and asks as pairs of strings."""
    bids, asks = (
        [[words.price(price), words.quantity(size)] for price, size in zip(*side.tolist(), strict=True)]
        for side in (book.bids, book.asks)
    )
    return bids, asks


def aggregate(words: Wording, number: int, price: int, quantity: int, time_ms: int, buyer: bool) -> dict[str, Any]:
    """One aggregate trade: each trade is one of its own."""
    size = words.quantity(quantity)
    return {"a": number, "p": words.price(price), "q": size, "nq": size, "f": number, "l": number, "T": time_ms, "m": not buyer}


def trade_rows(tape: Tape, first: int, last: int, limit: int, *, newest: bool) -> list[TradeRow]:
    """Trades with ids in [first, last]: id, price, quantity, time, whether the taker bought.

    Args:
        tape: The symbol's.
        first: An id.
        last: An id.
        limit: At most so many.
        newest: Keep the newest where there are more, else the oldest.
    """
    out: list[TradeRow] = []
    numbers = range(max(first // TICKS, tape.first), last // TICKS + 1)
    for number in reversed(numbers) if newest else numbers:
        rows = _rows_inside(tape, number, first, last)
        out = rows + out if newest else out + rows
        if len(out) >= limit:
            break
    return out[-limit:] if newest else out[:limit]


def _rows_inside(tape: Tape, number: int, first: int, last: int) -> list[TradeRow]:
    ticks = tape.ticks(number)
    ids = np.arange(TICKS, dtype=np.int64) + trade_id(number, 0)
    kept = (ids >= first) & (ids <= last) & (ticks.quantity > 0)
    columns = (ids, ticks.price, ticks.quantity, ticks.times, ticks.buyer)
    return list(zip(*(column[kept].tolist() for column in columns), strict=True))


def _id_at(tape: Tape, time_ms: int) -> int:
    """The first id at or after a time."""
    number = max(tape.first, time_ms // QUARTER_MS)
    if tape.end is not None and number >= tape.end:
        return trade_id(tape.end, 0)
    return trade_id(number, int(np.searchsorted(tape.ticks(number).times, time_ms)))


def _last_id(tape: Tape, now: int) -> int:
    ticks, seen = tape.seen(now)
    return trade_id(ticks.number, seen - 1)
