"""The end of a real demo: the books are held against all that the exchange has, orders and stops too."""

from decimal import Decimal
from typing import Any

import pytest

from deploy.real import Books, at_rest, differences

BOOKS = Books(ledger=Decimal("9990.5"), held={("SOLUSDT", "LONG"): Decimal(3)}, unknown_orders=0)


def truth(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "wallet": "9990.50",
        "positions": [{"symbol": "SOLUSDT", "quantity": "3", "stopped": "3"}],
        "resting": [],
        "waiting": [waiting("nt-s-1", "SOLUSDT"), waiting("nt-t-1", "SOLUSDT")],
        "exchange": {"imbalance": "0"},
    }
    return whole | changes


def waiting(client_id: str, symbol: str) -> dict[str, Any]:
    return {"client_id": client_id, "symbol": symbol}


def test_books_and_exchange_that_agree_in_everything_are_equal() -> None:
    assert at_rest(BOOKS, truth()) == []


@pytest.mark.parametrize("where", ["resting", "waiting"])
def test_an_order_of_ours_without_its_live_position_is_told(where: str) -> None:
    rows = [*truth()[where], waiting("nt-s-9", "ETHUSDT")]
    assert at_rest(BOOKS, truth(**{where: rows})) == ["nt-s-9 rests in ETHUSDT without a live position"]


def test_an_order_of_somebody_else_is_nobodys_business() -> None:
    assert at_rest(BOOKS, truth(resting=[waiting("web_1", "ETHUSDT")])) == []


def test_a_live_position_whose_stops_do_not_cover_all_of_it_is_told() -> None:
    positions = [{"symbol": "SOLUSDT", "quantity": "3", "stopped": "2.5"}]
    assert at_rest(BOOKS, truth(positions=positions)) == ["SOLUSDT: stops for 2.5 of 3"]


def test_a_short_position_is_held_against_its_stops_by_its_size() -> None:
    books = Books(ledger=Decimal("9990.5"), held={("SOLUSDT", "SHORT"): Decimal(3)}, unknown_orders=0)
    assert at_rest(books, truth(positions=[{"symbol": "SOLUSDT", "quantity": "-3", "stopped": "3"}])) == []
    assert at_rest(books, truth(positions=[{"symbol": "SOLUSDT", "quantity": "-3", "stopped": "0"}])) == [
        "SOLUSDT: stops for 0 of 3"
    ]


@pytest.mark.parametrize("status", ["CLAIMED", "SENT", "UNKNOWN"])
def test_an_order_that_nobody_has_settled_is_told(status: str) -> None:
    books = Books(ledger=BOOKS.ledger, held=BOOKS.held, unknown_orders=0, under_way={"nt-e-4": status})
    assert at_rest(books, truth()) == [f"nt-e-4 is {status} still"]


def test_a_wallet_or_a_size_that_differs_is_told_while_trading_goes_on_too() -> None:
    positions = [{"symbol": "SOLUSDT", "quantity": "2", "stopped": "3"}]
    told = [
        "the ledger says 9990.5, the wallet holds 9990.4",
        "SOLUSDT LONG: 3 in the books, 2 at the exchange",
    ]
    assert differences(BOOKS, truth(wallet="9990.4", positions=positions)) == told
    assert at_rest(BOOKS, truth(wallet="9990.4", positions=positions)) == told
