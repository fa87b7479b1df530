"""`neurotrade screen`: the ranked table of a screener preset, now or at a moment of a recording, with why each near miss was dropped.

Everything is decided by the engine's own functions, from tickers to ranking; whales and the analyst, which come after, are not asked.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from deploy.environments import given_settings
from deploy.errors import DeployError
from deploy.recording import RecordedMoment, recorded_moment
from engine.analysis.figures import read_candles, stale_in
from engine.budget import SharedBudget, WeightBudget
from engine.candles import BinanceData, Door, open_session
from engine.clock import market_clock
from engine.core.market import Candles, Ticker, Timeframe, at, ms_of
from engine.core.screen import ScreenBounds, near_misses, preselect, screen
from engine.core.screen_presets import PRESETS
from engine.core.screen_rules import RuleSet
from engine.errors import EngineError, ExchangeError, SettingsError
from engine.log import beside_output
from engine.settings import EngineSettings, read_settings
from engine.snapshots import connect
from shared.analysis import Candidate, Rejection, RejectionReason

COLUMNS: Final = ("trend", "close", "rsi", "volume_ratio", "volume_z", "adx", "roc_3", "efficiency", "band_width")
"""The figures shown beside a candidate; `--json` has all of them."""

CLOCK_SECONDS: Final = 5.0


class ScreenOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for; no market means the exchange, now."""

    market: Path | None = None
    history: Path | None = None
    moment: str | None = None
    preset: str | None = None
    top: int | None = None
    json: bool = False
    dotenv: Path | None = None


class Screening(msgspec.Struct, frozen=True, kw_only=True):
    """What a preset made of the market: every symbol is a candidate or has a rejection; near misses are of them."""

    as_of: datetime
    source: str
    preset: str
    universe: int
    screened: int
    candidates: Sequence[Candidate]
    near_misses: Sequence[Rejection]
    rejections: Sequence[Rejection]


