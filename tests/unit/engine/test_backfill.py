"""Reading what closing frames left out: bounded, the most traded first, patient with a spent budget, and loud where nobody foresaw it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from engine.core import features_live
from engine.core.features_live import LiveFeatures
from engine.core.market import Candles, Timeframe
from engine.errors import ExchangeThrottled, ExchangeUnreachable
from engine.feeding.backfill import AT_ONCE, Backfill, Skew, look_at_universe
from engine.feeding.keeper import Keeper
from tests.polling import eventually
from tests.unit.engine.market_world import World, rules_of
from tests.unit.engine.test_keeper import SteppedClock, fresh, history


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    features_live.warm_up()


class Exchange:
    """Answers, or fails as the test says; knows how many asked at once."""

    def __init__(self, clock: SteppedClock) -> None:
        self.clock = clock
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.failure: Callable[[str], Exception | None] = lambda symbol: None
        self.skews: list[int] = []
        self.looks = 0

    async def newest_candles(self, symbol: str, timeframe: Timeframe, count: int) -> Candles:
        self.asked.append(symbol)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        failure = self.failure(symbol)
        if failure is not None:
            raise failure
        return history(symbol, timeframe, self.clock.now_ms(), count)

    async def skew_ms(self) -> int:
        self.looks += 1
        if not self.skews:
            raise ExchangeUnreachable("connection refused")
        return self.skews.pop(0)


@asynccontextmanager
async def reading(symbols: list[str], exchange: Exchange, keeper: Keeper) -> AsyncIterator[asyncio.Task[None]]:
    keeper.follow(symbols)
    task = asyncio.create_task(Backfill(keeper, exchange, lambda symbol: -symbols.index(symbol)).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def whole(keeper: Keeper) -> None:
    async def so() -> bool:
        return fresh(keeper) == sorted(keeper.symbols)

    await eventually(so, seconds=5, what="fresh figures of every symbol")


async def test_everybody_is_read_some_at_a_time_in_the_order_of_turnover() -> None:
    clock = SteppedClock()
    keeper, exchange = Keeper(LiveFeatures.of(()), clock), Exchange(clock)
    symbols = [f"S{n:02d}USDT" for n in range(12, 0, -1)]
    async with reading(symbols, exchange, keeper):
        await whole(keeper)
    assert exchange.most_at_once == AT_ONCE
    assert list(dict.fromkeys(exchange.asked)) == symbols
    assert len(exchange.asked) == 2 * len(symbols)


async def test_a_spent_budget_stops_all_reading_and_one_symbol_that_fails_stops_nobody_else() -> None:
    clock = SteppedClock()
    keeper, exchange = Keeper(LiveFeatures.of(()), clock), Exchange(clock)
    exchange.failure = lambda symbol: ExchangeUnreachable("away") if symbol == "BADUSDT" else None
    async with reading(["BADUSDT", "GOODUSDT"], exchange, keeper):

        async def good() -> bool:
            return fresh(keeper) == ["GOODUSDT"]

        await eventually(good, seconds=5, what="the good symbol")
        exchange.failure = lambda symbol: ExchangeThrottled("spent", 60.0)
        clock.walled += 5_000

        async def refused() -> bool:
            return exchange.asked.count("BADUSDT") == 4

        await eventually(refused, seconds=5, what="a refusal for each timeframe")
        exchange.failure = lambda symbol: None
        clock.walled += 5_000

        async def asked_again() -> bool:
            return exchange.asked.count("BADUSDT") > 4

        with pytest.raises(AssertionError):
            await eventually(asked_again, seconds=0.25, what="nobody, for a minute")


async def test_an_error_that_nobody_foresaw_ends_the_feed_with_its_reason() -> None:
    clock = SteppedClock()
    keeper, exchange = Keeper(LiveFeatures.of(()), clock), Exchange(clock)
    exchange.failure = lambda symbol: ZeroDivisionError("odd")
    async with reading(["AUSDT"], exchange, keeper) as task:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(task, 5)


async def test_the_universe_is_what_trades_and_an_exchange_that_does_not_answer_changes_nothing() -> None:
    world, keeper = World(), Keeper(LiveFeatures.of(()), SteppedClock())
    world.rules = {symbol: rules_of(symbol) for symbol in ("BUSDT", "AUSDT")} | {
        "OLDUSDT": rules_of("OLDUSDT", status="SETTLING")
    }
    await look_at_universe(keeper, world)
    assert keeper.symbols == ("AUSDT", "BUSDT")
    world.down = True
    await look_at_universe(keeper, world)
    assert keeper.symbols == ("AUSDT", "BUSDT")


async def test_a_skew_that_was_measured_outlives_a_refusal_but_not_for_long() -> None:
    for kept_seconds, told in ((60.0, -7), (0.0, None)):
        exchange = Exchange(SteppedClock())
        exchange.skews = [4, -7]
        skew = Skew(exchange, kept_seconds)
        assert skew.ms is None
        measuring = asyncio.create_task(skew.run(seconds=0.001))
        await eventually(partial(looked, exchange, 4), seconds=5, what="two measurements and two refusals")
        assert skew.ms == told
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)


async def test_a_clock_that_is_set_after_it_was_measured_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange, real = Exchange(SteppedClock()), time.time
    exchange.skews = [4]
    skew = Skew(exchange)
    measuring = asyncio.create_task(skew.run())
    await eventually(partial(looked, exchange, 1), seconds=5, what="a measurement")
    await eventually(partial(measured, skew), seconds=5, what="its answer")
    assert skew.ms == 4
    monkeypatch.setattr(time, "time", lambda: real() - 1_200)
    assert skew.ms is not None
    assert abs(skew.ms - 1_200_004) < 1_000
    measuring.cancel()
    await asyncio.gather(measuring, return_exceptions=True)


async def measured(skew: Skew) -> bool:
    return skew.ms is not None


async def looked(exchange: Exchange, times: int) -> bool:
    return exchange.looks >= times
