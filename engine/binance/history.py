"""What is long: ended orders, trades and income, paged until the exchange has no more.

Pages go by time, because every endpoint has that: a full page is followed by one from its last moment on, and what comes twice is dropped.
Trades go on by their id instead: one order may have more trades in one moment than a page holds.

Source: Binance USDⓈ-M "All Orders", "Account Trade List", "Get Income History" (read 2026-11): 1000 rows a page, windows of 7 days;
`fromId` of trades goes without times.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol

from engine.binance import calls, readings, rows
from engine.binance.calls import Call
from engine.binance.fees import Fees
from engine.errors import VenueAway
from engine.ports import Clock
from shared.enums import OrderState
from shared.execution import Fill, Income, VenueOrder, VenueTrade

PAGE: Final = 1000
WINDOW_MS: Final = 7 * 24 * 3_600_000 - 1
"""The exchange refuses a span of more than 7 days."""

YOUNG_MS: Final = 60_000
"""Reads of orders may be so far behind those of trades."""

AHEAD_MS: Final = 60_000
"""Our clock may be behind the exchange's."""

NO_SUCH_ORDER: Final = -2013

NAMES_KEPT: Final = 5_000
NAMES_ASKED_ONE_BY_ONE: Final = 5
"""Beyond that a list of orders is cheaper than its orders one by one."""


class Read(Protocol):
    """A call that answers, or raises a VenueError."""

    async def __call__[T](self, call: Call, kind: type[T], params: dict[str, Any] | None = None) -> T:
        """Asks once."""
        ...


class History:
    """The past of one account.

    Args:
        read: Asks the exchange.
        fees: Turns fees into USDT.
        clock: Market time, in which the exchange's records are.
        page: Rows asked for at once; a page so full may not be the last.
    """

    def __init__(self, read: Read, fees: Fees, clock: Clock, page: int = PAGE) -> None:
        self._read = read
        self._fees = fees
        self._clock = clock
        self._most = page
        self._names: OrderedDict[int, str] = OrderedDict()

    async def ended(self, symbol: str, since: datetime) -> list[VenueOrder]:
        """Regular and conditional orders of a symbol that ended, created at or after `since`."""
        regular = await self._orders(symbol, since)
        conditional = await self._paged(
            calls.ALL_ALGO_ORDERS, list[rows.AlgoRow], symbol, since, lambda row: (row.create_time, row.algo_id)
        )
        by_number = {str(row.order_id): readings.order_of(row) for row in regular}
        found = list(by_number.values()) + [readings.condition_of(row, by_number.get(row.child)) for row in conditional]
        return [order for order in found if order.state is not OrderState.WORKING]

    async def trades(self, symbol: str, since: datetime) -> list[VenueTrade]:
        """All trades of a symbol, each with its order's client id; a young one whose order is not shown yet is no answer."""
        found = await self._trades(symbol, since)
        await self._learn_names(symbol, since, {row.order_id for row in found})
        young = self._clock.now_ms() - YOUNG_MS
        if any(row.time >= young and row.order_id not in self._names for row in found):
            raise VenueAway(f"a trade in {symbol} is told before its order")
        return [await self._fees.trade_of(row, self._names.get(row.order_id, "")) for row in found]

    async def of_order(self, symbol: str, number: str, created_at: datetime) -> list[Fill]:
        """All trades of one order, oldest first.

        Nobody says which trades of an order a full page holds, nor that one may go on from it: then its symbol's are read by time.
        """
        params = {"symbol": symbol, "orderId": number, "limit": self._most}
        found = await self._read(calls.TRADES, list[rows.TradeRow], params)
        if len(found) >= self._most:
            found = [row for row in await self._trades(symbol, created_at) if str(row.order_id) == number]
        return [await self._fees.fill_of(row) for row in sorted(found, key=lambda row: (row.time, row.id))]

    async def income(self, since: datetime) -> list[Income]:
        """All income, oldest first; one call has every symbol."""
        found = await self._paged(
            calls.INCOME, list[rows.IncomeRow], None, since, lambda row: (row.time, readings.income_of(row).income_id)
        )
        return [readings.income_of(row) for row in found]

    async def _orders(self, symbol: str, since: datetime) -> list[rows.OrderRow]:
        found = await self._paged(calls.ALL_ORDERS, list[rows.OrderRow], symbol, since, lambda row: (row.time, row.order_id))
        self._keep_names({row.order_id: row.client_order_id for row in found})
        return found

    async def _paged[R](
        self, call: Call, kind: type[list[R]], symbol: str | None, since: datetime, key: Callable[[R], tuple[int, Any]]
    ) -> list[R]:
        """Every row from `since` to now, by time; `key` gives its moment and what makes it unique."""
        found: dict[tuple[int, Any], R] = {}
        start, last = readings.milliseconds(since), self._clock.now_ms() + AHEAD_MS
        while start <= last:
            end = min(start + WINDOW_MS, last)
            page = await self._page(call, kind, symbol, start, end)
            found |= {key(row): row for row in page}
            newest = max((key(row)[0] for row in page), default=start)
            if len(page) < self._most:
                start = end + 1
            elif newest > start:
                start = newest
            else:
                raise VenueAway(f"{call.method}: more than {self._most} rows of one moment")
        return [row for at, row in sorted(found.items(), key=lambda item: item[0]) if at[0] >= readings.milliseconds(since)]

    async def _trades(self, symbol: str, since: datetime) -> list[rows.TradeRow]:
        """By time up to the first page that is full, and by id from there."""
        found: dict[int, rows.TradeRow] = {}
        start, last, full = readings.milliseconds(since), self._clock.now_ms() + AHEAD_MS, False
        while start <= last and not full:
            end = min(start + WINDOW_MS, last)
            page = await self._page(calls.TRADES, list[rows.TradeRow], symbol, start, end)
            found |= {row.id: row for row in page}
            start, full = end + 1, len(page) >= self._most
        while full:
            params = {"symbol": symbol, "fromId": max(found) + 1, "limit": self._most}
            page = await self._read(calls.TRADES, list[rows.TradeRow], params)
            found |= {row.id: row for row in page}
            full = len(page) >= self._most
        return sorted(found.values(), key=lambda row: (row.time, row.id))

    async def _page[R](self, call: Call, kind: type[list[R]], symbol: str | None, start: int, end: int) -> list[R]:
        params: dict[str, Any] = {"startTime": start, "endTime": end, "limit": self._most}
        return await self._read(call, kind, params | ({"symbol": symbol} if symbol else {}))

    async def _learn_names(self, symbol: str, since: datetime, numbers: set[int]) -> None:
        """A trade tells its order's number and not its client id."""
        missing = numbers - set(self._names)
        if len(missing) > NAMES_ASKED_ONE_BY_ONE:
            await self._orders(symbol, since)
            missing -= set(self._names)
        await asyncio.gather(*(self._learn_name(symbol, number) for number in missing))

    async def _learn_name(self, symbol: str, number: int) -> None:
        try:
            row = await self._read(calls.ORDER, rows.OrderRow, {"symbol": symbol, "orderId": str(number)})
        except VenueAway as error:
            if error.code != NO_SUCH_ORDER:
                raise
            return
        self._keep_names({row.order_id: row.client_order_id})

    def _keep_names(self, names: dict[int, str]) -> None:
        self._names.update(names)
        while len(self._names) > NAMES_KEPT:
            self._names.popitem(last=False)
