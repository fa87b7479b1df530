"""Prices what every watching user holds, once a second, and tells their pages: `prices`, `positions`, `balance`, `status`, `equity`.

What a user holds is read from the database when something changed, and at the latest every RELOAD_SECONDS; between, only marks move.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from orchestrator.errors import StoreUnavailable
from orchestrator.ports import Account, Clock, PositionRow, Reads, RealRow, Stats, UserRow
from orchestrator.web.market import Market
from orchestrator.web.replies import real_balance_status
from orchestrator.web.stream import Stream, frame
from orchestrator.web.ticks import Payload, balance_payload, equity_payload, positions_payload, prices_payload
from orchestrator.web.valuation import LIVE, Gain, books_known, day_start, gain, in_wallet, loss_left, value_all, wealth
from shared.enums import Mode

BALANCE_SECONDS = 5.0
STATUS_SECONDS = 15.0
EQUITY_SECONDS = 60.0
"""A new end of the curve. Source: dashboard design, section 3."""

RELOAD_SECONDS = 15.0
"""A view is read again at the latest after this, should a message have been lost."""

_LONG_AGO = float("-inf")


class Holding:
    """What a user holds, as last read, and what their pages were told of it."""

    def __init__(self) -> None:
        self.rows: list[PositionRow] = []
        self.account: Account | None = None
        self.stats: Stats | None = None
        self.user: UserRow | None = None
        self.real: RealRow | None = None
        self.mode = "PAPER"
        self.read_at = _LONG_AGO
        self.told_balance: tuple[float, str] = (_LONG_AGO, "")
        self.told_status = time.monotonic()
        self.told_equity = time.monotonic()

    def due(self) -> bool:
        """Whether it should be read again."""
        return self.account is None or time.monotonic() - self.read_at >= RELOAD_SECONDS

    def changed(self) -> None:
        """Read again at the next tick, and tell a balance that differs at once."""
        self.read_at = _LONG_AGO
        self.told_balance = (_LONG_AGO, self.told_balance[1])


class Ticker:
    """What every user with an open page holds."""

    def __init__(self, reads: Reads, market: Market, clock: Clock, syncing: Callable[[UUID], bool]) -> None:
        self._reads = reads
        self._syncing = syncing
        self._market = market
        self._clock = clock
        self._holdings: dict[UUID, Holding] = {}

    @property
    def idle(self) -> bool:
        """Whether nobody watches."""
        return not self._holdings

    def watch(self, user_id: UUID, mode: str) -> None:
        """A page of this user opened: it wants to be told everything at the next tick."""
        holding = self._holdings.setdefault(user_id, Holding())
        holding.mode = mode
        holding.told_balance = (_LONG_AGO, "")

    def forget(self, user_id: UUID) -> None:
        """The last page of this user closed."""
        self._holdings.pop(user_id, None)

    def changed(self, user_id: UUID | None) -> bool:
        """Something changed for a user, or for everyone; whether any page watches."""
        touched = list(self._holdings.values()) if user_id is None else [self._holdings.get(user_id)]
        for holding in touched:
            if holding is not None:
                holding.changed()
        return any(holding is not None for holding in touched)

    def _balance_status(self, user: UserRow | None, wall: datetime) -> str:
        return "none" if user is None else real_balance_status(user, wall, syncing=self._syncing(user.id))

    async def tick(self, streams: Mapping[UUID, Sequence[Stream]]) -> None:
        """One round: read what changed, price it, tell every page."""
        for user_id, holding in list(self._holdings.items()):
            if holding.due():
                await self._read_or_retry(user_id, holding)
        symbols = {row.symbol for holding in self._holdings.values() for row in holding.rows}
        symbols |= {symbol for opened in streams.values() for stream in opened for symbol in stream.watch}
        if symbols:
            await self._market.marks(symbols)
        for user_id, holding in list(self._holdings.items()):
            self._tell(streams.get(user_id, ()), holding)

    def _tell(self, streams: Sequence[Stream], holding: Holding) -> None:
        wall = self._clock.wall()
        if not streams or holding.account is None:
            return
        held = {row.symbol for row in holding.rows}
        valued = value_all(holding.rows, self._market.known(held))
        own = [each for each in valued if in_wallet(each.row, holding.mode)]
        worth = wealth(holding.account, own, known=books_known(holding.mode, holding.real))
        gained = None if holding.stats is None else gain(worth, holding.stats, own)
        positions = frame("positions", positions_payload(valued, holding.mode, worth, wall, gained, _left(gained, holding)))
        prices = {
            watch: frame("prices", prices_payload(self._market.known(held | watch), holding.rows, wall))
            for watch in {stream.watch for stream in streams}
        }
        for stream in streams:
            stream.tick("prices", prices[stream.watch])
            stream.tick("positions", positions)
        self._tell_slowly(streams, holding, balance_payload(holding.mode, worth, wall, self._balance_status(holding.user, wall)))
        if worth.equity is not None and time.monotonic() - holding.told_equity >= EQUITY_SECONDS:
            holding.told_equity = time.monotonic()
            for stream in streams:
                stream.tick("equity", frame("equity", equity_payload(worth.equity, self._clock.now())))

    def _tell_slowly(self, streams: Sequence[Stream], holding: Holding, balance: Payload) -> None:
        now = time.monotonic()
        said_at, said = holding.told_balance
        figures = msgspec.json.encode({name: part for name, part in balance.items() if name != "as_of"}).decode()
        if figures != said and now - said_at >= BALANCE_SECONDS:
            holding.told_balance = (now, figures)
            sent = frame("balance", balance)
            for stream in streams:
                stream.tick("balance", sent)
        if now - holding.told_status >= STATUS_SECONDS:
            holding.told_status = now
            for stream in streams:
                stream.tick("status", frame("status", {"mode": holding.mode}))

    async def _read_or_retry(self, user_id: UUID, holding: Holding) -> None:
        try:
            await self._read(user_id, holding)
        except StoreUnavailable:
            holding.read_at = _LONG_AGO
            raise

    async def _read(self, user_id: UUID, holding: Holding) -> None:
        holding.read_at = time.monotonic()
        user = await self._reads.user(user_id)
        if user is not None:
            holding.user, holding.mode = user, user.mode
            holding.real = await self._reads.real(user_id) if user.mode == Mode.REAL else None
        holding.rows = await self._reads.positions(user_id, statuses=LIVE)
        holding.stats = await self._reads.stats(user_id, holding.mode, day_start(self._clock.now()))
        holding.account = await self._reads.account(user_id, holding.mode)


def _left(gained: Gain | None, holding: Holding) -> Decimal | None:
    return None if holding.user is None else loss_left(gained, holding.user.max_daily_loss)
