"""What the exchange's clock is measured by: a question that is answered at once."""

from typing import Any, cast

import msgspec
import pytest

from engine.candles import Door
from engine.candles.history import MOST_ROUND_MS, CandleHistory
from engine.errors import ExchangeUnreachable
from engine.ports import Clock

AHEAD_MS = 300


class Wall:
    def __init__(self) -> None:
        self.ms = 1_767_744_000_000

    def wall_ms(self) -> int:
        return self.ms


class SlowDoor:
    """Answers with the exchange's time after a wait for weight, and half a way there and back."""

    def __init__(self, wall: Wall, waits_ms: int, round_ms: int) -> None:
        self._wall, self._waits_ms, self._half_ms = wall, waits_ms, round_ms // 2

    async def get(self, _path: str, kind: Any, _params: object, _cost: int) -> Any:
        self._wall.ms += self._waits_ms + self._half_ms
        told = msgspec.convert({"serverTime": self._wall.ms + AHEAD_MS}, kind)
        self._wall.ms += self._half_ms
        return told


def history(waits_ms: int, round_ms: int) -> CandleHistory:
    wall = Wall()
    return CandleHistory(cast(Door, SlowDoor(wall, waits_ms, round_ms)), cast(Clock, wall))


async def test_half_the_way_there_and_back_is_taken_off() -> None:
    assert await history(0, 400).skew_ms() == AHEAD_MS


async def test_a_wait_for_weight_makes_it_wrong_by_half_of_it_and_a_long_one_measures_nothing() -> None:
    assert await history(1_000, 400).skew_ms() == AHEAD_MS + 500
    with pytest.raises(ExchangeUnreachable, match="measure no clock"):
        await history(MOST_ROUND_MS, 400).skew_ms()
