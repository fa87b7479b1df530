"""The control surface for symbols under /sandbox/symbols/: rules that change while one trades, and a symbol that is taken off."""

from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from deploy.sandbox.control_bodies import answered, body_of, unfit
from deploy.sandbox.core.facts import symbol_row
from deploy.sandbox.core.rules import changed_rules
from deploy.sandbox.core.settlement import settle
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.rest import reply


class RuleChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other filters from now on; what is absent stays. Grids may only become coarser: the tape keeps its own.

    Args:
        tick: Power of ten.
        step: Power of ten.
        min_notional: USDT.
        min_quantity: Base asset.
        max_market_quantity: Base asset.
    """

    tick: Decimal | None = None
    step: Decimal | None = None
    min_notional: Decimal | None = None
    min_quantity: Decimal | None = None
    max_market_quantity: Decimal | None = None


class SymbolControl:
    """The control door of symbols.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> list[web.RouteDef]:
        """The control paths."""
        return [
            web.post("/sandbox/symbols/{symbol}/rules", answered(self.change_rules)),
            web.post("/sandbox/symbols/{symbol}/settle", answered(self.settle)),
        ]

    async def change_rules(self, request: web.Request) -> web.Response:
        """Change a symbol's filters; exchangeInfo and the checks follow at once."""
        now = self._exchange.now()
        wanted = await body_of(request, RuleChange)
        tape = self._exchange.market.trading(request.match_info["symbol"], now)
        given = {"symbol": tape.rules.symbol, "filters": msgspec.to_builtins(wanted)}
        self._exchange.advance(now)
        try:
            self.ruled(given, now)
        except ValueError as error:
            raise unfit(error) from error
        self._exchange.record("rule", now, given)
        return reply(symbol_row(tape.rules))

    async def settle(self, request: web.Request) -> web.Response:
        """Take a symbol off now: its orders expire, its positions are settled at the mark price, it trades no more."""
        now, symbol = self._exchange.now(), request.match_info["symbol"]
        self._exchange.market.trading(symbol, now)
        self._exchange.advance(now)
        self._exchange.record("settle", now, {"symbol": symbol})
        settled = self.settled({"symbol": symbol}, now)
        self._exchange.told()
        return reply({"symbol": symbol, "market_ms": now, "positions_settled": settled})

    def ruled(self, given: dict[str, Any], now: int) -> None:  # noqa: ARG002 - a deed's shape
        """Change rules as a deed says.

        Raises:
            ValueError: A filter does not fit the tape.
        """
        wanted = msgspec.structs.asdict(msgspec.convert(given["filters"], RuleChange))
        rules = self._exchange.market.tapes[given["symbol"]].rules
        filters = {name: value for name, value in wanted.items() if value is not None}
        self._exchange.market.rule(given["symbol"], changed_rules(rules, filters))

    def settled(self, given: dict[str, Any], now: int) -> int:
        """Take a symbol off as a deed says; returns how many positions were settled."""
        count = settle(self._exchange.trading, self._exchange.conditional, given["symbol"], now)
        self._exchange.market.close(given["symbol"], now)
        return count
