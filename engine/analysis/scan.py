"""The scan behind POST /analyze; it reads top to bottom like the arrow: universe, tickers, candles, features, screen, whales, analyst, verdict.

Figures that the feed keeps are screened for the whole universe without a request for candles; the most moved of the other symbols are read,
and the reply says so. A replica keeps nothing of its own from scan to scan that another one would need.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from engine.analysis.figures import Known, Pairs, candles_settled, known_figures, material_of, read_pairs, screened
from engine.analysis.sources import Sources, Widen, counted, skew_of, tickers_of
from engine.analysis.whale_views import whale_views
from engine.core.instrument import InstrumentRules
from engine.core.market import Candles, Timeframe, at
from engine.core.screen import ScreenBounds, Screened, weigh_whales
from engine.core.screen_fast import preselect_fast
from engine.core.screen_rules import V3_1, RuleSet
from engine.core.verdict import AnalystFailure, Case, Ground, LivePrice, judge
from engine.errors import ExchangeError
from engine.ports import Analyst
from shared.analysis import AnalyzeReply, AnalyzeRequest, Candidate, Rejection, RejectionReason, Signal
from shared.brackets import brackets_of

ANALYST_CONCURRENCY: Final = 4
"""Models answer in seconds and bill by the token; four at once keep a scan inside its candle."""

PRICE_KEPT_MS: Final = 250
"""Wall age up to which the price that the analyst saw also judges its verdict; past it the book is read again."""


AFTERWARDS: Final = 12
"""Request weight that each of the shortlist needs after its candles: books for whales and price, trades, mark. Candles leave it alone."""


SKEW_TOLD_MS: Final = 1_000
MOST_SKEW_MS: Final = 10_000
"""Wall time by which our clock may differ from the exchange's before a reply says so, and before nothing is decided: which candle closed
last, and what the last 300 s are, is judged by our clock. Twice the receive window that the exchange grants a signed call."""


class ScanPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say of a scan."""

    bounds: ScreenBounds
    min_confidence: int
    rule_set: RuleSet = V3_1


