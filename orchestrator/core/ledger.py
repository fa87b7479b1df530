"""What a wallet's history is made of: every change is an entry, and the sum of all entries is the balance.

The last step of the arrow: fill → position → *ledger*. Amounts are signed USDT of eight decimals; a fee is negative.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from orchestrator.core.position import booked
from shared.margin import ZERO


class EntryKind(StrEnum):
    """Why a wallet changed."""

    DEPOSIT = "DEPOSIT"
    REALIZED_PNL = "REALIZED_PNL"
    FEE = "FEE"
    FUNDING = "FUNDING"
    LIQUIDATION_FEE = "LIQUIDATION_FEE"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a wallet; `source` names the fill or settlement it comes from, so that it is booked once."""

    at: datetime
    kind: EntryKind
    amount: Decimal
    source: str


def entries_of_fill(
    client_order_id: str, trade_id: str, at: datetime, *, realized_pnl: Decimal, fee: Decimal, liquidation_fee: Decimal
) -> list[Entry]:
    """What one fill does to the wallet: its profit or loss, its fee, and the liquidator's fee; zeros book nothing.

    Args:
        client_order_id: Of the order that was filled.
        trade_id: The venue's.
        at: Market time of the fill.
        realized_pnl: Gross, signed; zero for an opening fill.
        fee: Positive when paid.
        liquidation_fee: Positive when paid.
    """
    changes = (
        (EntryKind.REALIZED_PNL, booked(realized_pnl)),
        (EntryKind.FEE, -booked(fee)),
        (EntryKind.LIQUIDATION_FEE, -booked(liquidation_fee)),
    )
    return [
        Entry(at=at, kind=kind, amount=amount, source=f"{kind.lower()}:{client_order_id}:{trade_id}")
        for kind, amount in changes
        if amount != ZERO
    ]


def entry_of_funding(position_id: str, at: datetime, amount: Decimal) -> Entry:
    """What one funding settlement does to the wallet."""
    return Entry(at=at, kind=EntryKind.FUNDING, amount=booked(amount), source=f"funding:{position_id}:{at.isoformat()}")
