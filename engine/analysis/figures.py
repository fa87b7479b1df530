"""What is known of each chosen symbol: the feed's figures where they hold the newest closed candle, else its candles by request.

Stands between the choice of symbols and the screen. Both ways say the same of the same candles; which way a symbol came decides nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec
import numpy as np

from engine.analysis.sources import CANDLE_SETTLES_MS, FRESH_MS, Sources
from engine.core.features import Features, panel_of
from engine.core.features_batch import features_from
from engine.core.features_live import Told
from engine.core.market import Candles, Timeframe, at
from engine.core.screen import Screened, screen
from engine.core.screen_fast import screen_fast
from engine.core.screen_rules import V3_1, RuleSet
from engine.core.structure import Structure, structure_of
from engine.errors import ExchangeError, ExchangeThrottled, SnapshotsUnavailable
from engine.ports import Clock
from shared.analysis import Rejection, RejectionReason

CLOSE_SECONDS: Final = 1.5
"""Wall time after a close for which its closing frames are on their way, and for which a scan waits for them at most."""

CLOSE_POLL_SECONDS: Final = 0.05

WHOLE: Final = 0.98
"""The share of symbols with which the figures count as whole: whoever is listed or delisted now need not be waited for."""


WEIGHT_SECONDS: Final = 2.0
"""Wall time for which a scan waits for more request weight before it leaves symbols unread: a price of the shortlist must not grow old."""

WEIGHT_POLL_SECONDS: Final = 0.1

NO_WEIGHT: Final = "not read: the request weight of this minute is spent"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The feed's figures, and the row of each symbol of which they hold the newest closed candles."""

    told: Told | None = None
    rows: Mapping[str, int] = {}


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """What candles say of the same symbols; `structure` only where the rule set asks for it."""

    features: Features
    structure: Structure | None


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """What the chosen symbols are screened by.

    `closed_ms` is where each symbol's newest closed 15m candle ended, `candles` are the 15m candles that were read.
    """

    read: Read | None
    closed_ms: Mapping[str, int]
    candles: Mapping[str, Candles]


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """15m and 4h candles of the same symbols in the same order, and why other symbols have none."""

    quarter: Sequence[Candles] = ()
    four_hour: Sequence[Candles] = ()
    rejections: Sequence[Rejection] = ()


async def known_figures(sources: Sources, rule_set: RuleSet) -> Known:
    """The feed's figures; right after a close they are waited for a moment.

    Args:
        sources: Feed and clock.
        rule_set: One that asks for structure reads candles: nobody carries it on.
    """
    if rule_set.structure:
        return Known()
    try:
        told = await sources.snapshots.figures()
        if (
            told is not None
            and _just_closed(sources.clock)
            and _on_their_way(told, sources.clock.now_ms())
            and await _feed_lives(sources)
        ):
            told = await _after_the_close(told, sources)
    except SnapshotsUnavailable:
        return Known()
    if told is None:
        return Known()
    await _until_closed(told, sources.clock)
    fresh: Any = told.fresh(sources.clock.now_ms()).tolist()
    return Known(told=told, rows={symbol: row for row, symbol in enumerate(told.symbols) if fresh[row]})


async def _until_closed(told: Told, clock: Clock) -> None:
    """Where the feed's clock is a little ahead of ours, what it heard closes in a moment here too."""
    now_ms = clock.now_ms()
    next_ms = now_ms - now_ms % Timeframe.M15.ms + Timeframe.M15.ms
    heard = told.quarter.newest_ms == next_ms - Timeframe.M15.ms
    if len(heard) and heard.mean() >= WHOLE:
        await _until(next_ms, clock)


async def candles_settled(sources: Sources, ahead_ms: int) -> None:
    """Waits until the exchange has written what closed last, so that it may be read.

    Args:
        sources: The clock, and how long a candle is written after its close.
        ahead_ms: By how much our clock is ahead of the exchange's, where a candle closes as much later than here.
    """
    now_ms = sources.clock.now_ms()
    moment_ms = now_ms - now_ms % Timeframe.M15.ms + sources.settles_ms + ahead_ms
    await _until(moment_ms, sources.clock, CANDLE_SETTLES_MS + ahead_ms)


