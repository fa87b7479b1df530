"""Orders and trades as the exchange keeps them; what was asked for stays, what became of it is counted beside it."""

from decimal import Decimal

import msgspec

from shared.margin import ZERO

OPEN = frozenset({"NEW", "PARTIALLY_FILLED"})


class Order(msgspec.Struct, kw_only=True):
    """A regular order."""

    id: int
    client_id: str
    symbol: str
    side: str
    position_side: str
    kind: str
    """LIMIT or MARKET."""
    quantity: Decimal
    price: Decimal = ZERO
    """0 for MARKET."""
    time_in_force: str = "GTC"
    reduce_only: bool = False
    close_position: bool = False
    original: str = ""
    """The type of the conditional order that it came from."""
    stop_price: Decimal = ZERO
    working_type: str = "CONTRACT_PRICE"
    price_protect: bool = False
    parent: int = 0
    """Id of the conditional order that it came from."""
    good_till: int = 0
    """Market time at which a GTD order expires."""
    expiry: str = "0"
    """Why it expired, in the exchange's numbers."""
    status: str = "NEW"
    executed: Decimal = ZERO
    quote: Decimal = ZERO
    created_ms: int = 0
    updated_ms: int = 0

    @property
    def open(self) -> bool:
        """Whether it rests in the book."""
        return self.status in OPEN

    @property
    def remaining(self) -> Decimal:
        """What is not filled."""
        return self.quantity - self.executed

    @property
    def sign(self) -> int:
        """1 for BUY, -1 for SELL."""
        return 1 if self.side == "BUY" else -1

    @property
    def average(self) -> Decimal:
        """Volume-weighted price of its fills, 0 without one."""
        return self.quote / self.executed if self.executed else ZERO


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One fill."""

    id: int
    order_id: int
    symbol: str
    side: str
    position_side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    realized: Decimal
    maker: bool
    time_ms: int


class AlgoOrder(msgspec.Struct, kw_only=True):
    """A conditional order: it waits for its price, then becomes a regular order."""

    id: int
    client_id: str
    symbol: str
    side: str
    position_side: str
    kind: str
    quantity: Decimal
    """0 with close_position."""
    trigger: Decimal = ZERO
    price: Decimal = ZERO
    time_in_force: str = "GTC"
    on_mark: bool = False
    reduce_only: bool = False
    close_position: bool = False
    price_protect: bool = False
    callback: Decimal = ZERO
    """Percent, of a trailing stop."""
    activate: Decimal = ZERO
    good_till: int = 0
    extreme: Decimal | None = None
    """The best price since a trailing stop was activated."""
    status: str = "NEW"
    reason: str = ""
    child: int | None = None
    created_ms: int = 0
    updated_ms: int = 0
    triggered_ms: int = 0
