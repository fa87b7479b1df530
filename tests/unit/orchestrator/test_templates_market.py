"""What this process remembers of forced orders that the feed has forgotten."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from orchestrator.web import market as subject
from orchestrator.web.market import LIQUIDATIONS_KEPT, Market
from shared.analysis import Liquidation, MarksReply, WhalesReply
from shared.enums import Side
from tests.browser.fakes import FakeClock

NOW = datetime(2025, 9, 22, 14, tzinfo=UTC)


class Feed:
    """Shows a window of its own."""

    def __init__(self) -> None:
        self.window: list[Liquidation] = []

    async def whales(self) -> WhalesReply:
        return WhalesReply(as_of=NOW, feed_age_ms=5, views=[], recent=self.window)

    async def marks(self, since: Mapping[str, datetime]) -> MarksReply:
        raise NotImplementedError


def _order(minute: int) -> Liquidation:
    at = NOW + timedelta(minutes=minute)
    return Liquidation(symbol="SOLUSDT", side=Side.LONG, price=Decimal(142), quantity=Decimal(1), usd=142.0, at=at)


async def test_forced_orders_are_kept_newest_first_once_each_and_not_for_ever() -> None:
    feed = Feed()
    seen = Market(feed, FakeClock())
    for minute in range(LIQUIDATIONS_KEPT + 5):
        feed.window = [_order(minute), _order(minute + 1)]
        seen._whales_asked = -subject.WHALES_SECONDS
        await seen.whales()
    minutes = [(order.at - NOW).total_seconds() / 60 for order in seen.liquidations()]
    assert minutes == list(range(LIQUIDATIONS_KEPT + 5, 5, -1))


async def test_whoever_looks_after_a_forced_order_was_told_is_shown_it() -> None:
    feed = Feed()
    seen = Market(feed, FakeClock())
    await seen.whales()
    feed.window = [_order(1)]
    await seen.whales()
    assert seen.liquidations() == []
    seen.whales_moved()
    await seen.whales()
    assert seen.liquidations() == feed.window
