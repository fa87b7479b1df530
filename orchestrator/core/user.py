"""What a user wants done with their money: read by risk, changed only by the user."""

from decimal import Decimal

import msgspec

from shared.enums import Mode


class UserSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A user's own limits. Money in USDT; leverage whole and at least 1.

    `fixed_order_size` is the margin put up per trade; `max_daily_loss` stops entries until the next UTC day of market time.
    """

    mode: Mode
    fixed_order_size: Decimal
    leverage: Decimal
    auto_trade_enabled: bool
    max_daily_loss: Decimal
    max_positions: int
    max_exposure: Decimal