class _Scan:
    """One scan's notes: what fell and why, what came from elsewhere, how long each stage took, and how far clocks differ."""

    def __init__(self) -> None:
        self.rejections: list[Rejection] = []
        self.fallbacks: list[str] = []
        self.timings: dict[str, float] = {}
        self.skew_ms = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.timings[name] = round((time.perf_counter() - begun) * 1000, 3)

    @contextmanager
    def added(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.timings[name] = round(self.timings.get(name, 0.0) + (time.perf_counter() - begun) * 1000, 3)

    def drop(self, symbol: str, reason: RejectionReason, detail: str) -> None:
        self.rejections.append(Rejection(symbol=symbol, reason=reason, detail=detail))

    def keep(self, screened: Screened) -> tuple[Candidate, ...]:
        self.rejections += screened.rejections
        return screened.candidates


async def scan(request: AnalyzeRequest, plan: ScanPlan, sources: Sources, analyst: Analyst, widen: Widen | None) -> AnalyzeReply:
    """Looks at the whole market once.

    Args:
        request: Absent fields take the plan's; `symbols` skips the choice of the most moved, not the screener.
        plan: Bounds from the settings.
        sources: Exchange, feed and clock.
        analyst: Who argues the candidates.
        widen: The wider indicators of a candidate, from its candles; None where the analyst reads none, so that none need be read.

    Raises:
        ExchangeError: Symbol rules or tickers did not come: without them there is no scan.
    """
    run = _Scan()
    bounds = msgspec.structs.replace(plan.bounds, top_n=request.top_n or plan.bounds.top_n)
    confidence = plan.min_confidence if request.min_confidence is None else request.min_confidence
    with run.stage("total"):
        with run.stage("universe"):
            rules = await sources.market.instruments()
            universe = _universe(rules, request.symbols, run)
        with run.added("candles"):
            known = await known_figures(sources, plan.rule_set)
        with run.stage("tickers"):
            chosen = await _choose(universe, request, bounds, known, sources, run)
        with run.added("candles"):
            pairs = await _read(chosen, known, msgspec.structs.replace(plan, bounds=bounds), sources, run)
        with run.stage("features"):
            material = await material_of(chosen, known, pairs, plan.rule_set)
        with run.stage("screen"):
            read = material.read
            shortlist = run.keep(screened(read, bounds.top_n, plan.rule_set)) if read is not None else ()
        with run.stage("whales"):
            views = await whale_views([candidate.symbol for candidate in shortlist], sources, run.fallbacks)
            candidates = run.keep(weigh_whales(shortlist, views, bounds.top_n))
        with run.stage("analyst"):
            desk = _Desk(rules, material.closed_ms, material.candles, sources, analyst, widen, confidence)
            signals = await _argue_all(candidates, desk, run)
        run.timings.setdefault("verdict", 0.0)
    return AnalyzeReply(
        as_of=sources.clock.now(),
        universe=len(universe),
        screened=len(material.closed_ms),
        analyst=analyst.kind,
        candidates=list(candidates),
        signals=signals,
        rejections=run.rejections,
        timings_ms=run.timings,
        fallbacks=run.fallbacks,
    )


def _universe(rules: Mapping[str, InstrumentRules], asked: Sequence[str] | None, run: _Scan) -> list[str]:
    if asked is None:
        return [symbol for symbol, rule in rules.items() if rule.tradable]
    known = []
    for symbol in dict.fromkeys(asked):
        if symbol in rules and rules[symbol].tradable:
            known.append(symbol)
        else:
            run.drop(symbol, RejectionReason.NO_SYMBOL_RULES, rules[symbol].status if symbol in rules else "not listed")
    return known


async def _choose(
    universe: Sequence[str], request: AnalyzeRequest, bounds: ScreenBounds, known: Known, sources: Sources, run: _Scan
) -> Sequence[str]:
    whose, skew_ms = await skew_of(sources, run.fallbacks)
    run.skew_ms = skew_ms
    if abs(skew_ms) > SKEW_TOLD_MS:
        run.fallbacks.append(f"{whose} differs by {skew_ms / 1000:+.1f} s from the exchange's")
    if abs(skew_ms) > MOST_SKEW_MS:
        for symbol in universe:
            run.drop(
                symbol, RejectionReason.MARKET_DATA_STALE, f"how old anything is cannot be told: {whose} is off by {skew_ms} ms"
            )
        return []
    if request.symbols is not None:
        return universe
    tickers = await tickers_of(sources, universe, run.fallbacks)
    for symbol, age_ms in tickers.stale.items():
        run.drop(symbol, RejectionReason.MARKET_DATA_STALE, f"its 24 h ticker is {age_ms / 1000:.0f} s old")
    current = [symbol for symbol in universe if symbol not in tickers.stale]
    shortlist = preselect_fast(current, tickers.living, bounds, known.rows)
    run.rejections += shortlist.rejections
    return shortlist.symbols


async def _read(chosen: Sequence[str], known: Known, plan: ScanPlan, sources: Sources, run: _Scan) -> Pairs:
    unknown = [symbol for symbol in chosen if symbol not in known.rows]
    if unknown:
        own_ms = sources.skew_ms()  # by ours it is judged what closed, whatever the feed's clock says
        await candles_settled(sources, max(0, -(run.skew_ms if own_ms is None else own_ms)))
    pairs = await read_pairs(unknown, AFTERWARDS * min(plan.bounds.top_n, len(chosen)), sources)
    if unknown and not plan.rule_set.structure:
        run.fallbacks.append(f"candles of {counted(len(unknown))} from REST")
    unread = sum(rejection.reason is RejectionReason.REQUEST_WEIGHT_SPENT for rejection in pairs.rejections)
    if unread:
        run.fallbacks.append(f"{counted(unread)} not read: request weight")
    run.rejections += pairs.rejections
    return pairs


class _Older(Exception):
    """Candles that end before the figures do."""


class _Seen(msgspec.Struct, frozen=True):
    """A live price and when it was seen: market time, and wall milliseconds at receipt."""

    price: Decimal
    at: datetime
    received_ms: int


class _Desk(msgspec.Struct, frozen=True):
    """What arguing a candidate needs."""

    rules: Mapping[str, InstrumentRules]
    closed_ms: Mapping[str, int]
    candles: Mapping[str, Candles]
    sources: Sources
    analyst: Analyst
    widen: Widen | None
    min_confidence: int


async def _argue_all(candidates: Sequence[Candidate], desk: _Desk, run: _Scan) -> list[Signal]:
    slots = asyncio.Semaphore(ANALYST_CONCURRENCY)

    async def argue(candidate: Candidate) -> Signal | Rejection:
        async with slots:
            return await _argue(candidate, desk, run)

    outcomes = await asyncio.gather(*(argue(candidate) for candidate in candidates))
    run.rejections += [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    return [outcome for outcome in outcomes if isinstance(outcome, Signal)]


async def _argue(candidate: Candidate, desk: _Desk, run: _Scan) -> Signal | Rejection:
    symbol = candidate.symbol
    try:
        live = await _live_price(symbol, desk.sources)
        verdict = await desk.analyst.argue(await _case(candidate, live.price, desk))
        if isinstance(verdict, AnalystFailure):
            return Rejection(symbol=symbol, reason=_why_silent(verdict), detail=verdict.reason)
        if desk.sources.clock.wall_ms() - live.received_ms > PRICE_KEPT_MS:
            live = await _live_price(symbol, desk.sources)
    except _Older as older:
        return Rejection(symbol=symbol, reason=RejectionReason.MARKET_DATA_STALE, detail=str(older))
    except ExchangeError as error:
        return Rejection(symbol=symbol, reason=RejectionReason.MARKET_DATA_MISSING, detail=str(error))
    with run.added("verdict"):
        return judge(verdict, _ground(candidate, live, desk), desk.min_confidence)


def _why_silent(failure: AnalystFailure) -> RejectionReason:
    return RejectionReason.ANALYST_OVER_BUDGET if failure.over_budget else RejectionReason.ANALYST_FAILED


def _ground(candidate: Candidate, live: _Seen, desk: _Desk) -> Ground:
    brackets, source = brackets_of(candidate.symbol)
    return Ground(
        candidate=candidate,
        live=LivePrice(price=live.price, at=live.at, age_ms=desk.sources.clock.wall_ms() - live.received_ms),
        candle_close=at(desk.closed_ms[candidate.symbol]),
        rules=desk.rules[candidate.symbol],
        brackets=brackets,
        brackets_source=source,
    )


async def _case(candidate: Candidate, price: Decimal, desk: _Desk) -> Case:
    atr = candidate.features.get("atr")
    return Case(
        candidate=candidate,
        price=price,
        tick_size=desk.rules[candidate.symbol].tick_size,
        atr=float(atr) if isinstance(atr, float) else 0.0,
        indicators=await _wider(candidate.symbol, desk),
    )


async def _wider(symbol: str, desk: _Desk) -> dict[str, float]:
    if desk.widen is None:
        return {}
    candles = desk.candles.get(symbol) or await _candles_of_now(symbol, desk)
    return await asyncio.to_thread(desk.widen, candles)


async def _candles_of_now(symbol: str, desk: _Desk) -> Candles:
    """Of a symbol whose figures came from the feed; they must reach as far as those do."""
    candles = await desk.sources.market.candles(symbol, Timeframe.M15)
    if candles.closed_ms < desk.closed_ms[symbol]:
        raise _Older(f"newest closed {candles.timeframe} candle ended at {at(candles.closed_ms).isoformat()}")
    return candles


async def _live_price(symbol: str, sources: Sources) -> _Seen:
    book = await sources.market.book(symbol)
    middle = book.mid
    if middle is None:
        raise ExchangeError(f"{symbol}: the book has an empty side")
    return _Seen(middle, sources.clock.now(), book.received_ms)
