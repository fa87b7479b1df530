"""What a position is and how bars, funding and fills change it. Money state changes only from a fill.

Stands between order and ledger. Everything is isolated margin, one-way mode, judged on the mark price.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from shared.enums import Mode, Side


class PositionStatus(StrEnum):
    """Where a position stands; CLOSING means that a close order is under way."""

    OPEN = "OPEN"
    CLOSING = "CLOSING"
    CLOSED_WIN = "CLOSED_WIN"
    CLOSED_LOSS = "CLOSED_LOSS"


class CloseReason(StrEnum):
    """Why a position was closed. TARGET, STOP, TRAILING and LIQUIDATION are triggers; the others somebody's wish."""

    MANUAL = "MANUAL"
    STOP = "STOP"
    TARGET = "TARGET"
    TRAILING = "TRAILING"
    LIQUIDATION = "LIQUIDATION"
    PANIC = "PANIC"


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """One position as the rules see it.

    `size` is what is left in base asset, `opened_size` what the entry filled. `margin` is what the user put up for what is left,
    `isolated_margin` the same with funding settled against it. `fees` (positive when paid, liquidation fee included), `funding`
    (signed) and `realized_pnl` (gross) are running sums in USDT; `pnl` is net and known when nothing is left. Bars are judged from
    `judged_until`, funding is settled after `funded_until`, both market time.
    """

    symbol: str
    side: Side
    mode: Mode
    dry_run: bool
    status: PositionStatus
    size: Decimal
    opened_size: Decimal
    entry_price: Decimal
    exit_price: Decimal | None = None
    stop_loss: Decimal | None
    take_profit: Decimal | None
    trailing_ratio: Decimal | None = None
    trailing_best: Decimal | None = None
    leverage: Decimal
    margin: Decimal
    isolated_margin: Decimal
    maintenance_ratio: Decimal
    maintenance_amount: Decimal
    liquidation_fee_ratio: Decimal
    liquidation_price: Decimal | None
    tick_size: Decimal
    step_size: Decimal
    realized_pnl: Decimal
    fees: Decimal
    funding: Decimal
    pnl: Decimal | None = None
    close_reason: CloseReason | None = None
    judged_until: datetime
    funded_until: datetime
    unprotected_seconds: float | None = None
    opened_at: datetime
    closed_at: datetime | None = None
