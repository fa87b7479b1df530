"""What a trader sets about an account: leverage, margin type, position mode; and when the exchange refuses the change.

Source: Binance USDⓈ-M "Error Codes" (read 2026-11).
"""

from deploy.sandbox.core import account as margins
from deploy.sandbox.core.account import Account, Marks
from deploy.sandbox.core.errors import Rejected
from shared.brackets import brackets_of
from shared.margin import ZERO


def set_leverage(account: Account, symbol: str, leverage: int, marks: Marks) -> None:
    """Another leverage for a symbol.

    Raises:
        Rejected: Beyond what the symbol, its position or the margin allow.
    """
    settings, before = account.of(symbol), account.of(symbol).leverage
    held = [position for position in account.held() if position.symbol == symbol]
    if not 1 <= leverage <= brackets_of(symbol)[0][0].max_leverage:
        raise Rejected(-4028, f"Leverage {leverage} is not valid.")
    if settings.isolated and held and leverage < before:
        raise Rejected(-4161, "Leverage reduction is not supported in Isolated Margin Mode with open positions.")
    notional = max((abs(position.quantity) * marks(symbol) for position in held), default=ZERO)
    if notional > margins.most_notional(symbol, leverage):
        raise Rejected(-2027, "Exceeded the maximum allowable position at current leverage.")
    settings.leverage = leverage
    if leverage < before and held and not _covered(account, marks):
        settings.leverage = before
        raise Rejected(-2028, "Leverage is smaller than permitted: insufficient margin balance.")


def set_margin_type(account: Account, symbol: str, *, isolated: bool) -> None:
    """Cross or isolated for a symbol.

    Raises:
        Rejected: It is so already, or a position or an order stands in the way.
    """
    settings = account.of(symbol)
    if settings.isolated == isolated:
        raise Rejected(-4046, "No need to change margin type.")
    if isolated and account.multi_assets:
        raise Rejected(-4168, "Unable to adjust to isolated-margin mode under the Multi-Assets mode.")
    if account.open_orders(symbol):
        raise Rejected(-4047, "Margin type cannot be changed if there exists open orders.")
    if any(position.symbol == symbol for position in account.held()):
        raise Rejected(-4048, "Margin type cannot be changed if there exists position.")
    settings.isolated = isolated


def set_hedge(account: Account, *, hedge: bool) -> None:
    """One-way or hedge mode for every symbol.

    Raises:
        Rejected: It is so already, or a position or an order stands in the way.
    """
    if account.hedge == hedge:
        raise Rejected(-4059, "No need to change position side.")
    if account.open_orders() or account.waiting():
        raise Rejected(-4067, "Position side cannot be changed if there exists open orders.")
    if account.held():
        raise Rejected(-4068, "Position side cannot be changed if there exists position.")
    account.hedge = hedge


def set_multi_assets(account: Account, *, multi_assets: bool) -> None:
    """Multi-assets or single-asset mode.

    Raises:
        Rejected: It is so already, or an isolated symbol or an order stands in the way.
    """
    if account.multi_assets == multi_assets:
        raise Rejected(-4171, "No need to change multi-assets mode.")
    if account.open_orders() or account.waiting():
        raise Rejected(-4167, "Unable to adjust to multi-assets mode with open orders.")
    if multi_assets and any(settings.isolated for settings in account.settings.values()):
        raise Rejected(-4168, "Unable to adjust to multi-assets mode with symbols of isolated margin.")
    account.multi_assets = multi_assets


def _covered(account: Account, marks: Marks) -> bool:
    tied = sum((margins.position_margin(account, p, marks(p.symbol)) for p in margins.cross_positions(account)), ZERO)
    return margins.cross_wallet(account) + margins.cross_unrealized(account, marks) >= tied
