"""What the REST API accepts, and how its numbers are read: plain decimals with bounds, each fault named by its field."""

import json
import re
from decimal import Decimal
from typing import Any, Literal

import msgspec
from litestar import Request
from msgspec import UNSET, UnsetType

from orchestrator.web.problems import bad_fields
from shared.wire import MOST, parse_plain

type Number = str | int | float | UnsetType

MONEY_DECIMALS = 8
PRICE_DECIMALS = 12
"""What the columns of amounts and ratios, and those of prices and quantities, keep; more would be rounded unseen."""

_MAX_DIGITS = 24
_AT = re.compile(r"(.*) - at `\$\.(\w+)")


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The head of what the API accepts; unknown fields are refused."""


class RegisterBody(Body, frozen=True, kw_only=True):
    """A new person."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "RegisterBody(***)"


class LoginBody(Body, frozen=True, kw_only=True):
    """Who logs in; `totp` is for those who use two-step sign-in."""

    username: str
    password: str
    totp: str | None = None

    def __repr__(self) -> str:
        return "LoginBody(***)"


class SettingsBody(Body, frozen=True, kw_only=True):
    """Settings to change; absent means unchanged. `version`, when given, must be the one that was read."""

    mode: Literal["PAPER", "REAL"] | UnsetType = UNSET
    fixed_order_size: Number = UNSET
    leverage: Number = UNSET
    auto_trade_enabled: bool | UnsetType = UNSET
    max_daily_loss: Number = UNSET
    max_positions: Number = UNSET
    max_exposure: Number = UNSET
    version: int | UnsetType = UNSET


class CloseBody(Body, frozen=True, kw_only=True):
    """How much of a position to close, base asset; absent means all."""

    quantity: Number = UNSET


class AmendBody(Body, frozen=True, kw_only=True):
    """New stop, target or trailing distance (a ratio of the price, 0 disarms); absent means unchanged."""

    stop_loss: Number = UNSET
    take_profit: Number = UNSET
    trailing: Number = UNSET


class StopBody(Body, frozen=True, kw_only=True):
    """Whether open positions stay protected or are closed."""

    positions: Literal["keep", "close"]


class ApiKeyBody(Body, frozen=True, kw_only=True):
    """A key pair of the exchange."""

    api_key: str
    api_secret: str

    def __repr__(self) -> str:
        return "ApiKeyBody(***)"


class CodeBody(Body, frozen=True, kw_only=True):
    """A code of two-step sign-in."""

    code: str

    def __repr__(self) -> str:
        return "CodeBody(***)"


class Numbers:
    """Reads the numbers of one body and remembers each fault; `done` ends the request if there was one."""

    def __init__(self, exponents: frozenset[str] = frozenset()) -> None:
        self._exponents = exponents
        self._faults: dict[str, str] = {}

    @classmethod
    async def of(cls, request: Request[Any, Any, Any], kind: type[Body]) -> "Numbers":
        """For a request, whose raw body tells `1e3` from `1000` and `"true"` from `true`: the framework reads both as the same.

        Raises:
            ProblemError: 400; a field has another type than the body's.
        """
        body = await request.body()
        if not body:
            return cls()
        try:
            msgspec.json.decode(body, type=kind | None)
        except msgspec.ValidationError as error:
            raise bad_fields(_type_fault(str(error))) from error
        written = json.loads(body, parse_float=_Written)
        return cls(
            frozenset(name for name, value in (written or {}).items() if isinstance(value, _Written) and "e" in value.lower())
        )

    def read(
        self,
        name: str,
        given: Number,
        *,
        above: Decimal | int = 0,
        least: Decimal | int | None = None,
        most: Decimal | int | None = None,
        decimals: int = MONEY_DECIMALS,
    ) -> Decimal | None:
        """A number within bounds, `least` taking the place of `above`; None when absent or at fault."""
        if isinstance(given, UnsetType):
            return None
        try:
            value = self._plain(name, given, decimals)
        except ValueError as error:
            self.fault(name, str(error))
            return None
        if least is not None and value < least:
            self.fault(name, f"must be {least} or more")
        elif least is None and value <= above:
            self.fault(name, f"must be above {above}")
        elif most is not None and value > most:
            self.fault(name, f"must not be above {most}")
        else:
            return value
        return None

    def whole(self, name: str, given: Number, *, least: int, most: int) -> Decimal | None:
        """A whole number within bounds; None when absent or at fault."""
        value = self.read(name, given, least=least, most=most)
        if value is not None and value != value.to_integral_value():
            self.fault(name, "must be a whole number")
        return value

    def fault(self, name: str, sentence: str) -> None:
        """Note what is wrong with a field; the first fault of a field stays."""
        self._faults.setdefault(name, sentence)

    def done(self) -> None:
        """End the request if any field was at fault.

        Raises:
            ProblemError: 400 with a sentence for each field.
        """
        if self._faults:
            raise bad_fields(self._faults)

    def _plain(self, name: str, given: str | int | float, decimals: int) -> Decimal:
        if name in self._exponents:
            raise ValueError("must be a decimal number in plain notation")
        return given_number(given, decimals)


def given_number(given: str | int | float, decimals: int) -> Decimal:
    """A number that somebody gave, by the API or in a form: plain, small enough to compute with and to be kept as it is.

    Raises:
        ValueError: It is not; the message ends a sentence that begins with the field.
    """
    value = parse_plain(given)
    if abs(value) >= MOST:
        raise ValueError("is too large")
    if len(value.as_tuple().digits) > _MAX_DIGITS:
        raise ValueError("has too many digits")
    if value != round(value, decimals):
        raise ValueError(f"must not have more than {decimals} decimals")
    return value


class _Written(str):
    """A JSON number with a point or an exponent, as it was written."""

    __slots__ = ()


def _type_fault(message: str) -> dict[str, str]:
    found = _AT.match(message)
    return {found[2]: found[1]} if found else {"body": message}