async def _until(moment_ms: int, clock: Clock, most_ms: int = CANDLE_SETTLES_MS) -> None:
    """Waits for a moment that is near; one that is far, or never comes, is not waited for."""
    now_ms = clock.now_ms()
    if 0 < moment_ms - now_ms <= most_ms:
        await asyncio.sleep(clock.wall_seconds(at(now_ms), at(moment_ms)) or 0.0)


def _just_closed(clock: Clock) -> bool:
    """Whether the last close is so near that its frames may still come; where market time runs fast it always is."""
    now_ms = clock.now_ms()
    since = clock.wall_seconds(at(now_ms - now_ms % Timeframe.M15.ms), at(now_ms))
    return since is None or since <= CLOSE_SECONDS


def _on_their_way(told: Told, now_ms: int) -> bool:
    """Whether many symbols lack just the candle that closed last; that they had the one before shows that the feed follows."""
    fresh = told.fresh(now_ms)
    if not len(fresh) or fresh.mean() >= WHOLE:
        return False
    followed = np.ones(len(fresh), np.bool_)
    for figures in (told.quarter, told.four_hour):
        followed &= figures.fresh(now_ms) | figures.fresh(now_ms - figures.timeframe.ms)
    return bool(followed.mean() >= WHOLE)


async def _feed_lives(sources: Sources) -> bool:
    state = await sources.snapshots.state()
    return state is not None and state.connected and sources.clock.wall_ms() - state.beat_ms <= FRESH_MS


async def _after_the_close(told: Told, sources: Sources) -> Told:
    ends = asyncio.get_running_loop().time() + CLOSE_SECONDS
    while _on_their_way(told, sources.clock.now_ms()) and asyncio.get_running_loop().time() < ends:
        await asyncio.sleep(CLOSE_POLL_SECONDS)
        told = await sources.snapshots.figures() or told
    return told


async def read_pairs(symbols: Sequence[str], keep: int, sources: Sources) -> Pairs:
    """The candles of these symbols by request; one whose candles do not come, or are old, never affects another.

    Where the request weight does not suffice for all, as many as it allows are read, the first ones first.

    Args:
        symbols: In the order in which they matter.
        keep: Request weight that the scan needs afterwards; half of what is left at most.
        sources: The exchange, and who governs what may be asked of it.
    """
    keep = await _kept(keep, sources)
    readable = await _readable(symbols, keep, sources)
    ends = asyncio.get_running_loop().time() + WEIGHT_SECONDS
    found = [await _pairs(symbols[:readable], sources)]
    while readable < len(symbols) and asyncio.get_running_loop().time() < ends:
        await asyncio.sleep(WEIGHT_POLL_SECONDS)  # where market time runs fast, the next minute's weight is there soon
        more = await _readable(symbols[readable:], keep, sources)
        found.append(await _pairs(symbols[readable : readable + more], sources))
        readable += more
    left_out = [
        Rejection(symbol=symbol, reason=RejectionReason.REQUEST_WEIGHT_SPENT, detail=NO_WEIGHT) for symbol in symbols[readable:]
    ]
    return Pairs(
        quarter=[candles for pairs in found for candles in pairs.quarter],
        four_hour=[candles for pairs in found for candles in pairs.four_hour],
        rejections=[*(rejection for pairs in found for rejection in pairs.rejections), *left_out],
    )


