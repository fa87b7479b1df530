"""What a user reads where a number stands."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from orchestrator.web import format as fmt

M = "\u2212"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1041.27"), "$1,041.27"),
        (Decimal("-1.13"), f"{M}$1.13"),
        (Decimal(0), "$0.00"),
        (Decimal("-0.00"), "$0.00"),
        (Decimal("0.004"), "$0.0040"),
        (Decimal("0.00003"), "<$0.0001"),
        (Decimal("0.1"), "$0.10"),
        (Decimal("NaN"), "\u2014"),
        (float("inf"), "\u2014"),
        (None, "\u2014"),
        ("not a number", "\u2014"),
    ],
)
def test_a_balance_reads_as_money(value: object, text: str) -> None:
    assert fmt.money(value) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text", "sign"),
    [
        ("3.42", "+$3.42", "up"),
        ("-1.13", f"{M}$1.13", "down"),
        ("0", "$0.00", "flat"),
        (None, "\u2014", "flat"),
        ("-0.00002", f"{M}<$0.0001", "down"),
    ],
)
def test_a_gain_is_signed_and_a_loss_has_the_true_minus(value: str | None, text: str, sign: str) -> None:
    assert (fmt.pnl(value), fmt.sign(value)) == (text, sign)


@pytest.mark.parametrize(
    ("value", "tick", "text"),
    [
        ("64321.5", "0.10", "64,321.5"),
        ("142.37", "0.0100", "142.37"),
        ("0.012346", "0.0000001", "0.0123460"),
        ("64321.5", "0", "64,321.5"),
        ("0.00001234567", None, "0.0000123457"),
        ("123456.789", "1", "123,457"),
        ("5000", "10", "5,000"),
    ],
)
def test_a_price_has_the_decimals_of_its_tick(value: str, tick: str | None, text: str) -> None:
    assert fmt.price(Decimal(value), tick) == text


def test_a_quantity_has_the_decimals_of_its_step() -> None:
    assert fmt.quantity(Decimal("0.0031"), Decimal("0.0001000")) == "0.0031"
    assert fmt.quantity(Decimal(12), Decimal(1)) == "12"


@pytest.mark.parametrize(("value", "text"), [("34.2", "+34.20%"), ("-11.3", f"{M}11.30%"), ("-0.001", "0.00%"), (None, "\u2014")])
def test_a_change_in_percent_is_signed(value: str | None, text: str) -> None:
    assert fmt.percent(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.9, "2 s"), (45, "45 s"), (200, "3 min"), (7300, "2 h"), (3 * 86400 + 5, "3 d"), (-1, "0 s"), (None, "\u2014")],
)
def test_an_age_names_one_unit(seconds: float | None, text: str) -> None:
    assert fmt.age(seconds) == text


def test_times_are_utc_and_unknown_ones_a_dash() -> None:
    at = datetime(2025, 9, 2, 14, 2, tzinfo=UTC)
    assert (fmt.clock_time(at), fmt.day_time(at), fmt.iso(at)) == ("14:02", "2 Sep 14:02", "2025-09-02T14:02:00Z")
    assert (fmt.clock_time(None), fmt.day_time(None), fmt.iso(None)) == ("\u2014", "\u2014", "")


def test_a_track_stays_between_its_ends() -> None:
    assert fmt.track("150", "100", "200") == 500
    assert fmt.track("90", "100", "200") == 0
    assert fmt.track("150", "200", "100") == 500
    assert fmt.track("1", "1", "1") is None
    assert fmt.track(None, "1", "2") is None


def test_a_figure_of_any_kind_reads() -> None:
    assert [fmt.figure(v) for v in (None, True, 1.23456, -3.0, float("nan"), "LONG", 12345.678)] == [
        "\u2014", "yes", "1.235", f"{M}3", "\u2014", "LONG", "12,345.68",
    ]  # fmt: skip


def test_leverage_share_and_large_sums_are_short() -> None:
    assert fmt.leverage(Decimal(20)) == "20\u00d7"
    assert fmt.share(58.3) == "58%"
    assert [fmt.usd(v) for v in (950, 340_000, 1_200_000, -5_000_000_000)] == ["$950", "$340.0k", "$1.2M", f"{M}$5.0B"]
