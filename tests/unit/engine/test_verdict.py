"""A verdict becomes a signal only where it stands against the live price; each no has its reason."""

from collections.abc import Mapping
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.rules import argue, evidence_of, levels_of
from engine.core.verdict import Case, Ground, LivePrice, Verdict, judge
from shared.analysis import CascadeState, LiquidationPressure, Rejection, RejectionReason, Signal, WhaleSignal, WhaleView
from shared.brackets import brackets_of
from shared.enums import AnalystKind, Side
from tests.unit.engine.execution_desk import BTC, NOW
from tests.unit.engine.market_world import candidate

LONG = Verdict(
    side=Side.LONG,
    confidence=80,
    stop_loss=Decimal(99),
    take_profit=Decimal("101.8"),
    reasoning="because",
    analyst=AnalystKind.RULES,
)
SHORT = msgspec.structs.replace(LONG, side=Side.SHORT, stop_loss=Decimal(101), take_profit=Decimal("98.2"))


def ground(price: str = "100", age_ms: int = 0) -> Ground:
    brackets, source = brackets_of("BTCUSDT")
    return Ground(
        candidate=candidate(),
        live=LivePrice(price=Decimal(price), at=NOW, age_ms=age_ms),
        candle_close=NOW,
        rules=BTC,
        brackets=brackets,
        brackets_source=source,
    )


def judged(verdict: Verdict, price: str = "100", age_ms: int = 0) -> Signal | Rejection:
    return judge(verdict, ground(price, age_ms), 75)


def test_a_sound_long_and_a_sound_short_are_signals_with_reward_over_risk() -> None:
    for verdict in (LONG, SHORT):
        signal = judged(verdict)
        assert isinstance(signal, Signal)
        assert (signal.side, signal.reward_risk, signal.signal_price) == (verdict.side, 1.8, Decimal("100.0"))
        assert signal.instrument.max_quantity == BTC.market_max_quantity


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"side": None}, RejectionReason.ANALYST_WAITS),
        ({"confidence": 74}, RejectionReason.LOW_CONFIDENCE),
        ({"stop_loss": None}, RejectionReason.ANALYST_WAITS),
        ({"stop_loss": Decimal("100.5")}, RejectionReason.WRONG_SIDE_STOP),
        ({"stop_loss": Decimal(100)}, RejectionReason.WRONG_SIDE_STOP),
        ({"take_profit": Decimal("99.5")}, RejectionReason.WRONG_SIDE_TARGET),
        ({"stop_loss": Decimal("99.9")}, RejectionReason.STOP_TOO_CLOSE),
        ({"stop_loss": Decimal("94.9")}, RejectionReason.STOP_TOO_FAR),
        ({"take_profit": Decimal("101.4")}, RejectionReason.POOR_REWARD_RISK),
    ],
)
def test_each_no_has_its_reason(changes: dict[str, Decimal | int | None], reason: RejectionReason) -> None:
    refused = judged(msgspec.structs.replace(LONG, **changes))
    assert isinstance(refused, Rejection)
    assert refused.reason is reason


def test_a_short_with_its_stop_below_the_price_is_refused() -> None:
    refused = judged(msgspec.structs.replace(SHORT, stop_loss=Decimal(99)))
    assert isinstance(refused, Rejection)
    assert refused.reason is RejectionReason.WRONG_SIDE_STOP


def test_nothing_is_decided_on_an_old_price() -> None:
    refused = judged(LONG, age_ms=5_001)
    assert isinstance(refused, Rejection)
    assert refused.reason is RejectionReason.STALE_PRICE


def test_a_verdict_is_judged_against_the_price_of_now_not_of_when_it_was_asked() -> None:
    refused = judged(LONG, price="98.5")
    assert isinstance(refused, Rejection)
    assert refused.reason is RejectionReason.WRONG_SIDE_STOP


def test_prices_are_rounded_to_the_tick_before_they_are_checked() -> None:
    signal = judged(msgspec.structs.replace(LONG, stop_loss=Decimal("98.9666"), take_profit=Decimal("101.91")), price="100.0333")
    assert isinstance(signal, Signal)
    assert (signal.stop_loss, signal.take_profit, signal.signal_price) == (Decimal("99.0"), Decimal("101.9"), Decimal("100.0"))


def case(features: Mapping[str, float], side: Side = Side.LONG, whale: WhaleView | None = None) -> Case:
    shown = msgspec.structs.replace(candidate(side=side), features=dict(features), whale=whale)
    return Case(candidate=shown, price=Decimal(100), tick_size=Decimal("0.01"), atr=0.5, indicators={})


