"""What every execution use case is handed: market, clock, reports, venues; and the questions that they share."""

import asyncio

import msgspec

from engine.core.order import OrderRefusal, Quote, fresh, no
from engine.errors import ExchangeError, UnknownSymbol
from engine.execution.asking import Patience
from engine.execution.lasting_once import LastingOnce
from engine.execution.once import Once
from engine.execution.turns import Turns
from engine.execution.venues import Venues
from engine.log import logger
from engine.ports import Clock, MarketData, Terms, Venue
from shared.brackets import brackets_of
from shared.execution import ExecutionReport
from shared.problem import Problem
from shared.wire import plain


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """One per process; it keeps nothing between two requests."""

    market: MarketData
    clock: Clock
    once: Once
    lasting: LastingOnce
    venues: Venues
    turns: Turns
    patience: Patience = Patience()

    def keeper(self, venue: Venue) -> Once | LastingOnce:
        """What lets a venue's orders happen once."""
        return self.lasting if venue.lasting else self.once


async def quote(desk: Desk, symbol: str, terms: Terms) -> Quote | Problem:
    """Rules, book and mark of a symbol, asked at once, on its terms; a Problem where the exchange did not say."""
    try:
        rules = await desk.market.instrument(symbol)
        book, mark = await asyncio.gather(desk.market.book(symbol), desk.market.mark(symbol))
    except UnknownSymbol:
        return no(OrderRefusal.UNKNOWN_SYMBOL, f"the exchange lists no {symbol}")
    except ExchangeError as error:
        return no(OrderRefusal.MARKET_DATA_UNAVAILABLE, f"the exchange did not answer for {symbol}: {error}")
    return Quote(
        rules=rules, brackets=terms.brackets, brackets_source=terms.source, book=book, mark=mark, wall_ms=desk.clock.wall_ms()
    )


async def fresh_quote(desk: Desk, symbol: str) -> Quote | Problem:
    """As `quote`, refused where it is too old to decide on."""
    brackets, source = brackets_of(symbol)
    found = await quote(desk, symbol, Terms(brackets=brackets, source=source))
    return found if isinstance(found, Problem) else (fresh(found) or found)


def tell(venue: Venue, report: ExecutionReport) -> ExecutionReport:
    """Logs what became of an order, by its executor's name, and hands the report on."""
    logger().info(
        f"{venue.executor} {'CLOSE' if report.reduce_only else 'ENTRY'} {report.status}",
        venue=report.venue,
        dry_run=report.dry_run,
        symbol=report.symbol,
        side=str(report.side),
        client_order_id=report.client_order_id,
        quantity=str(report.filled_quantity),
        price="" if report.average_price is None else plain(report.average_price.normalize()),
        reason=report.refusal.code if report.refusal else "",
    )
    return report
