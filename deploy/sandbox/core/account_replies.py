"""Signed replies about an account: balances, positions, brackets and settings, spelt as the exchange spells them.

Source: Binance USDⓈ-M "Account Endpoints" and "Trade Endpoints" (read 2026-11); shapes as in the official SDK's models.
"""

from decimal import Decimal
from typing import Any

from deploy.sandbox.core import account as margins
from deploy.sandbox.core.account import Account, Marks, Position
from deploy.sandbox.core.rules import SymbolRules
from shared.brackets import brackets_of
from shared.margin import MAKER_FEE_RATIO, TAKER_FEE_RATIO, ZERO

Row = dict[str, Any]


def money(amount: Decimal) -> str:
    """Eight decimals, plain."""
    return f"{amount:.8f}"


class Standing:
    """What one account stands at, summed once for a reply.

    Args:
        account: Whose.
        marks: Mark prices of the moment.
    """

    def __init__(self, account: Account, marks: Marks) -> None:
        held = account.held()
        self.account, self.marks = account, marks
        self.cross = margins.cross_wallet(account)
        self.cross_unrealized = margins.cross_unrealized(account, marks)
        self.unrealized = sum((p.unrealized(marks(p.symbol)) for p in held), ZERO)
        self.maintenance = sum((margins.maintenance(p, marks(p.symbol)) for p in held), ZERO)
        self.positions = sum((margins.position_margin(account, p, marks(p.symbol)) for p in held), ZERO)
        self.orders = sum((self.ordered(symbol) for symbol in margins.ordered_symbols(account)), ZERO)
        self.available = margins.available(account, marks)

    def ordered(self, symbol: str) -> Decimal:
        """What resting orders of a symbol tie up."""
        return margins.order_margin(self.account, symbol, self.marks(symbol))

    def asset(self) -> Row:
        """The only asset, USDT."""
        account = self.account
        return {
            "asset": "USDT",
            "walletBalance": money(account.wallet),
            "unrealizedProfit": money(self.unrealized),
            "marginBalance": money(account.wallet + self.unrealized),
            "maintMargin": money(self.maintenance),
            "initialMargin": money(self.positions + self.orders),
            "positionInitialMargin": money(self.positions),
            "openOrderInitialMargin": money(self.orders),
            "crossWalletBalance": money(self.cross),
            "crossUnPnl": money(self.cross_unrealized),
            "availableBalance": money(self.available),
            "maxWithdrawAmount": money(max(ZERO, min(self.available, self.cross))),
            "marginAvailable": True,
            "updateTime": account.updated_ms,
        }


def account_v3(account: Account, marks: Marks) -> Row:
    """GET /fapi/v3/account."""
    standing = Standing(account, marks)
    asset = standing.asset()
    totals = {
        "totalInitialMargin": "initialMargin",
        "totalMaintMargin": "maintMargin",
        "totalWalletBalance": "walletBalance",
        "totalUnrealizedProfit": "unrealizedProfit",
        "totalMarginBalance": "marginBalance",
        "totalPositionInitialMargin": "positionInitialMargin",
        "totalOpenOrderInitialMargin": "openOrderInitialMargin",
        "totalCrossWalletBalance": "crossWalletBalance",
        "totalCrossUnPnl": "crossUnPnl",
        "availableBalance": "availableBalance",
        "maxWithdrawAmount": "maxWithdrawAmount",
    }
    return {name: asset[key] for name, key in totals.items()} | {
        "assets": [asset],
        "positions": [_short_position(standing, position) for position in account.held()],
    }


def account_v2(account: Account, marks: Marks, symbols: list[str]) -> Row:
    """GET /fapi/v2/account: as v3, with every symbol and its leverage."""
    config = account_config(account)
    words = ("feeTier", "canTrade", "canDeposit", "canWithdraw", "updateTime", "multiAssetsMargin", "tradeGroupId")
    standing = Standing(account, marks)
    sides = ("LONG", "SHORT") if account.hedge else ("BOTH",)
    shown = [account.positions.get((symbol, side)) or Position(symbol=symbol, side=side) for symbol in symbols for side in sides]
    rows = [_long_position(standing, position) for position in shown]
    return {name: config[name] for name in words} | {"feeBurn": False} | account_v3(account, marks) | {"positions": rows}


