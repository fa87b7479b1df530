"""Which request goes wrong, and how: rules that fire by chance or by count, the same for the same seed and the same requests.

Nothing is carried out here. The doors ask what befalls a request or a frame and do it; a rule counts what it matches, and its chance is
drawn from its seed, the caller and that count, so that callers that interleave differently still meet the same faults.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec

MOST_FIRINGS = 20_000
"""Of the log."""
ORDER_PATHS = frozenset({"/fapi/v1/order", "/fapi/v1/algoOrder", "/fapi/v1/batchOrders"})
READ_PATHS = frozenset(
    f"/fapi/{rest}"
    for rest in (
        *("v1/order", "v1/openOrder", "v1/openOrders", "v1/allOrders", "v1/userTrades", "v1/income", "v1/algoOrder"),
        *("v1/openAlgoOrders", "v1/allAlgoOrders", "v2/positionRisk", "v3/positionRisk", "v2/account", "v3/account"),
        *("v2/balance", "v3/balance"),
    )
)
"""Reads that lag behind what was written."""


class Kind(StrEnum):
    """What goes wrong. Of each pair one is carried out all the same, and the caller cannot tell which."""

    TIMEOUT_EXECUTED = "timeout_executed"
    TIMEOUT_LOST = "timeout_lost"
    SILENT_EXECUTED = "silent_executed"
    SILENT_LOST = "silent_lost"
    ARRIVES_LATE = "arrives_late"
    UNKNOWN_EXECUTED = "unknown_executed"
    UNKNOWN_LOST = "unknown_lost"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    HTML_502 = "html_502"
    HTML_502_EXECUTED = "html_502_executed"
    HTML_403 = "html_403"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    SLOW = "slow"
    SKEW = "skew"
    DUPLICATE = "duplicate"
    STALE = "stale"
    REVOKED = "revoked"
    THROTTLED = "throttled"
    STUCK_TRIGGERING = "stuck_triggering"
    WS_DROP = "ws_drop"
    WS_SILENT = "ws_silent"
    WS_LATE = "ws_late"
    WS_DOUBLED = "ws_doubled"
    WS_REORDERED = "ws_reordered"
    WS_MISSING = "ws_missing"
    WS_MISSING_CLOSE = "ws_missing_close"


SECONDS = {
    Kind.TIMEOUT_EXECUTED: 0.05,
    Kind.TIMEOUT_LOST: 0.05,
    Kind.SILENT_EXECUTED: 30.0,
    Kind.SILENT_LOST: 30.0,
    Kind.ARRIVES_LATE: 4.5,
    Kind.SLOW: 1.0,
    Kind.STALE: 1.0,
    Kind.THROTTLED: 2.0,
    Kind.STUCK_TRIGGERING: 60.0,
    Kind.WS_SILENT: 30.0,
    Kind.WS_LATE: 1.0,
    Kind.WS_REORDERED: 0.5,
}
"""Wall seconds that a kind lasts unless its rule says otherwise: the hold before the answer, the longest silence, the lag of a read, the
wait that a 429 asks for."""

ON_FRAMES = frozenset(kind for kind in Kind if kind.startswith("ws_"))
ON_TRIGGERS = frozenset({Kind.STUCK_TRIGGERING})
SIGNED_ONLY = frozenset({Kind.SKEW, Kind.REVOKED})
LOST = frozenset(
    {
        Kind.TIMEOUT_LOST,
        Kind.SILENT_LOST,
        Kind.UNKNOWN_LOST,
        Kind.RESET_BEFORE,
        Kind.HTML_502,
        Kind.HTML_403,
        Kind.OVERLOADED,
        Kind.UNAVAILABLE,
        Kind.SKEW,
        Kind.REVOKED,
        Kind.THROTTLED,
    }
)
"""Kinds by which a request is not carried out."""


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rule looks for; absent fields match everything. Texts are patterns with * and ?.

    Args:
        method: GET, POST, PUT or DELETE.
        path: Of a request.
        account: An API key.
        symbol: As in the parameters or the event.
        side: BUY or SELL.
        client_id: Any client order id in the parameters, or of a conditional order.
        reduce_only: Whether the order can only reduce.
        stream: Name of a stream; `user` for user data streams.
        event: Type of an event.
    """

    method: str | None = None
    path: str | None = None
    account: str | None = None
    symbol: str | None = None
    side: str | None = None
    client_id: str | None = None
    reduce_only: bool | None = None
    stream: str | None = None
    event: str | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way in which things go wrong.

    Args:
        kind: How.
        match: Where.
        probability: Of each match.
        nth: Only the n-th match, counted from 1.
        times: At most so often.
        seed: Of its chance.
        seconds: How long the fault lasts; None for its kind's usual time.
        for_seconds: The rule ends this long after it was set, wall time.
        until_ms: The rule ends at this wall time.
    """

    kind: Kind
    match: Match = Match()
    probability: float = 1.0
    nth: int | None = None
    times: int | None = None
    seed: int = 0
    seconds: float | None = None
    for_seconds: float | None = None
    until_ms: int | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            ValueError: A number is out of range.
        """
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must be between 0 and 1")
        if any(count is not None and count < 1 for count in (self.nth, self.times)):
            raise ValueError("nth and times must be at least 1")
        if any(span is not None and not 0 <= span <= 86_400 for span in (self.seconds, self.for_seconds)):
            raise ValueError("seconds must be between 0 and 86400")

    @property
    def lasts(self) -> float:
        """How long its fault lasts, wall seconds."""
        return SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """Something that may go wrong: a request, a frame of a stream, or a trigger.

    Args:
        wall_ms: When.
        caller: The number of the account, in the order in which accounts were opened; -1 for nobody.
        signed: Whether it carries a key.
        closed: Of a candle's frame: whether the candle is closed.
    """

    wall_ms: int
    caller: int = -1
    signed: bool = False
    method: str = ""
    path: str = ""
    account: str = ""
    symbol: str = ""
    side: str = ""
    client_id: str = ""
    reduce_only: bool = False
    stream: str = ""
    event: str = ""
    closed: bool = False


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that befell something."""

    number: int
    rule: int
    kind: Kind
    seconds: float
    wall_ms: int
    outage_until_ms: int = 0
    """Until when everything that the rule matches meets the same; 0 where that is not certain."""
    caller: int
    method: str
    path: str
    account: str
    symbol: str
    side: str
    client_id: str
    stream: str
    event: str


class _Standing(msgspec.Struct):
    rule: Rule
    number: int
    until_ms: int | None
    matched: int = 0
    fired: int = 0
    by_caller: Counter[int] = msgspec.field(default_factory=Counter)


class Faults:
    """All rules and what they did. The first rule that fires decides."""

    def __init__(self) -> None:
        self._standing: list[_Standing] = []
        self._set = 0
        self._fired = 0
        self.cleared = 0
        """How often everything was cleared: faults that last end with their rules."""
        self.log: deque[Firing] = deque(maxlen=MOST_FIRINGS)

    @property
    def rules(self) -> list[Rule]:
        """The rules that stand."""
        return [standing.rule for standing in self._standing]

    def add(self, rules: list[Rule], wall_ms: int) -> None:
        """Let more rules stand, after those that do."""
        for rule in rules:
            until = None if rule.for_seconds is None else wall_ms + int(rule.for_seconds * 1000)
            ends = [end for end in (until, rule.until_ms) if end is not None]
            self._standing.append(_Standing(rule=rule, number=self._set, until_ms=min(ends) if ends else None))
            self._set += 1

    def clear(self) -> None:
        """Let no rule stand and forget what happened."""
        self._standing, self._set, self._fired = [], 0, 0
        self.cleared += 1
        self.log.clear()

    def stand(self, kinds: frozenset[Kind], wall_ms: int) -> bool:
        """Whether a rule of some kinds may still fire."""
        return any(item.rule.kind in kinds and _lives(item, wall_ms) for item in self._standing)

    def of_request(self, occasion: Occasion) -> Firing | None:
        """What befalls a request."""
        return self._decide(occasion, lambda kind: befalls_request(kind, occasion))

    def of_frame(self, occasion: Occasion) -> Firing | None:
        """What befalls a frame."""
        return self._decide(occasion, lambda kind: kind in ON_FRAMES and (kind != Kind.WS_MISSING_CLOSE or occasion.closed))

    def of_trigger(self, occasion: Occasion) -> Firing | None:
        """What befalls a conditional order on its way to the book."""
        return self._decide(occasion, lambda kind: kind in ON_TRIGGERS)

    def _decide(self, occasion: Occasion, befalls: Callable[[Kind], bool]) -> Firing | None:
        for standing in self._standing:
            rule = standing.rule
            if befalls(rule.kind) and _lives(standing, occasion.wall_ms) and matches(rule.match, occasion):
                standing.matched += 1
                if _fires(standing, occasion.caller):
                    standing.fired += 1
                    return self._logged(standing, occasion)
        return None

    def _logged(self, standing: _Standing, occasion: Occasion) -> Firing:
        self._fired += 1
        firing = Firing(
            number=self._fired,
            rule=standing.number,
            kind=standing.rule.kind,
            seconds=standing.rule.lasts,
            wall_ms=occasion.wall_ms,
            outage_until_ms=_outage(standing),
            caller=occasion.caller,
            method=occasion.method,
            path=occasion.path,
            account=occasion.account,
            symbol=occasion.symbol,
            side=occasion.side,
            client_id=occasion.client_id,
            stream=occasion.stream,
            event=occasion.event,
        )
        self.log.append(firing)
        return firing


def befalls_request(kind: Kind, occasion: Occasion) -> bool:
    """Whether a kind can befall a request at all.

    Source: Binance "Error Codes", -1008: orders that only reduce are taken during overload.
    """
    if kind in ON_FRAMES or kind in ON_TRIGGERS:
        return False
    if kind in SIGNED_ONLY and not occasion.signed:
        return False
    if kind is Kind.STALE:
        return occasion.method == "GET" and occasion.path in READ_PATHS
    if kind is Kind.OVERLOADED:
        return not occasion.reduce_only
    return kind is not Kind.DUPLICATE or (occasion.method == "POST" and occasion.path in ORDER_PATHS)


def matches(match: Match, occasion: Occasion) -> bool:
    """Whether a rule looks for this."""
    if match.reduce_only is not None and match.reduce_only != occasion.reduce_only:
        return False
    pairs = (
        (match.method, occasion.method),
        (match.path, occasion.path),
        (match.account, occasion.account),
        (match.symbol, occasion.symbol),
        (match.side, occasion.side),
        (match.client_id, occasion.client_id),
        (match.stream, occasion.stream),
        (match.event, occasion.event),
    )
    return all(pattern is None or fnmatchcase(text, pattern) for pattern, text in pairs)


def chance(seed: int, rule: int, caller: int, count: int) -> float:
    """A number in [0, 1), the same for the same arguments."""
    digest = hashlib.blake2b(f"{seed}/{rule}/{caller}/{count}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _lives(standing: _Standing, wall_ms: int) -> bool:
    spent = standing.rule.times is not None and standing.fired >= standing.rule.times
    return not spent and (standing.until_ms is None or wall_ms < standing.until_ms)


def _outage(standing: _Standing) -> int:
    rule = standing.rule
    certain = rule.probability >= 1 and rule.nth is None and rule.times is None
    return standing.until_ms or 0 if certain else 0


def _fires(standing: _Standing, caller: int) -> bool:
    rule = standing.rule
    if rule.nth is not None and standing.matched != rule.nth:
        return False
    if rule.probability >= 1:
        return True
    standing.by_caller[caller] += 1
    return chance(rule.seed, standing.number, caller, standing.by_caller[caller]) < rule.probability