async def _kept(keep: int, sources: Sources) -> int:
    return 0 if sources.governor is None else min(keep, await sources.governor.left() // 2)


async def _readable(symbols: Sequence[str], keep: int, sources: Sources) -> int:
    """How many of the first may be read now; what is cached costs nothing."""
    if sources.governor is None or not symbols:
        return len(symbols)
    costs = [sources.governor.cost(symbol) for symbol in symbols]
    room = await sources.governor.left() - keep if any(costs) else 0
    return next((place for place, total in enumerate(accumulate(costs)) if total > max(0, room)), len(symbols))


async def _pairs(symbols: Sequence[str], sources: Sources) -> Pairs:
    pairs = await asyncio.gather(*(_pair(symbol, sources) for symbol in symbols))
    quarter: list[Candles] = []
    four_hour: list[Candles] = []
    rejections: list[Rejection] = []
    now_ms = sources.clock.now_ms()
    for symbol, pair in zip(symbols, pairs, strict=True):
        if isinstance(pair, ExchangeError):
            throttled = isinstance(pair, ExchangeThrottled)
            reason = RejectionReason.REQUEST_WEIGHT_SPENT if throttled else RejectionReason.MARKET_DATA_MISSING
            rejections.append(Rejection(symbol=symbol, reason=reason, detail=str(pair)))
        elif (stale := stale_in(pair, now_ms)) is not None:
            rejections.append(stale)
        else:
            quarter.append(pair[0])
            four_hour.append(pair[1])
    return Pairs(quarter=quarter, four_hour=four_hour, rejections=rejections)


async def _pair(symbol: str, sources: Sources) -> tuple[Candles, Candles] | ExchangeError:
    try:
        return await sources.market.candles(symbol, Timeframe.M15), await sources.market.candles(symbol, Timeframe.H4)
    except ExchangeError as error:
        return error


def read_candles(quarter: Sequence[Candles], four_hour: Sequence[Candles], rule_set: RuleSet) -> Read:
    """What a rule set needs to know of candles, 15m and 4h of the same symbols in the same order."""
    structure = structure_of(panel_of(quarter)) if rule_set.structure else None
    return Read(features=features_from(quarter, four_hour), structure=structure)


def stale_in(pair: tuple[Candles, Candles], now_ms: int) -> Rejection | None:
    """Why a symbol's candles are too old to decide at a moment; None where they are not."""
    stale = next((candles for candles in pair if _is_stale(candles, now_ms)), None)
    if stale is None:
        return None
    detail = f"newest closed {stale.timeframe} candle ended at {at(stale.closed_ms).isoformat()}"
    return Rejection(symbol=stale.symbol, reason=RejectionReason.MARKET_DATA_STALE, detail=detail)


def _is_stale(candles: Candles, now_ms: int) -> bool:
    return len(candles) > 0 and now_ms - candles.closed_ms >= 2 * candles.timeframe.ms


async def material_of(chosen: Sequence[str], known: Known, pairs: Pairs, rule_set: RuleSet) -> Material:
    """Puts what the feed told and what was read together, in the order in which symbols were chosen."""
    rows = sorted(known.rows[symbol] for symbol in chosen if symbol in known.rows)
    parts: list[Features] = []
    closed_ms: dict[str, int] = {candles.symbol: candles.closed_ms for candles in pairs.quarter}
    structure = None
    if known.told is not None and rows:
        parts.append(_told_at(known.told, rows))
        ends = known.told.quarter.newest_ms[rows] + Timeframe.M15.ms
        closed_ms |= zip(parts[0].symbols, ends.tolist(), strict=True)
    if pairs.quarter:
        read = await asyncio.to_thread(read_candles, pairs.quarter, pairs.four_hour, rule_set)
        parts.append(read.features)
        structure = read.structure
    order = [symbol for symbol in chosen if symbol in closed_ms]
    return Material(
        read=Read(features=_joined(parts, order), structure=structure) if parts else None,
        closed_ms=closed_ms,
        candles={candles.symbol: candles for candles in pairs.quarter},
    )


def _told_at(told: Told, rows: Sequence[int]) -> Features:
    asked = np.zeros(len(told.symbols), np.bool_)
    asked[rows] = True
    return told.features(asked)


def _joined(parts: Sequence[Features], order: Sequence[str]) -> Features:
    symbols = [symbol for part in parts for symbol in part.symbols]
    if len(parts) == 1 and symbols == order:
        return parts[0]
    place = {symbol: row for row, symbol in enumerate(symbols)}
    rows = np.array([place[symbol] for symbol in order], np.int64)
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])[rows]
        for name in Features.__struct_fields__
        if name != "symbols"
    }
    return Features(symbols=tuple(order), **columns)


def screened(read: Read, top_n: int, rule_set: RuleSet) -> Screened:
    """What a rule set keeps, and why the others fell: v3.1 over arrays, any other by its tables."""
    if rule_set is V3_1:
        return screen_fast(read.features, top_n)
    return screen(read.features, top_n, rule_set, read.structure)
