"""The book around the last price, and diffs that keep a copy of it true."""

import pytest

from deploy.sandbox.core.book import Book, book_at
from deploy.sandbox.core.events import Events
from deploy.sandbox.core.market import Market
from deploy.sandbox.core.replies import Prices, book_sides
from deploy.sandbox.core.stream_names import parsed
from deploy.sandbox.core.synthetic import DEFAULT_START_MS, SyntheticMarket

NOW = DEFAULT_START_MS + 1_234_567


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(SyntheticMarket(7), 7, DEFAULT_START_MS)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "1000SATSUSDT", "币安人生USDT", "LTCUSDT"])
@pytest.mark.parametrize("levels", [1, 20, 1_000])
def test_a_book_is_sorted_whole_and_touches_the_last_trade(market: Market, symbol: str, levels: int) -> None:
    tape = market.tapes[symbol]
    for now in range(NOW, NOW + 600_000, 37_000):
        book = book_at(tape, now, levels)
        bids, asks = book.bids[0].tolist(), book.asks[0].tolist()
        assert bids == sorted(set(bids), reverse=True)
        assert asks == sorted(set(asks))
        assert len(asks) == levels
        ticks, seen = tape.seen(now)
        assert bids[0] < asks[0]
        assert ticks.price[seen - 1] in (bids[0], asks[0])
        assert (book.bids[1] > 0).all()
        assert (book.asks[1] > 0).all()


def test_liquid_symbols_have_deep_books(market: Market) -> None:
    def depth(symbol: str) -> float:
        tape = market.tapes[symbol]
        bids = book_at(tape, NOW, 20).bids
        return float((bids[0] * bids[1]).sum()) * tape.unit

    assert depth("BTCUSDT") > 5 * depth("1000SATSUSDT") > 5 * 2_000


def test_most_levels_rest_while_the_price_moves(market: Market) -> None:
    tape = market.tapes["BTCUSDT"]
    one, two = (set(zip(*book_at(tape, now, 500).bids.tolist(), strict=True)) for now in (NOW, NOW + 5_000))
    assert len(one & two) > 300


@pytest.mark.parametrize("span", [4_000, 37_000, 112_500])
def test_a_snapshot_kept_by_diffs_is_the_book(market: Market, span: int) -> None:
    tape, prices = market.tapes["SOLUSDT"], Prices(market)
    stream = parsed("solusdt@depth")
    assert stream is not None
    emit = Events(prices).emitter(stream)
    assert emit is not None
    # The snapshot is taken in the middle of a span, as a client's would be.
    first = book_at(tape, NOW + span // 2, 1_000)
    kept = [dict(side) for side in book_sides(prices.words(tape), first)]
    known = first.update_id
    for step in range(12):
        since, now = NOW + step * span, NOW + (step + 1) * span
        for event in emit(since, now):
            assert isinstance(event, dict)
            if event["u"] < known:
                continue
            assert event["pu"] <= known
            known = event["u"]
            for side, rows in zip(kept, (event["b"], event["a"]), strict=True):
                apply(side, rows)
    final: Book = book_at(tape, NOW + 12 * span, 1_000)
    assert kept == [dict(side) for side in book_sides(prices.words(tape), final)]


def apply(side: dict[str, str], rows: list[list[str]]) -> None:
    for price, size in rows:
        if float(size):
            side[price] = size
        else:
            side.pop(price, None)
