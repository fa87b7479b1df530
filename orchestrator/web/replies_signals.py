"""What the REST API answers of signals and of entries that wait."""

from datetime import datetime
from typing import Any
from uuid import UUID

from orchestrator.ports import ApprovalRow, Decision, SignalRow, SignalView
from orchestrator.web.replies import Reply, amount


class DecisionReply(Reply, frozen=True, kw_only=True):
    """What became of a signal for the user who asks."""

    kind: str
    position_id: UUID | None
    reason: str | None
    detail: str | None


class SignalReply(Reply, frozen=True, kw_only=True):
    """A signal; outcome says which barrier came first, null while open."""

    id: UUID
    symbol: str
    side: str
    confidence: int
    signal_price: str
    stop_loss: str
    take_profit: str
    reward_risk: float
    reasoning: str
    analyst: str
    model: str
    features: dict[str, Any]
    whale: dict[str, Any] | None
    candle_close: datetime
    created_at: datetime
    outcome: str | None
    outcome_at: datetime | None
    decision: DecisionReply | None


class Signals(Reply, frozen=True, kw_only=True):
    """Signals, the newest first."""

    signals: list[SignalReply]


class ApprovalReply(Reply, frozen=True, kw_only=True):
    """An entry that waits; size is the notional in USDT, expires_at wall time."""

    id: UUID
    signal: SignalReply
    size: str
    margin: str
    leverage: str
    expires_at: datetime


class Approvals(Reply, frozen=True, kw_only=True):
    """Entries that wait, the first to expire first."""

    approvals: list[ApprovalReply]


class Approved(Reply, frozen=True, kw_only=True):
    """The position that an approval opened."""

    id: UUID
    position_id: UUID
    symbol: str


class Declined(Reply, frozen=True, kw_only=True):
    """An entry that waits no more."""

    id: UUID
    status: str


def signal_of(row: SignalRow, decision: Decision | None) -> SignalReply:
    """A signal with what was done with it."""
    return SignalReply(
        id=row.id,
        symbol=row.symbol,
        side=row.side,
        confidence=row.confidence,
        signal_price=amount(row.signal_price),
        stop_loss=amount(row.stop_loss),
        take_profit=amount(row.take_profit),
        reward_risk=row.reward_risk,
        reasoning=row.reasoning,
        analyst=row.analyst,
        model=row.model,
        features=row.features,
        whale=row.whale,
        candle_close=row.candle_close,
        created_at=row.created_at,
        outcome=row.outcome,
        outcome_at=row.outcome_at,
        decision=None if decision is None else _decision_of(decision),
    )


def view_of(view: SignalView) -> SignalReply:
    """A signal as a user asked for it."""
    return signal_of(view.signal, view.decision)


def approval_of(row: ApprovalRow) -> ApprovalReply:
    """An entry that waits."""
    return ApprovalReply(
        id=row.id,
        signal=signal_of(row.signal, None),
        size=amount(row.notional),
        margin=amount(row.margin),
        leverage=amount(row.leverage),
        expires_at=row.expires_at,
    )


def _decision_of(decision: Decision) -> DecisionReply:
    return DecisionReply(kind=decision.kind, position_id=decision.position_id, reason=decision.reason, detail=decision.detail)
