"""What a smoke run buys: the most traded symbol that a small margin can hold, at the least leverage that lifts it over the least notional."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

import msgspec

from deploy.errors import DeployError
from shared.margin import round_to_tick

SPARE: Final = Decimal("1.1")
"""Above the least notional, so that rounding down to the step and a moving price stay above it."""

MOST_LEVERAGE: Final = 20
STOP_RATIO: Final = Decimal("0.02")
TARGET_RATIO: Final = Decimal("0.04")


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol cheap enough for a small order: the least notional in USDT, its steps, and where it trades now."""

    symbol: str
    least_notional: Decimal
    tick_size: Decimal
    price: Decimal
    quote_volume: Decimal


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried: a LONG of one symbol."""

    instrument: Instrument
    leverage: int
    notional: Decimal
    stop_loss: Decimal
    take_profit: Decimal


def plan(instruments: Sequence[Instrument], margin: Decimal) -> Order:
    """The most traded symbol that this margin can hold, at the least leverage that lifts it above the least notional.

    Raises:
        DeployError: No symbol is cheap enough at MOST_LEVERAGE.
    """
    for instrument in sorted(instruments, key=lambda one: (-one.quote_volume, one.symbol)):
        leverage = int((instrument.least_notional * SPARE / margin).to_integral_value(rounding=ROUND_CEILING))
        if leverage <= MOST_LEVERAGE:
            leverage = max(leverage, 1)
            return Order(
                instrument=instrument,
                leverage=leverage,
                notional=margin * leverage,
                stop_loss=round_to_tick(instrument.price * (1 - STOP_RATIO), instrument.tick_size),
                take_profit=round_to_tick(instrument.price * (1 + TARGET_RATIO), instrument.tick_size),
            )
    raise DeployError(f"no symbol can be bought with a margin of {margin} USDT at leverage {MOST_LEVERAGE}")


def instruments_of(info: dict[str, Any], tickers: list[dict[str, Any]]) -> list[Instrument]:
    """What exchangeInfo and the 24 h tickers tell of USDT perpetuals that trade.

    The least notional takes one step of quantity into account: of a coin at 60,000 USDT with a step of 0.001, 60 USDT is the least.
    """
    seen = {row["symbol"]: row for row in tickers}
    found: list[Instrument] = []
    for row in info["symbols"]:
        fits = row["contractType"] == "PERPETUAL" and row["status"] == "TRADING" and row["quoteAsset"] == "USDT"
        if not fits or row["symbol"] not in seen:
            continue
        filters = {one["filterType"]: one for one in row["filters"]}
        price = Decimal(str(seen[row["symbol"]]["lastPrice"]))
        step = max(Decimal(filters[name]["stepSize"]) for name in ("LOT_SIZE", "MARKET_LOT_SIZE"))
        least = max(Decimal(str(filters["MIN_NOTIONAL"]["notional"])), Decimal(5)) + step * price
        found.append(
            Instrument(
                symbol=row["symbol"],
                least_notional=max(least, Decimal(filters["LOT_SIZE"]["minQty"]) * price),
                tick_size=Decimal(filters["PRICE_FILTER"]["tickSize"]),
                price=price,
                quote_volume=Decimal(str(seen[row["symbol"]]["quoteVolume"])),
            )
        )
    return found
