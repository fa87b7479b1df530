"""What goes wrong is the same for the same seed and the same requests, and only where a rule looks for it."""

import pytest

from deploy.sandbox.core.faults import Faults, Kind, Match, Occasion, Rule
from deploy.sandbox.core.faults_profiles import profile
from deploy.sandbox.core.faults_throttle import Throttle

ORDER = "/fapi/v1/order"


def occasion(**changes: object) -> Occasion:
    given: dict[str, object] = {"wall_ms": 1_000, "caller": 0, "signed": True, "method": "POST", "path": ORDER, "account": "a"}
    return Occasion(**(given | changes))  # type: ignore[arg-type]


def standing(*rules: Rule) -> Faults:
    faults = Faults()
    faults.add(list(rules), 1_000)
    return faults


def test_the_same_seed_and_requests_meet_the_same_faults_however_callers_interleave() -> None:
    rule = Rule(kind=Kind.UNKNOWN_LOST, probability=0.3, seed=11)
    one, other = standing(rule), standing(rule)
    apart = [[one.of_request(occasion(caller=caller)) is not None for _ in range(50)] for caller in (0, 1)]
    mixed: list[list[bool]] = [[], []]
    for _ in range(50):
        for caller in (1, 0):
            mixed[caller].append(other.of_request(occasion(caller=caller)) is not None)
    assert apart == mixed
    assert 5 < sum(apart[0]) < 25
    assert apart[0] != apart[1]
    changed = standing(Rule(kind=Kind.UNKNOWN_LOST, probability=0.3, seed=12))
    assert [changed.of_request(occasion()) is not None for _ in range(50)] != apart[0]


def test_a_rule_fires_at_the_nth_match_or_so_many_times() -> None:
    faults = standing(Rule(kind=Kind.RESET_BEFORE, nth=3), Rule(kind=Kind.SKEW, times=2))
    fired = [faults.of_request(occasion()) for _ in range(6)]
    assert [firing.kind if firing else None for firing in fired] == [
        Kind.SKEW,
        Kind.SKEW,
        Kind.RESET_BEFORE,
        None,
        None,
        None,
    ]
    assert [firing.number for firing in faults.log] == [1, 2, 3]


def test_a_rule_looks_at_method_path_account_symbol_side_and_client_id() -> None:
    match = Match(method="POST", path="/fapi/v1/*rder", account="a", symbol="BTC*", side="BUY", client_id="nt-e-*")
    faults = standing(Rule(kind=Kind.RESET_AFTER, match=match))
    fits = {"symbol": "BTCUSDT", "side": "BUY", "client_id": "nt-e-1"}
    assert faults.of_request(occasion(**fits))
    for other in (
        {"method": "PUT"},
        {"path": "/fapi/v1/orders"},
        {"account": "b"},
        {"symbol": "ETHUSDT"},
        {"side": "SELL"},
        {"client_id": "nt-c-1"},
    ):
        assert faults.of_request(occasion(**(fits | other))) is None


def test_a_rule_ends_with_its_time() -> None:
    faults = standing(Rule(kind=Kind.HTML_502, for_seconds=2), Rule(kind=Kind.SKEW, until_ms=3_500))
    kinds = [firing.kind if (firing := faults.of_request(occasion(wall_ms=at))) else None for at in (1_000, 2_999, 3_000, 3_500)]
    assert kinds == [Kind.HTML_502, Kind.HTML_502, Kind.SKEW, None]
    assert [firing.outage_until_ms for firing in faults.log] == [3_000, 3_000, 3_500]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Kind.OVERLOADED, {"reduce_only": True}),
        (Kind.DUPLICATE, {"method": "GET"}),
        (Kind.STALE, {"method": "POST"}),
        (Kind.STALE, {"method": "GET", "path": "/fapi/v1/leverageBracket"}),
        (Kind.SKEW, {"signed": False}),
        (Kind.STUCK_TRIGGERING, {}),
        (Kind.WS_DROP, {}),
    ],
)
def test_some_faults_never_befall_some_requests(kind: Kind, changes: dict[str, object]) -> None:
    assert standing(Rule(kind=kind)).of_request(occasion(**changes)) is None


def test_only_closed_candles_lose_their_closing_frame() -> None:
    faults = standing(Rule(kind=Kind.WS_MISSING_CLOSE))
    assert faults.of_frame(occasion(stream="btcusdt@kline_1m", closed=False)) is None
    assert faults.of_frame(occasion(stream="btcusdt@kline_1m", closed=True))


@pytest.mark.parametrize("numbers", [{"probability": 1.5}, {"nth": 0}, {"times": 0}, {"seconds": -1.0}])
def test_numbers_out_of_range_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Rule(kind=Kind.SLOW, **numbers)  # type: ignore[arg-type]


def test_profiles_are_known_by_name() -> None:
    storm = profile("storm", 5)
    assert storm
    assert {rule.seed for rule in storm} == {5}
    assert Kind.REVOKED not in {rule.kind for rule in storm}
    assert profile("calm", 5) == []
    assert profile("hail", 5) is None


def test_who_goes_on_after_a_429_is_banned() -> None:
    throttle = Throttle()
    throttle.begin("here", 1_000, 2_000)
    assert [throttle.standing("here", 1_100) for _ in range(4)] == [(429, 3_000)] * 3 + [(418, 11_100)]
    assert throttle.standing("there", 1_100) is None
    assert throttle.standing("here", 11_100) is None
