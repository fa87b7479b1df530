"""A price shock bends the tape from the next candle on; what was shown stays, and everything still agrees."""

import aiohttp

from deploy.sandbox.app import running_exchange
from deploy.sandbox.core.clock import MarketClock
from deploy.sandbox.core.intervals import QUARTER_MS
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.synthetic import DEFAULT_START_MS, SyntheticMarket
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.options import SandboxOptions
from tests.unit.sandbox.reader import disagreements, path_of, read

NOW = DEFAULT_START_MS + 400_000
NEXT = DEFAULT_START_MS + QUARTER_MS


async def test_a_shock_moves_the_price_within_the_next_candle_and_every_reading_agrees() -> None:
    exchange = Exchange(SandboxOptions(port=0, speed=0, start_ms=NOW, weight_limit=100_000))
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        before = await read(session, base, "SOLUSDT")
        last = float(before.rest["ticker/price"]["price"])
        async with session.post(f"{base}/sandbox/shocks", json={"symbol": "SOLUSDT", "percent": -20}) as response:
            assert (response.status, (await response.json())["from_ms"]) == (201, NEXT)
        assert (await read(session, base, "SOLUSDT")).rest == before.rest
        exchange.clock = MarketClock(base_market_ms=NEXT + QUARTER_MS + 5_000, base_wall_ms=0, speed=0)
        after = await read(session, base, "SOLUSDT")
        assert disagreements(after, path_of(exchange.market, "SOLUSDT", after.now)) == []
        assert 0.75 < float(after.rest["ticker/price"]["price"]) / last < 0.85


def test_a_shock_forces_orders_and_spares_other_symbols() -> None:
    bent, straight = (Market(SyntheticMarket(7), 7, DEFAULT_START_MS) for _ in range(2))
    bent.shock("SOLUSDT", 0.8, NOW)
    number = NEXT // QUARTER_MS
    forced = [item for item in bent.liquidations(NEXT, NEXT + QUARTER_MS) if item.symbol == "SOLUSDT"]
    assert forced
    assert {item.order["S"] for item in forced} == {"SELL"}
    for symbol in ("BTCUSDT", "ETHUSDT"):
        ours, theirs = (m.tapes[symbol].candles(number - 5, number + 5) for m in (bent, straight))
        assert (ours == theirs).all()


def test_the_future_follows_its_perpetual_through_a_shock() -> None:
    market = Market(SyntheticMarket(7), 7, DEFAULT_START_MS)
    market.shock(None, 1.1, NOW)
    number = NEXT // QUARTER_MS
    perpetual, future = (market.tapes[symbol].candles(number, number + 3) for symbol in ("BTCUSDT", "BTCUSDT_261225"))
    assert abs(future[3, -1] / perpetual[3, -1] - 1.0063) < 1e-4
    assert perpetual[3, 0] / perpetual[0, 0] > 1.05


async def test_a_senseless_shock_is_refused() -> None:
    exchange = Exchange(SandboxOptions(port=0, speed=0))
    async with running_exchange(exchange) as base, aiohttp.ClientSession() as session:
        for body in ({"percent": -95}, {"symbol": "NOPE", "percent": 1}, {"percent": "x"}, {}):
            async with session.post(f"{base}/sandbox/shocks", json=body) as response:
                assert response.status == 400
