"""What is known of the stops of positions that are kept: what the exchange shows resting now, never what the rows hope for.

Stands beside `stop`, which answers with it. Nothing is done here: what follows an account puts back a stop that is gone.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from orchestrator.core.position import PositionStatus
from orchestrator.core.truth import Shown, held_of, resting_for
from orchestrator.errors import EngineUnavailable
from orchestrator.log import logger
from orchestrator.ports import Engine, PositionRecord, SymbolResult, Trader
from orchestrator.trading.accounts import account_of
from shared.execution import GuardsRequest
from shared.wire import plain

NO_STOP: Final = "no stop is seen at the exchange: it is being put back, or the position is closed"
GONE: Final = "the exchange shows no position any more; its books follow"
CLOSING: Final = "its close is under way"


async def kept(engine: Engine, trader: Trader, positions: Sequence[PositionRecord]) -> list[SymbolResult]:
    """One result for each position; the exchange is asked once, and only where it holds something."""
    real = [position for position in positions if not position.simulated]
    shown = await _shown(engine, trader, real) if real else None
    return [_kept(position, shown) for position in positions]


async def _shown(engine: Engine, trader: Trader, real: Sequence[PositionRecord]) -> Shown | None:
    account = account_of(trader, real[0].mode, [], None, dry_run=False)
    try:
        return await engine.guards(GuardsRequest(account=account, symbols=sorted({position.symbol for position in real})))
    except EngineUnavailable as unavailable:
        logger().warning("what guards an account was not heard", user_id=str(trader.id), error=str(unavailable))
        return None


def _kept(position: PositionRecord, shown: Shown | None) -> SymbolResult:
    if position.status is PositionStatus.CLOSING:
        return SymbolResult(symbol=position.symbol, result="closing", detail=CLOSING)
    if position.simulated:
        stop = f"its stop at {_price(position.stop_loss)} is watched here" if position.stop_loss else "it has no stop"
        return SymbolResult(symbol=position.symbol, result="kept", detail=stop)
    if shown is None:
        return SymbolResult(symbol=position.symbol, result="not_heard", detail=_as_last_read(position))
    held = held_of(shown, position.symbol, position.side)
    if held is None:
        return SymbolResult(symbol=position.symbol, result="closing", detail=GONE)
    stop_order = resting_for(position, held.quantity, shown).stop
    if stop_order is None or stop_order.trigger_price is None:
        return SymbolResult(symbol=position.symbol, result="no_stop_seen", detail=NO_STOP)
    detail = f"its stop at {_price(stop_order.trigger_price)} rests at the exchange"
    return SymbolResult(symbol=position.symbol, result="kept", detail=detail)


def _as_last_read(position: PositionRecord) -> str:
    unheard = "the exchange was not heard, so whether its stop rests is not known now"
    if position.stop_order_id is None or position.protected_at is None or position.stop_loss is None:
        return unheard
    return f"{unheard}; at {position.protected_at:%H:%M:%S} UTC it rested at {_price(position.stop_loss)}"


def _price(value: Decimal) -> str:
    return plain(value.normalize())
