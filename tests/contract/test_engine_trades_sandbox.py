"""Large trades against the sandbox's own rules for routed paths and live subscriptions, into the window that the detector reads."""

import asyncio
from contextlib import suppress

from deploy.sandbox.app import running_exchange
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from engine.candles import BinanceData, Door, WeightBudget, open_session
from engine.clock import market_clock
from engine.core.large_trades import LargeTrades
from engine.core.market import Trade
from engine.streams import listen_trades
from tests.unit.engine.test_streams_trades import Heard, becomes


async def test_the_sandbox_sends_trades_of_who_is_wanted_and_of_who_is_wanted_later() -> None:
    class Window(Heard):
        def __init__(self) -> None:
            super().__init__("BTCUSDT")
            self.large = LargeTrades()
            self.large.follow(["BTCUSDT", "ETHUSDT"], 0)

        def take_trade(self, symbol: str, trade: Trade) -> None:
            super().take_trade(symbol, trade)
            self.large.take(symbol, trade)

    heard = Window()
    async with running_exchange(Exchange(SandboxOptions(port=0, speed=60))) as base:
        url = base.replace("http", "ws")
        task = asyncio.create_task(listen_trades(url, heard, review_seconds=0.05))
        try:
            await becomes(lambda: len(heard.trades) >= 5, "trades")
            assert {symbol for symbol, _ in heard.trades} == {"BTCUSDT"}
            heard.symbols = ["ETHUSDT"]
            await becomes(lambda: "ETHUSDT" in {symbol for symbol, _ in heard.trades[-3:]}, "another symbol")
            told = len(heard.trades)
            await becomes(lambda: len(heard.trades) >= told + 5, "more trades")
            assert {symbol for symbol, _ in heard.trades[-3:]} == {"ETHUSDT"}
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    newest = max(trade.at_ms for _, trade in heard.trades)
    flows = {flow.symbol: flow for flow in heard.large.told(newest)}
    assert flows["BTCUSDT"].trades > 0
    assert heard.ups == [True]


async def test_the_sandbox_publishes_what_positioning_asks_for() -> None:
    async with running_exchange(Exchange(SandboxOptions(port=0, speed=60))) as base, open_session() as session:
        clock = await market_clock(base)
        data = BinanceData(Door(session, base, WeightBudget(2_400, clock.now_ms)), clock)
        found = await data.positioning("ETHUSDT")
    assert None not in (found.funding_ratio, found.long_short_ratio, found.open_interest_change)
    assert abs(found.open_interest_change or 0.0) < 0.5
