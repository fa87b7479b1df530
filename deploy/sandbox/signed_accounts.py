"""Signed endpoints about an account: what it has, what it may, how it is set.

Source: Binance USDⓈ-M "Account Endpoints" and "Trade Endpoints" (read 2026-11).
"""

from deploy.sandbox.core import account_replies as replies
from deploy.sandbox.core.account import Account, Position, rounded
from deploy.sandbox.core.account_settings import set_hedge, set_leverage, set_margin_type, set_multi_assets
from deploy.sandbox.core.errors import missing, out_of_range
from deploy.sandbox.core.margin_transfer import move_margin
from deploy.sandbox.core.order_request import flag, number, position_side
from deploy.sandbox.core.query import Query
from deploy.sandbox.core.replies import Reply
from deploy.sandbox.core.rules import SymbolRules
from deploy.sandbox.exchange import Exchange
from deploy.sandbox.signed_endpoint import Endpoints, SignedEndpoint, fixed

DONE = {"code": 200, "msg": "success"}


def account_endpoints(exchange: Exchange) -> Endpoints:
    """By method and path."""
    door = AccountDoor(exchange)
    rows = [
        ("GET", "v3/account", door.account, 5),
        ("GET", "v2/balance", door.balance, 5),
        ("GET", "v3/balance", door.balance, 5),
        ("GET", "v2/positionRisk", door.positions_v2, 5),
        ("GET", "v3/positionRisk", door.positions_v3, 5),
        ("GET", "v1/leverageBracket", door.brackets, 1),
        ("GET", "v1/symbolConfig", door.symbol_config, 5),
        ("GET", "v1/accountConfig", door.account_config, 5),
        ("GET", "v1/commissionRate", door.commission_rate, 20),
        ("GET", "v1/positionSide/dual", door.position_mode, 30),
        ("POST", "v1/positionSide/dual", door.change_position_mode, 1),
        ("GET", "v1/multiAssetsMargin", door.multi_assets, 30),
        ("POST", "v1/marginType", door.change_margin_type, 1),
        ("POST", "v1/leverage", door.change_leverage, 1),
        ("POST", "v1/multiAssetsMargin", door.change_multi_assets, 1),
        ("POST", "v1/positionMargin", door.move_margin, 1),
        ("GET", "v1/adlQuantile", door.adl_quantile, 5),
        ("GET", "v2/account", door.account_v2, 5),
    ]
    found = {
        (method, f"/fapi/{path}"): SignedEndpoint(answer, fixed(weight), trades=method != "GET")
        for method, path, answer, weight in rows
    }
    return found | {("GET", "/sapi/v1/account/apiRestrictions"): SignedEndpoint(door.restrictions, fixed(1))}