def _long_position(standing: Standing, position: Position) -> Row:
    account = standing.account
    settings = account.of(position.symbol)
    ordered = standing.ordered(position.symbol) if position.symbol in account.resting else ZERO
    row = _short_position(standing, position) if position.quantity else _flat(position)
    initial = Decimal(row["initialMargin"])
    return row | {
        "positionInitialMargin": row["initialMargin"],
        "openOrderInitialMargin": money(ordered),
        "initialMargin": money(initial + ordered),
        "leverage": str(settings.leverage),
        "isolated": settings.isolated,
        "entryPrice": plain(position.entry_price),
        "breakEvenPrice": plain(break_even(position)) if position.quantity else "0",
        "maxNotional": str(margins.most_notional(position.symbol, settings.leverage)),
        "bidNotional": money(_resting(account, position, "BUY")),
        "askNotional": money(_resting(account, position, "SELL")),
    }


def _flat(position: Position) -> Row:
    none = dict.fromkeys(
        ("unrealizedProfit", "isolatedMargin", "notional", "isolatedWallet", "initialMargin", "maintMargin"), "0"
    )
    return {
        "symbol": position.symbol,
        "positionSide": position.side,
        "positionAmt": "0",
        **none,
        "updateTime": position.updated_ms,
    }


def _short_position(standing: Standing, position: Position) -> Row:
    mark = standing.marks(position.symbol)
    isolated = standing.account.of(position.symbol).isolated
    margin = margins.position_margin(standing.account, position, mark)
    return {
        "symbol": position.symbol,
        "positionSide": position.side,
        "positionAmt": f"{position.quantity:f}",
        "unrealizedProfit": money(position.unrealized(mark)),
        "isolatedMargin": money(position.isolated_wallet + position.unrealized(mark) if isolated else ZERO),
        "notional": money(position.quantity * mark),
        "isolatedWallet": money(position.isolated_wallet),
        "initialMargin": money(margin),
        "maintMargin": money(margins.maintenance(position, mark)),
        "updateTime": position.updated_ms,
    }


def balance(account: Account, marks: Marks) -> list[Row]:
    """GET /fapi/v2/balance and /fapi/v3/balance."""
    asset = Standing(account, marks).asset()
    names = ("crossWalletBalance", "crossUnPnl", "availableBalance", "maxWithdrawAmount", "marginAvailable", "updateTime")
    row = {"accountAlias": "sandbox", "asset": "USDT", "balance": asset["walletBalance"]}
    return [row | {name: asset[name] for name in names}]


def position_v3(standing: Standing, position: Position, rules: SymbolRules) -> Row:
    """One row of GET /fapi/v3/positionRisk, which has neither leverage nor margin type."""
    mark, margin = standing.marks(position.symbol), standing.ordered(position.symbol)
    row = _short_position(standing, position)
    initial = Decimal(row["initialMargin"])
    return {
        "symbol": position.symbol,
        "positionSide": position.side,
        "positionAmt": f"{position.quantity:.{rules.quantity_decimals}f}",
        "entryPrice": plain(position.entry_price),
        "breakEvenPrice": plain(break_even(position)),
        "markPrice": money(mark),
        "unRealizedProfit": row["unrealizedProfit"],
        "liquidationPrice": plain(margins.liquidation_price(standing.account, position, standing.marks)),
        "isolatedMargin": row["isolatedMargin"],
        "notional": row["notional"],
        "marginAsset": rules.quote_asset,
        "isolatedWallet": row["isolatedWallet"],
        "initialMargin": money(initial + margin),
        "maintMargin": row["maintMargin"],
        "positionInitialMargin": row["initialMargin"],
        "openOrderInitialMargin": money(margin),
        "adl": 2 if position.quantity else 0,
        "bidNotional": money(_resting(standing.account, position, "BUY")),
        "askNotional": money(_resting(standing.account, position, "SELL")),
        "updateTime": position.updated_ms,
    }


