"""How a single number crosses HTTP."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.wire import encode, parse_plain, plain, require_finite, require_leverage, require_positive


def test_a_small_number_is_written_without_an_exponent() -> None:
    assert plain(Decimal("1E-7")) == "0.0000001"


def test_a_large_number_is_written_without_an_exponent() -> None:
    assert plain(Decimal("1E+3")) == "1000"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_never_written(number: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        plain(Decimal(number))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_never_taken(number: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        require_finite(Decimal(1), None, Decimal(number))


def test_a_number_too_large_to_compute_with_is_never_taken() -> None:
    with pytest.raises(ValueError, match="below"):
        require_finite(Decimal("9" * 100))


@pytest.mark.parametrize("price", ["0", "-1", "NaN"])
def test_a_price_is_above_zero(price: str) -> None:
    with pytest.raises(ValueError, match=r"above zero|finite"):
        require_positive(Decimal(price))


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_what_was_written_reads_back_as_the_same_number(number: Decimal) -> None:
    assert parse_plain(plain(number)) == number


@pytest.mark.parametrize("text", ["1e5", "+1", "1_000", " 1", "1 ", "NaN", "", "-", ".", "١"])
def test_text_that_is_not_a_plain_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="plain notation"):
        parse_plain(text)


def test_true_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="decimal number"):
        parse_plain(True)


def test_a_json_number_keeps_its_written_digits() -> None:
    assert parse_plain(0.1) == Decimal("0.1")


@pytest.mark.parametrize("leverage", ["0", "1.5", "NaN", "-3"])
def test_a_leverage_must_be_whole_and_at_least_one(leverage: str) -> None:
    with pytest.raises(ValueError, match="leverage"):
        require_leverage(Decimal(leverage))


def test_decimals_in_lists_and_keys_are_plain_strings_too() -> None:
    assert encode({"a": [Decimal("1E-7")], "b": {Decimal("1E+2"): 1}}) == b'{"a":["0.0000001"],"b":{"100":1}}'