class _Market(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of every symbol before candles are read."""

    source: str
    now_ms: int
    universe: Sequence[str]
    tickers: Mapping[str, Ticker]


type _Pair = tuple[Candles, Candles] | ExchangeError


def screen_from_terminal(options: ScreenOptions, env: Mapping[str, str]) -> int:
    """Screens once and prints what was found.

    Raises:
        DeployError: Options, settings or the recording are not usable, or the exchange does not answer.
    """
    settings = _settings(options, env)
    if options.market is None:
        if options.moment is not None or options.history is not None:
            raise DeployError("--at and --history need --market: the exchange is asked for now")
        try:
            with beside_output():
                found = asyncio.run(_live(settings))
        except EngineError as error:
            raise DeployError(f"{settings.binance_rest_url} was asked in vain: {error}") from error
    else:
        found = _recorded(recorded_moment(options.market, options.history, _moment(options.moment)), options.market, settings)
    print(msgspec.json.encode(found).decode() if options.json else table_of(found))
    return 0


def _settings(options: ScreenOptions, env: Mapping[str, str]) -> EngineSettings:
    """The deployment's own, the command line's over them; what only the engine's processes need may be missing."""
    asked = {"SCREEN_PRESET": options.preset, "TOP_COINS_LIMIT": options.top}
    given = {**given_settings(env, options.dotenv), **{name: str(value) for name, value in asked.items() if value is not None}}
    try:
        return read_settings({"ENGINE_TOKEN": "-", "REDIS_URL": "-", **given})
    except SettingsError as error:
        raise DeployError(str(error)) from error


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DeployError(f"--at {text}: not a moment of ISO 8601, as 2025-09-22T06:00") from error
    return ms_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _recorded(moment: RecordedMoment, file: Path, settings: EngineSettings) -> Screening:
    market = _Market(source=file.name, now_ms=moment.now_ms, universe=moment.universe, tickers=moment.tickers)
    symbols, early = _shortlist(market, settings)
    return _screened(market, early, dict(zip(symbols, moment.candles(symbols), strict=True)), settings)


async def _live(settings: EngineSettings) -> Screening:
    """Asks the exchange that the settings name, inside the weight budget of the deployment where its Redis answers."""
    async with AsyncExitStack() as stack:
        clock = await market_clock(settings.market_clock_url, CLOCK_SECONDS)
        session = await stack.enter_async_context(open_session())
        budget: SharedBudget | WeightBudget = WeightBudget(settings.request_weight_limit, clock.now_ms)
        if settings.redis_url != "-":
            redis = connect(settings.redis_url)
            stack.push_async_callback(redis.aclose)
            budget = SharedBudget(redis, settings.request_weight_limit, clock.now_ms)
        data = BinanceData(Door(session, settings.binance_rest_url, budget), clock)
        rules = await data.instruments()
        market = _Market(
            source=settings.binance_rest_url,
            now_ms=clock.now_ms(),
            universe=[symbol for symbol, rule in rules.items() if rule.tradable],
            tickers=await data.tickers(),
        )
        symbols, early = _shortlist(market, settings)
        pairs = await asyncio.gather(*(_pair(symbol, data) for symbol in symbols))
        read = msgspec.structs.replace(market, now_ms=clock.now_ms())
        return _screened(read, early, dict(zip(symbols, pairs, strict=True)), settings)


async def _pair(symbol: str, data: BinanceData) -> _Pair:
    try:
        return await data.candles(symbol, Timeframe.M15), await data.candles(symbol, Timeframe.H4)
    except ExchangeError as error:
        return error


def _shortlist(market: _Market, settings: EngineSettings) -> tuple[Sequence[str], list[Rejection]]:
    bounds = ScreenBounds(
        min_quote_volume=settings.min_volume_usdt,
        min_change_percent=settings.min_volatility_24h,
        top_n=settings.top_coins_limit,
    )
    found = preselect(market.universe, market.tickers, bounds)
    return found.symbols, list(found.rejections)


def _screened(market: _Market, early: Sequence[Rejection], pairs: Mapping[str, _Pair], settings: EngineSettings) -> Screening:
    rule_set, rejections = PRESETS[settings.screen_preset], list(early)
    usable: list[tuple[Candles, Candles]] = []
    for symbol, pair in pairs.items():
        if isinstance(pair, ExchangeError):
            rejections.append(Rejection(symbol=symbol, reason=RejectionReason.MARKET_DATA_MISSING, detail=str(pair)))
        elif (stale := stale_in(pair, market.now_ms)) is not None:
            rejections.append(stale)
        else:
            usable.append(pair)
    candidates, near, late = _ranked(usable, rule_set, settings.top_coins_limit)
    return Screening(
        as_of=at(market.now_ms),
        source=market.source,
        preset=rule_set.name,
        universe=len(market.universe),
        screened=len(usable),
        candidates=candidates,
        near_misses=near,
        rejections=[*rejections, *late],
    )


def _ranked(
    usable: Sequence[tuple[Candles, Candles]], rule_set: RuleSet, top_n: int
) -> tuple[Sequence[Candidate], list[Rejection], Sequence[Rejection]]:
    """Candidates, near misses, and every rejection of the rules; what was outranked had passed them all."""
    if not usable:
        return (), [], ()
    read = read_candles([quarter for quarter, _ in usable], [four_hour for _, four_hour in usable], rule_set)
    found = screen(read.features, top_n, rule_set, read.structure)
    single = near_misses(read.features, rule_set, read.structure)
    near = [no for no in found.rejections if no.reason is RejectionReason.OUTRANKED or no.symbol in single]
    return found.candidates, sorted(near, key=lambda no: no.reason is not RejectionReason.OUTRANKED), found.rejections


def table_of(found: Screening) -> str:
    """A screening for people."""
    head = (
        f"{found.preset} at {found.as_of.isoformat()}, {found.source}: "
        f"{found.universe} symbols, {found.screened} read, {len(found.candidates)} kept"
    )
    rest = Counter(str(no.reason) for no in found.rejections if no not in found.near_misses)
    counted = ", ".join(f"{reason} {count}" for reason, count in sorted(rest.items(), key=lambda pair: (-pair[1], pair[0])))
    near = [[no.symbol, str(no.reason), no.detail] for no in found.near_misses]
    parts = [head, _aligned([["rank", "symbol", "side", "score", *COLUMNS], *_rows(found)]) if found.candidates else "nobody"]
    if near:
        parts.append("near misses, each dropped by one rule alone or outranked:\n" + _aligned(near))
    if counted:
        parts.append(f"others dropped: {counted}")
    return "\n\n".join(parts)


def _rows(found: Screening) -> list[list[str]]:
    return [
        [str(rank), kept.symbol, str(kept.direction), f"{kept.score:.2f}", *(_figure(kept.features[name]) for name in COLUMNS)]
        for rank, kept in enumerate(found.candidates, start=1)
    ]


def _figure(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else "-" if value is None else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
