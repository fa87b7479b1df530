"""What a wallet's history is made of: every change is an entry, and the sum of all entries is the balance.

The last step of the arrow: fill → position → *ledger*. Amounts are signed USDT of eight decimals; a fee is negative.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from orchestrator.core.position import booked
from shared.execution import Income
from shared.margin import ZERO


class EntryKind(StrEnum):
    """Why a wallet changed. TRANSFER moved money in or out at the exchange; EXTERNAL is what else the exchange booked and is not ours."""

    DEPOSIT = "DEPOSIT"
    REALIZED_PNL = "REALIZED_PNL"
    FEE = "FEE"
    FUNDING = "FUNDING"
    LIQUIDATION_FEE = "LIQUIDATION_FEE"
    TRANSFER = "TRANSFER"
    EXTERNAL = "EXTERNAL"


NO_RESULT: Final = frozenset({EntryKind.DEPOSIT, EntryKind.TRANSFER, EntryKind.EXTERNAL})
"""Changes of a wallet that our trading neither won nor lost: a day's limit does not count them."""


OF_TRADES: Final = frozenset({EntryKind.REALIZED_PNL, EntryKind.FEE})

INCOME_KINDS: Final = {
    "REALIZED_PNL": EntryKind.REALIZED_PNL,
    "COMMISSION": EntryKind.FEE,
    "FUNDING_FEE": EntryKind.FUNDING,
    "INSURANCE_CLEAR": EntryKind.LIQUIDATION_FEE,
    "TRANSFER": EntryKind.TRANSFER,
    "INTERNAL_TRANSFER": EntryKind.TRANSFER,
    "CROSS_COLLATERAL_TRANSFER": EntryKind.TRANSFER,
    "COIN_SWAP_DEPOSIT": EntryKind.TRANSFER,
    "COIN_SWAP_WITHDRAW": EntryKind.TRANSFER,
    "STRATEGY_UMFUTURES_TRANSFER": EntryKind.TRANSFER,
}
"""What the exchange calls a change of the wallet, and what we do."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a wallet; `source` names the fill or settlement it comes from, so that it is booked once."""

    at: datetime
    kind: EntryKind
    amount: Decimal
    source: str


def entries_of_fill(
    origin: str, trade_id: str, at: datetime, *, realized_pnl: Decimal, fee: Decimal, liquidation_fee: Decimal
) -> list[Entry]:
    """What one fill does to the wallet: its profit or loss, its fee, and the liquidator's fee; zeros book nothing.

    Args:
        origin: What the trade id is unique in: the order's client id, or for a trade at the exchange its symbol.
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
        Entry(at=at, kind=kind, amount=amount, source=source_of_trade(kind, origin, trade_id))
        for kind, amount in changes
        if amount != ZERO
    ]


def source_of_trade(kind: EntryKind, origin: str, trade_id: str) -> str:
    """The source of what a trade did to the wallet, the same whether the trade is told or the exchange's income row of it."""
    return f"{kind.lower()}:{origin}:{trade_id}"


def entry_of_income(income: Income) -> Entry | None:
    """What an income row of the exchange does to the wallet, before it is known whose it is; None where it is of another asset.

    A row of a trade has the same source as the trade's own entry, so that whichever is heard first books it. What is no trade, funding,
    insurance or transfer is EXTERNAL. Source: USDⓈ-M "Get Income History", incomeType (2026-05).
    """
    if income.asset != "USDT":
        return None
    kind = INCOME_KINDS.get(income.kind, EntryKind.EXTERNAL)
    source = f"income:{income.kind}:{income.symbol}:{income.income_id}"
    if kind in OF_TRADES and income.trade_id:
        source = source_of_trade(kind, income.symbol, income.trade_id)
    return Entry(at=income.at, kind=kind, amount=booked(income.amount), source=source)


def paid_elsewhere(income: Income, fee: Decimal) -> Entry:
    """Gives back to the USDT wallet the fee of a trade that was paid in another coin.

    The trade's result stays net of its fee, at its worth in USDT; the wallet in USDT did not pay it.

    Args:
        income: The exchange's row of the fee, in that coin.
        fee: As the trade's fee was booked, negative when paid.
    """
    source = f"paid-in:{income.asset}:{income.symbol}:{income.trade_id}"
    return Entry(at=income.at, kind=EntryKind.EXTERNAL, amount=-fee, source=source)


def entry_of_funding(position_id: str, at: datetime, amount: Decimal) -> Entry:
    """What one funding settlement does to the wallet."""
    return Entry(at=at, kind=EntryKind.FUNDING, amount=booked(amount), source=f"funding:{position_id}:{at.isoformat()}")
