"""How every number on a page reads: one place for the templates and for the live stream, so that a patch equals what it replaces.

Unknown is a dash, never zero. Pages print the minus sign as U+2212; JSON and CSV never pass through here.
"""

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

MINUS = "\u2212"
"""The sign that pages print; the owner's prints were ASCII, so it is one constant."""

UNKNOWN = "\u2014"
TIMES = "\u00d7"

_CENT = Decimal("0.01")
_FINE = Decimal("0.0001")
_FINE_BELOW = Decimal("0.10")
_SIGNIFICANT = 6

type Number = Decimal | int | float | str | None


def money(value: Number) -> str:
    """USDT as a balance reads: `$1,041.27`, `−$1.13`, `$0.0040`, `<$0.0001`, `—` when unknown."""
    number = _finite(value)
    return UNKNOWN if number is None else _sign_of(number, plus="") + _dollars(abs(number))


def pnl(value: Number) -> str:
    """USDT as a gain or a loss: always signed, but for zero, which is neither."""
    number = _finite(value)
    return UNKNOWN if number is None else _sign_of(number, plus="+") + _dollars(abs(number))


def price(value: Number, tick: Number = None) -> str:
    """A price with the decimals of its symbol's tick size; six significant digits where no tick is known."""
    return _by_step(value, tick)


def quantity(value: Number, step: Number = None) -> str:
    """An amount of the base asset with the decimals of its step size."""
    return _by_step(value, step)


def percent(value: Number) -> str:
    """A change in percent points, signed: `+34.20%`, `−11.30%`, `0.00%`."""
    number = _finite(value)
    if number is None:
        return UNKNOWN
    rounded = number.quantize(_CENT, rounding=ROUND_HALF_EVEN)
    return f"{_sign_of(rounded, plus='+')}{abs(rounded):,.2f}%"


def share(value: Number) -> str:
    """A part of a whole in percent points, unsigned and whole: `58%`."""
    number = _finite(value)
    return UNKNOWN if number is None else f"{_sign_of(number, plus='')}{abs(number):.0f}%"


def usd(value: Number) -> str:
    """A large amount, shortened: `$1.2M`, `$340k`, `$950`."""
    number = _finite(value)
    if number is None:
        return UNKNOWN
    size = abs(number)
    for unit, word in ((Decimal(10**9), "B"), (Decimal(10**6), "M"), (Decimal(10**3), "k")):
        if size >= unit:
            return f"{_sign_of(number, plus='')}${size / unit:.1f}{word}"
    return f"{_sign_of(number, plus='')}${size:.0f}"


def leverage(value: Number) -> str:
    """`20×`."""
    number = _finite(value)
    return UNKNOWN if number is None else f"{number:.0f}{TIMES}"


def figure(value: object) -> str:
    """A feature of unknown kind: numbers with four significant digits, words as they are, nothing as a dash."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float | Decimal):
        number = _finite(value)
        if number is None:
            return UNKNOWN
        text = f"{abs(number):,.2f}" if abs(number) >= 100 else _trim(f"{_significant(abs(number), 4):f}")
        return _sign_of(number, plus="") + text
    return str(value)


def sign(value: Number) -> str:
    """`up`, `down` or `flat`: which colour and triangle go with a gain or a loss."""
    number = _finite(value)
    if number is None or number == 0:
        return "flat"
    return "up" if number > 0 else "down"


def age(seconds: float | None) -> str:
    """How old something is: `2 s`, `45 s`, `3 min`, `2 h`, `3 d`."""
    if seconds is None or seconds != seconds:
        return UNKNOWN
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def seconds(value: float | None) -> str:
    """A short time to a tenth: `0.8 s`, `under 0.1 s`."""
    if value is None or value != value:
        return UNKNOWN
    return "under 0.1 s" if value < 0.1 else f"{value:.1f} s"


def clock_time(at: datetime | None) -> str:
    """The time of day in UTC: `14:02`."""
    return UNKNOWN if at is None else at.astimezone(UTC).strftime("%H:%M")


def day_time(at: datetime | None) -> str:
    """Day and time in UTC: `22 Sep 14:02`."""
    return UNKNOWN if at is None else f"{at.astimezone(UTC).day} {at.astimezone(UTC):%b %H:%M}"


def iso(at: datetime | None) -> str:
    """For the datetime attribute of a `<time>`; empty when unknown."""
    return "" if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def track(value: Number, low: Number, high: Number) -> int | None:
    """Where a price stands between two others, 0 to 1000, held inside; None when any is unknown or they coincide."""
    at, start, end = _finite(value), _finite(low), _finite(high)
    if at is None or start is None or end is None or start == end:
        return None
    return max(0, min(1000, int((at - start) / (end - start) * 1000)))


def _finite(value: Number) -> Decimal | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value)) if not isinstance(value, Decimal) else value
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _sign_of(number: Decimal, *, plus: str) -> str:
    if number < 0:
        return MINUS
    return plus if number > 0 else ""


def _dollars(size: Decimal) -> str:
    if 0 < size < _FINE:
        return "<$0.0001"
    if 0 < size < _FINE_BELOW:
        return f"${size.quantize(_FINE, rounding=ROUND_HALF_EVEN):f}"
    return f"${size.quantize(_CENT, rounding=ROUND_HALF_EVEN):,.2f}"


def _by_step(value: Number, step: Number) -> str:
    number, unit = _finite(value), _finite(step)
    if number is None:
        return UNKNOWN
    if unit is None or unit <= 0:
        return _sign_of(number, plus="") + _trim(f"{_significant(abs(number), _SIGNIFICANT):,f}")
    decimals = max(0, -int(unit.normalize().as_tuple().exponent))
    return f"{_sign_of(number, plus='')}{abs(number):,.{decimals}f}"


def _significant(size: Decimal, digits: int) -> Decimal:
    if size == 0:
        return Decimal(0)
    return size.quantize(Decimal(1).scaleb(min(0, size.adjusted() - digits + 1)), rounding=ROUND_HALF_EVEN)


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
