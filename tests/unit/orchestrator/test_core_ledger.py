"""What fills and funding do to a wallet, each once and to eight decimals."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.ledger import EntryKind, entries_of_fill, entry_of_funding
from orchestrator.core.position import booked
from tests.builders import NOON, d

AMOUNTS = st.decimals("-100000", "100000", places=12)
COSTS = st.decimals("0", "1000", places=12)


def test_an_opening_fill_costs_its_fee_and_nothing_else() -> None:
    (entry,) = entries_of_fill("nt-e-a", "1", NOON, realized_pnl=d(0), fee=d("0.5"), liquidation_fee=d(0))
    assert (entry.kind, entry.amount, entry.at) == (EntryKind.FEE, d("-0.5"), NOON)


def test_a_liquidation_books_profit_fee_and_liquidation_fee_apart() -> None:
    entries = entries_of_fill("nt-c-a", "1", NOON, realized_pnl=d(-50), fee=d("2.5"), liquidation_fee=d("47.5"))
    assert [(entry.kind, entry.amount) for entry in entries] == [
        (EntryKind.REALIZED_PNL, d(-50)),
        (EntryKind.FEE, d("-2.5")),
        (EntryKind.LIQUIDATION_FEE, d("-47.5")),
    ]
    assert len({entry.source for entry in entries}) == 3


@given(AMOUNTS, COSTS, COSTS)
def test_entries_sum_to_what_the_fill_did_to_the_wallet(realized: Decimal, fee: Decimal, liquidation: Decimal) -> None:
    entries = entries_of_fill("nt-c-a", "1", NOON, realized_pnl=realized, fee=fee, liquidation_fee=liquidation)
    assert sum((entry.amount for entry in entries), Decimal(0)) == booked(realized) - booked(fee) - booked(liquidation)


def test_the_same_settlement_has_the_same_source() -> None:
    assert entry_of_funding("p", NOON, d("-0.1")).source == entry_of_funding("p", NOON, d("-0.1")).source
    assert entry_of_funding("p", NOON, d("-0.1")).source != entry_of_funding("q", NOON, d("-0.1")).source