class AccountDoor:
    """Answers about accounts.

    Args:
        exchange: What it opens on.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._market, self._trading = exchange.market, exchange.trading

    def account(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002 - one shape for all answers
        """GET /fapi/v3/account."""
        return replies.account_v3(account, self._trading.marks(now))

    def balance(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /fapi/v2/balance and v3."""
        return replies.balance(account, self._trading.marks(now))

    def positions_v3(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v3/positionRisk: only symbols with a position or an order."""
        standing = replies.Standing(account, self._trading.marks(now))
        ordered = {(order.symbol, order.position_side) for order in account.open_orders()}
        keys = [(p.symbol, p.side) for p in account.held()]
        keys += sorted(ordered - set(keys))
        wanted = query.text("symbol")
        if wanted:
            self._rules(wanted, now)
        shown = [account.position(*key) for key in keys if wanted in (None, key[0])]
        return [replies.position_v3(standing, position, self._rules(position.symbol, now)) for position in shown]

    def positions_v2(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v2/positionRisk: every symbol, flat or not."""
        standing = replies.Standing(account, self._trading.marks(now))
        wanted = query.text("symbol")
        listed = [self._rules(wanted, now)] if wanted else [tape.rules for tape in self._market.live(now)]
        sides = ("LONG", "SHORT") if account.hedge else ("BOTH",)
        return [
            replies.position_v2(standing, account.positions.get((r.symbol, side)) or Position(symbol=r.symbol, side=side), r)
            for r in listed
            for side in sides
        ]

    def brackets(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /fapi/v1/leverageBracket."""
        wanted = query.text("symbol")
        if wanted:
            return [replies.brackets(self._rules(wanted, now).symbol)]
        return [replies.brackets(tape.rules.symbol) for tape in self._market.live(now)]

    def symbol_config(self, account: Account, query: Query, now: int) -> Reply:
        """GET /fapi/v1/symbolConfig."""
        wanted = query.text("symbol")
        if wanted:
            return [replies.symbol_config(account, self._rules(wanted, now).symbol)]
        return [replies.symbol_config(account, tape.rules.symbol) for tape in self._market.live(now)]

    def account_config(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /fapi/v1/accountConfig."""
        return replies.account_config(account)

    def commission_rate(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /fapi/v1/commissionRate."""
        return replies.commission_rate(self._rules(query.required("symbol"), now).symbol)

    def position_mode(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /fapi/v1/positionSide/dual."""
        return {"dualSidePosition": account.hedge}

    def multi_assets(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /fapi/v1/multiAssetsMargin."""
        return {"multiAssetsMargin": account.multi_assets}

    def change_multi_assets(self, account: Account, query: Query, now: int) -> Reply:
        """POST /fapi/v1/multiAssetsMargin: there is one asset, so only the word changes, and isolated symbols forbid it."""
        query.required("multiAssetsMargin")
        set_multi_assets(account, multi_assets=flag(query, "multiAssetsMargin"))
        self._trading.herald.assets_mode_changed(account, now)
        return DONE

    def move_margin(self, account: Account, query: Query, now: int) -> Reply:
        """POST /fapi/v1/positionMargin."""
        rules, amount, kind = self._rules(query.required("symbol"), now), number(query, "amount"), query.whole("type")
        if amount is None or kind is None:
            raise missing("amount" if amount is None else "type")
        if kind not in (1, 2):
            raise out_of_range("type")
        position = account.position(rules.symbol, position_side(query))
        move_margin(self._trading, account, position, rounded(amount if kind == 1 else -amount), now)
        return {"amount": float(amount), "code": 200, "msg": "Successfully modify position margin.", "type": kind}

    def adl_quantile(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /fapi/v1/adlQuantile: nobody is deleveraged here, everyone stands in the middle."""
        wanted = query.text("symbol")
        sides: dict[str, dict[str, int]] = {}
        for position in account.held():
            if wanted in (None, position.symbol):
                sides.setdefault(position.symbol, {})[position.side] = 2
        return [{"symbol": symbol, "adlQuantile": held} for symbol, held in sides.items()]

    def account_v2(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /fapi/v2/account: every symbol, flat or not."""
        shown = [tape.rules.symbol for tape in self._market.live(now)]
        return replies.account_v2(account, self._trading.marks(now), shown)

    def restrictions(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """GET /sapi/v1/account/apiRestrictions of the spot API: what the key is allowed."""
        return replies.restrictions(account)

    def change_position_mode(self, account: Account, query: Query, now: int) -> Reply:  # noqa: ARG002
        """POST /fapi/v1/positionSide/dual."""
        query.required("dualSidePosition")
        set_hedge(account, hedge=flag(query, "dualSidePosition"))
        return DONE

    def change_margin_type(self, account: Account, query: Query, now: int) -> Reply:
        """POST /fapi/v1/marginType."""
        rules, wanted = self._rules(query.required("symbol"), now), query.required("marginType")
        if wanted not in ("ISOLATED", "CROSSED"):
            raise out_of_range("marginType")
        set_margin_type(account, rules.symbol, isolated=wanted == "ISOLATED")
        shown = [p for p in account.positions.values() if p.symbol == rules.symbol] or [
            Position(symbol=rules.symbol, side="BOTH")
        ]
        self._trading.herald.changed(account, "MARGIN_TYPE_CHANGE", now, shown)
        return DONE

    def change_leverage(self, account: Account, query: Query, now: int) -> Reply:
        """POST /fapi/v1/leverage."""
        rules, leverage = self._rules(query.required("symbol"), now), query.whole("leverage")
        if leverage is None:
            raise missing("leverage")
        set_leverage(account, rules.symbol, leverage, self._trading.marks(now))
        self._trading.herald.leverage_changed(account, rules.symbol, now)
        config = replies.symbol_config(account, rules.symbol)
        return {name: config[name] for name in ("symbol", "leverage", "maxNotionalValue")}

    def _rules(self, symbol: str, now: int) -> SymbolRules:
        return self._market.tape(symbol, now).rules
