"""How a value crosses HTTP: JSON in snake case, every Decimal a string in plain notation, times in ISO 8601 UTC.

msgspec would write a small Decimal as "1E-7" and read "NaN" and "1_000"; the contract allows neither.
"""

import json
import re
from decimal import Decimal
from typing import Any, Final

import msgspec

TRACE_HEADER: Final = "X-Trace-Id"
"""Carries one id from the scan to the fill, over the bridge and back."""

_PLAIN: Final = re.compile(r"-?\d+(\.\d+)?\Z", re.ASCII)


def plain(value: Decimal) -> str:
    """A finite Decimal without exponent: "0.0000001", never "1E-7".

    Raises:
        ValueError: The value is NaN or infinite.
    """
    if not value.is_finite():
        raise ValueError("a number on the wire must be finite")
    return format(value, "f")


def parse_plain(text: str | int | float) -> Decimal:
    """A Decimal from what a client sent: a plain decimal string or a JSON number.

    Raises:
        ValueError: It is NaN, infinite, or a string with an exponent, underscore, sign "+" or white space.
    """
    if isinstance(text, bool):
        raise ValueError("must be a decimal number")
    if isinstance(text, str):
        if not _PLAIN.match(text):
            raise ValueError("must be a decimal number in plain notation")
        return Decimal(text)
    value = Decimal(repr(text))
    if not value.is_finite():
        raise ValueError("must be a finite number")
    return value


MOST: Final = Decimal(10) ** 15
"""No price, quantity or amount of USDT comes near; a number beyond it would overflow the 28 digits that Decimal computes with."""


def require_finite(*values: Decimal | None) -> None:
    """Refuses NaN and infinity, which msgspec lets through, and numbers too large to compute with.

    Raises:
        ValueError: One of the values is not finite, or not below MOST.
    """
    if any(value is not None and not value.is_finite() for value in values):
        raise ValueError("numbers must be finite")
    if any(value is not None and abs(value) >= MOST for value in values):
        raise ValueError(f"numbers must be below {MOST:f}")


def require_positive(*values: Decimal | None) -> None:
    """Refuses what cannot be a price: zero, a negative number, and what `require_finite` refuses.

    Raises:
        ValueError: One of the values is not a positive number.
    """
    require_finite(*values)
    if any(value is not None and value <= 0 for value in values):
        raise ValueError("prices must be above zero")


def require_leverage(value: Decimal | None) -> None:
    """Refuses a leverage that is not a whole number from 1 up.

    Raises:
        ValueError: It is not.
    """
    if value is not None and not (value.is_finite() and value >= 1 and value == value.to_integral_value()):
        raise ValueError("leverage must be a whole number, 1 or more")


def encode(value: object) -> bytes:
    """JSON bytes of a wire value."""
    return msgspec.json.encode(to_builtins(value))


def to_builtins(value: object) -> Any:
    """A wire value as JSON-ready dicts, lists, strings and numbers."""
    return _plain_all(msgspec.to_builtins(value, builtin_types=(Decimal,)))


def decode[T](body: bytes | str, kind: type[T]) -> T:
    """A wire value from JSON, its type, bounds and field names checked.

    Raises:
        msgspec.ValidationError: The body does not fit the type.
        msgspec.DecodeError: The body is not JSON.
    """
    return msgspec.json.decode(body, type=kind)


def decode_strict[T](body: bytes | str, kind: type[T]) -> T:
    """As `decode`, for bodies from outside: a Decimal written with an exponent, a sign "+" or underscores is refused too.

    JSON numbers are read as they were written, since 6e2 is an exponent without its quotes too.

    Raises:
        msgspec.ValidationError: The body does not fit the type, or a number is not in plain notation.
        msgspec.DecodeError: The body is not JSON.
    """
    value = decode(body, kind)
    _require_plain(json.loads(body, parse_float=str), value, "$")
    return value


def _require_plain(raw: Any, value: object, path: str) -> None:
    if isinstance(value, Decimal):
        if isinstance(raw, str) and not _PLAIN.match(raw):
            raise msgspec.ValidationError(f"must be a decimal number in plain notation - at `{path}`")
    elif isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            if field.encode_name in raw:
                _require_plain(raw[field.encode_name], getattr(value, field.name), f"{path}.{field.encode_name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _require_plain(raw[str(key)], item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _require_plain(raw[position], item, f"{path}[{position}]")


def _plain_all(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, dict):
        return {(plain(key) if isinstance(key, Decimal) else key): _plain_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_all(item) for item in value]
    return value
