"""The calls that are made on an account, and what each costs: ccxt's implicit methods, which lose no field of a reply.

Source: Binance USDⓈ-M, each endpoint's page, "IP Weight"; "New Order" and "New Algo Order": order counts (read 2026-11).
"""

from typing import Final

import msgspec


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint.

    `repeatable` calls may be made again whatever became of them; the others may not, and an answer that is missing leaves them unsure.
    """

    method: str
    weight: int
    weight_of_all: int = 0
    orders: int = 0
    repeatable: bool = True

    def costs(self, symbol: str | None) -> int:
        """Weight with a symbol, or over all of them."""
        return self.weight_of_all if symbol is None and self.weight_of_all else self.weight


TIME: Final = Call(method="fapiPublicGetTime", weight=1)
BALANCE: Final = Call(method="fapiPrivateV3GetBalance", weight=5)
CONFIG: Final = Call(method="fapiPrivateGetAccountConfig", weight=5)
POSITIONS: Final = Call(method="fapiPrivateV3GetPositionRisk", weight=5)
SYMBOL_CONFIG: Final = Call(method="fapiPrivateGetSymbolConfig", weight=5)
BRACKETS: Final = Call(method="fapiPrivateGetLeverageBracket", weight=1)
SET_MARGIN_TYPE: Final = Call(method="fapiPrivatePostMarginType", weight=1)
SET_LEVERAGE: Final = Call(method="fapiPrivatePostLeverage", weight=1)
SEND: Final = Call(method="fapiPrivatePostOrder", weight=0, orders=1, repeatable=False)
REST: Final = Call(method="fapiPrivatePostAlgoOrder", weight=0, orders=1, repeatable=False)
ORDER: Final = Call(method="fapiPrivateGetOrder", weight=1)
ALGO_ORDER: Final = Call(method="fapiPrivateGetAlgoOrder", weight=1)
OPEN_ORDERS: Final = Call(method="fapiPrivateGetOpenOrders", weight=1, weight_of_all=40)
OPEN_ALGO_ORDERS: Final = Call(method="fapiPrivateGetOpenAlgoOrders", weight=1, weight_of_all=40)
ALL_ORDERS: Final = Call(method="fapiPrivateGetAllOrders", weight=5)
ALL_ALGO_ORDERS: Final = Call(method="fapiPrivateGetAllAlgoOrders", weight=5)
TRADES: Final = Call(method="fapiPrivateGetUserTrades", weight=5)
INCOME: Final = Call(method="fapiPrivateGetIncome", weight=30)
CANCEL: Final = Call(method="fapiPrivateDeleteOrder", weight=1)
CANCEL_ALGO: Final = Call(method="fapiPrivateDeleteAlgoOrder", weight=1)
CANCEL_ALL: Final = Call(method="fapiPrivateDeleteAllOpenOrders", weight=1)
CANCEL_ALL_ALGO: Final = Call(method="fapiPrivateDeleteAlgoOpenOrders", weight=1)
LISTEN_KEY: Final = Call(method="fapiPrivatePostListenKey", weight=1)
KEEP_LISTEN_KEY: Final = Call(method="fapiPrivatePutListenKey", weight=1)
PERMISSIONS: Final = Call(method="sapiGetAccountApiRestrictions", weight=0)
"""Counted at the spot API, whose limits we never come near."""
