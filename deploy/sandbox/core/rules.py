"""What the exchange demands of each symbol: grid of prices and quantities, filters, fees of liquidation.

Values come from the recorded table; a recorded market's symbol outside it, or on another grid than the table's, gets tick and
step from the recording's own decimals.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import cache

import msgspec

from deploy.sandbox.core.rules_table import TABLE


class SymbolRules(msgspec.Struct, frozen=True, kw_only=True):
    """One row of exchangeInfo; numbers as the wire has them. Tick and step are powers of ten."""

    symbol: str
    contract_type: str
    status: str
    tick: str
    step: str
    min_price: str
    max_price: str
    min_quantity: str
    max_quantity: str
    max_market_quantity: str
    min_notional: str
    percent_up: str
    percent_down: str
    price_precision: int
    quantity_precision: int
    onboard_ms: int
    underlying: str
    liquidation_fee: str
    market_take_bound: str
    trigger_protect: str
    delivery_ms: int = 4133404800000
    tick_filter: str = ""
    step_filter: str = ""
    """Grids of orders where they were made coarser than the tape's own."""

    @property
    def tick_size(self) -> str:
        """The grid that prices of orders must lie on."""
        return self.tick_filter or self.tick

    @property
    def step_size(self) -> str:
        """The grid that quantities of orders must lie on."""
        return self.step_filter or self.step

    @property
    def price_decimals(self) -> int:
        """Decimals of a price on the tick grid."""
        return decimals_of(self.tick)

    @property
    def quantity_decimals(self) -> int:
        """Decimals of a quantity on the step grid."""
        return decimals_of(self.step)

    @property
    def quote_asset(self) -> str:
        """The asset that prices are in."""
        return "USDC" if self.pair.endswith("USDC") else "USDT"

    @property
    def pair(self) -> str:
        """The symbol without a delivery date."""
        return self.symbol.partition("_")[0]

    @property
    def base_asset(self) -> str:
        """The asset that quantities are in."""
        return self.pair.removesuffix(self.quote_asset)


def changed_rules(rules: SymbolRules, given: Mapping[str, Decimal]) -> SymbolRules:
    """Rules with other filters.

    Args:
        rules: As they are.
        given: Some of tick, step, min_notional, min_quantity and max_market_quantity.

    Raises:
        ValueError: A number is not positive, or a grid is finer than the tape's or no power of ten.
    """
    if not all(value.is_finite() and value > 0 for value in given.values()):
        raise ValueError("filters are positive numbers")
    own = {"tick": Decimal(rules.tick), "step": Decimal(rules.step)}
    for name, grid in own.items():
        wanted = given.get(name, grid)
        if wanted < grid or Decimal(wanted).normalize().as_tuple().digits != (1,):
            raise ValueError(f"{name} must be a power of ten and not below {grid:f}")
    names = {"tick": "tick_filter", "step": "step_filter"}
    changed = {names.get(name, name): f"{value:f}" for name, value in given.items()}
    if "step" in given and "min_quantity" not in given:
        changed["min_quantity"] = f"{max(given['step'], Decimal(rules.min_quantity)):f}"
    return msgspec.structs.replace(rules, **changed)


@cache
def decimals_of(grid: str) -> int:
    """How many decimals a power of ten has; 0 for 1 and above."""
    return max(0, -int(Decimal(grid).normalize().as_tuple().exponent))


def grid_of(decimals: int) -> str:
    """The power of ten with that many decimals."""
    return f"{Decimal(1).scaleb(-decimals):f}"


def _row(line: str) -> SymbolRules:
    cells = line.split()
    names = SymbolRules.__struct_fields__[: len(cells)]
    whole = {"price_precision", "quantity_precision", "onboard_ms"}
    return msgspec.convert(
        {name: int(cell) if name in whole else cell for name, cell in zip(names, cells, strict=True)}, SymbolRules
    )


RECORDED: dict[str, SymbolRules] = {rules.symbol: rules for rules in map(_row, TABLE.strip().splitlines())}
"""By symbol, in the exchange's order."""


def rules_for(symbol: str, price_decimals: int, quantity_decimals: int) -> SymbolRules:
    """The rules of a recorded market's symbol.

    Args:
        symbol: As Binance spells it.
        price_decimals: The most decimals that any recorded price has.
        quantity_decimals: The most decimals that any recorded volume has.
    """
    known = RECORDED.get(symbol)
    if known and known.price_decimals >= price_decimals and known.quantity_decimals >= quantity_decimals:
        return msgspec.structs.replace(known, status="TRADING")
    template = known or RECORDED["SOLUSDT"]
    tick, step = grid_of(price_decimals), grid_of(quantity_decimals)
    return msgspec.structs.replace(
        template,
        symbol=symbol,
        status="TRADING",
        tick=tick,
        step=step,
        min_price=tick,
        max_price="1000000",
        min_quantity=step,
        max_quantity="10000000",
        max_market_quantity="2000000",
        min_notional="5",
        price_precision=price_decimals,
        quantity_precision=quantity_decimals,
    )