def position_v2(standing: Standing, position: Position, rules: SymbolRules) -> Row:
    """One row of GET /fapi/v2/positionRisk."""
    settings = standing.account.of(position.symbol)
    row = position_v3(standing, position, rules)
    return row | {
        "marginType": "isolated" if settings.isolated else "cross",
        "isAutoAddMargin": "false",
        "leverage": str(settings.leverage),
        "maxNotionalValue": str(margins.most_notional(position.symbol, settings.leverage)),
    }


def break_even(position: Position) -> Decimal:
    """The price at which closing pays both taker fees."""
    sign = 1 if position.quantity > 0 else -1
    return position.entry_price * (1 + sign * TAKER_FEE_RATIO) / (1 - sign * TAKER_FEE_RATIO)


def plain(price: Decimal) -> str:
    """A computed price, eight decimals at most, "0" for none."""
    return f"{price.quantize(Decimal('0.00000001')).normalize():f}" if price else "0"


def _resting(account: Account, position: Position, side: str) -> Decimal:
    orders = account.open_orders(position.symbol)
    return sum((o.remaining * o.price for o in orders if o.side == side and o.position_side == position.side), ZERO)


def brackets(symbol: str) -> Row:
    """One row of GET /fapi/v1/leverageBracket; numbers are numbers there."""
    rows = [
        {
            "bracket": number,
            "initialLeverage": bracket.max_leverage,
            "notionalCap": int(bracket.cap),
            "notionalFloor": int(bracket.floor),
            "maintMarginRatio": float(bracket.maintenance_ratio),
            "cum": float(bracket.cum),
        }
        for number, bracket in enumerate(brackets_of(symbol)[0], start=1)
    ]
    return {"symbol": symbol, "notionalCoef": 1.0, "brackets": rows}


def symbol_config(account: Account, symbol: str) -> Row:
    """One row of GET /fapi/v1/symbolConfig."""
    settings = account.of(symbol)
    return {
        "symbol": symbol,
        "marginType": "ISOLATED" if settings.isolated else "CROSSED",
        "isAutoAddMargin": False,
        "leverage": settings.leverage,
        "maxNotionalValue": str(margins.most_notional(symbol, settings.leverage)),
    }


def account_config(account: Account) -> Row:
    """GET /fapi/v1/accountConfig."""
    return {
        "feeTier": 0,
        "canTrade": account.may_trade,
        "canDeposit": True,
        "canWithdraw": True,
        "dualSidePosition": account.hedge,
        "updateTime": account.updated_ms,
        "multiAssetsMargin": account.multi_assets,
        "tradeGroupId": -1,
    }


def restrictions(account: Account) -> Row:
    """GET /sapi/v1/account/apiRestrictions."""
    never = (
        "enableInternalTransfer",
        "enableMargin",
        "permitsUniversalTransfer",
        "enableVanillaOptions",
        "enableSpotAndMarginTrading",
    )
    return dict.fromkeys((*never, "enableFixApiTrade", "enableFixReadOnly", "enablePortfolioMarginTrading"), False) | {
        "ipRestrict": account.ip_restricted,
        "createTime": account.opened_ms,
        "enableReading": True,
        "enableWithdrawals": account.may_withdraw,
        "enableFutures": account.may_trade,
    }


def commission_rate(symbol: str) -> Row:
    """GET /fapi/v1/commissionRate."""
    return {
        "symbol": symbol,
        "makerCommissionRate": f"{MAKER_FEE_RATIO:.6f}",
        "takerCommissionRate": f"{TAKER_FEE_RATIO:.6f}",
        "rpiCommissionRate": "0.000500",
    }
