"""The modes of an account that stand in the way of trading it here, each with what to do about it.

Entries need one-way mode and isolated margin: a symbol has one position, which loses its own margin and no more.

Source: Binance USDⓈ-M "Account Configuration" and error -4168 (read 2026-11): no isolated margin in multi-assets mode.
"""

from engine.core.order import OrderRefusal, no
from engine.ports import AccountModes
from shared.enums import PositionMode
from shared.problem import Problem

HEDGE_MODE = (
    "the account is in hedge mode, in which a symbol can be long and short at once; switch it to one-way mode at the exchange "
    "(Futures, Preferences, Position Mode) to trade it here"
)
MULTI_ASSETS = (
    "the account is in multi-assets mode, in which every asset is margin of every position and the exchange refuses isolated margin; "
    "switch it to single-asset mode at the exchange (Futures, Preferences, Asset Mode) to trade it here"
)


def unfit(modes: AccountModes) -> list[Problem]:
    """Every mode that has to be changed first."""
    found = []
    if modes.position is PositionMode.HEDGE:
        found.append(no(OrderRefusal.HEDGE_MODE, HEDGE_MODE))
    if modes.multi_assets:
        found.append(no(OrderRefusal.MULTI_ASSETS, MULTI_ASSETS))
    return found