GOOD = {"rsi": 35.0, "adx": 15.0, "volume_ratio": 1.4, "body": -0.8}


def test_the_rules_say_their_evidence_with_figures_and_say_who_they_are() -> None:
    verdict = argue(case(GOOD))
    assert (verdict.side, verdict.confidence, verdict.analyst) == (Side.LONG, 85, AnalystKind.RULES)
    for figure in ("RSI 35.0", "ADX 15.0", "volume 1.40", "(+15)"):
        assert figure in verdict.reasoning


def test_the_rules_mirror_for_a_short() -> None:
    verdict = argue(case({"rsi": 65.0, "adx": 15.0, "volume_ratio": 1.4, "body": 0.8}, Side.SHORT))
    assert (verdict.side, verdict.confidence) == (Side.SHORT, 85)
    assert verdict.stop_loss is not None
    assert verdict.take_profit is not None
    assert verdict.take_profit < 100 < verdict.stop_loss


@given(st.sets(st.sampled_from(sorted(GOOD))), st.sampled_from(sorted(GOOD)))
def test_more_evidence_never_means_less_confidence(names: set[str], another: str) -> None:
    fewer = {name: GOOD[name] for name in names}
    assert argue(case({**fewer, another: GOOD[another]})).confidence >= argue(case(fewer)).confidence


PUMP = WhaleView(
    symbol="XUSDT",
    signal=WhaleSignal.PUMP_IMMINENT,
    confidence=80,
    pressure=LiquidationPressure.NONE,
    long_liquidations_usd=0,
    short_liquidations_usd=0,
    pump_points=80,
    dump_points=0,
)


def test_an_analyst_that_turns_a_candidate_round_is_vetoed_where_whales_stand_against_it() -> None:
    seen = ground()
    with_whale = msgspec.structs.replace(seen, candidate=msgspec.structs.replace(seen.candidate, whale=PUMP))

    turned = judge(SHORT, with_whale, 75)

    assert isinstance(turned, Rejection)
    assert turned.reason is RejectionReason.WHALE_VETO
    assert isinstance(judge(LONG, with_whale, 75), Signal)


def test_a_running_cascade_vetoes_a_verdict_against_it_though_the_points_speak_for_it() -> None:
    seen = ground()
    running = msgspec.structs.replace(PUMP, cascade=CascadeState.RUNNING, cascade_side=Side.LONG)
    whole = msgspec.structs.replace(seen, candidate=msgspec.structs.replace(seen.candidate, whale=running))
    refused = judge(LONG, whole, 75)
    assert isinstance(refused, Rejection)
    assert (refused.reason, refused.detail) == (
        RejectionReason.WHALE_VETO,
        "a running cascade of liquidated LONG positions against LONG",
    )
    for state in (CascadeState.BUILDING, CascadeState.EXHAUSTED):
        candidate_ = msgspec.structs.replace(seen.candidate, whale=msgspec.structs.replace(running, cascade=state))
        assert isinstance(judge(LONG, msgspec.structs.replace(seen, candidate=candidate_), 75), Signal)


def test_a_whale_whose_cascade_runs_the_other_way_is_no_evidence() -> None:
    running = msgspec.structs.replace(PUMP, cascade=CascadeState.RUNNING, cascade_side=Side.LONG)
    assert argue(case({}, Side.LONG, running)).confidence < argue(case({}, Side.LONG, PUMP)).confidence


def test_a_whale_speaks_only_for_its_own_direction() -> None:
    assert argue(case({}, Side.LONG, PUMP)).confidence == argue(case({}, Side.LONG)).confidence + 30
    assert argue(case({}, Side.SHORT, PUMP)).confidence == argue(case({}, Side.SHORT)).confidence


def test_missing_figures_are_no_evidence() -> None:
    assert evidence_of(case({})) == []


@given(
    st.decimals("0.00001", "100000", places=5),
    st.floats(1e-6, 0.2),
    st.sampled_from(list(Side)),
)
def test_the_rules_levels_pass_the_geometry_at_any_price_and_range(price: Decimal, atr_ratio: float, side: Side) -> None:
    stop, target = levels_of(price, float(price) * atr_ratio, side, Decimal("1E-12"))
    verdict = msgspec.structs.replace(LONG, side=side, stop_loss=stop, take_profit=target)
    fine = msgspec.structs.replace(BTC, tick_size=Decimal("1E-12"))
    assert isinstance(judge(verdict, msgspec.structs.replace(ground(str(price)), rules=fine), 75), Signal)


def test_without_a_range_the_rules_wait() -> None:
    assert argue(msgspec.structs.replace(case(GOOD), atr=0.0)).side is None
