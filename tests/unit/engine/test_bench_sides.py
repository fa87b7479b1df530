"""The sides that the benchmarks compare find the same candidates, so that a ratio compares the same work."""

import numpy as np

from engine.core.features_batch import features_from
from engine.core.screen_fast import rank
from tests.bench.market import Market, require_agreement
from tests.bench.peers.ranking import ranked
from tests.bench.talib_peers import CoinByCoin, Streaming


def test_the_peers_ranking_is_the_screeners() -> None:
    market = Market(60, 0)
    found = features_from(market.quarter, market.four_hour)
    ranking = rank(found)
    ours = [(found.symbols[row], float(ranking.score[row])) for row in ranking.best]
    require_agreement(ours, ranked(market.symbols, found.close, found.volume_ratio, found.rsi, found.ema_200_4h))


def test_talib_finds_the_same_whether_it_carries_on_or_computes_anew() -> None:
    market = Market(60, 3)
    carried, anew = Streaming(market), CoinByCoin(market)
    for place in range(3):
        require_agreement(carried.close(market.close(place)), anew.close(place))


def test_both_histories_of_the_benchmarks_market_end_at_one_moment() -> None:
    market = Market(2, 0)
    apart = market.quarter[0].closed_ms - market.four_hour[0].closed_ms
    assert 0 <= apart < 4 * 3_600_000
    assert np.all(np.diff(market.quarter[0].open_ms) == 900_000)
