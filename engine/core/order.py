"""Whether an order may be sent, and as what: the checks that PAPER, dry run and REAL share.

Stands between the wire and the venue. Everything is an argument; a "no" is a Problem whose code is one of OrderRefusal. `amount_usdt`
is the notional (margin x leverage, made by the orchestrator); the quantity is rounded down, so rounding never exceeds it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from enum import StrEnum

import msgspec

from engine.core.fills import MONEY, Walk, levels_for, order_side_of, walk
from engine.core.instrument import InstrumentRules
from engine.core.market import Book, Mark
from shared.enums import BracketsSource, Side
from shared.execution import EntryRequest, OrderSide, Trailing
from shared.margin import (
    TAKER_FEE_RATIO,
    Bracket,
    bracket_for,
    fee_of,
    floor_to_step,
    initial_margin,
    liquidation_price,
    max_leverage_for,
    round_to_tick,
)
from shared.problem import Problem

MIN_NOTIONAL_USDT = Decimal(5)
"""No entry is ever smaller, whatever a symbol's rules say. Source: seed document, "Safety First: rejects orders < $5"."""

MAX_DRIFT_RATIO = Decimal("0.005")
"""Half a percent away from the signal's price the setup that was argued is no longer the one that is bought."""

MAX_DRIFT_OF_STOP = Decimal("0.5")
"""And never more than half the way to the stop: beyond it risk and reward have changed places."""

MAX_SLIPPAGE_RATIO = Decimal("0.005")
"""An order that moves the book by more than half a percent gives away most of a usual stop distance at once."""

MAX_PRICE_AGE_MS = 5000
"""Wall milliseconds since receipt; past that nothing is decided on a price (house rule 8)."""


class OrderRefusal(StrEnum):
    """Why an order was not sent: stable words for programs."""

    UNKNOWN_SYMBOL = "unknown_symbol"
    SYMBOL_NOT_TRADING = "symbol_not_trading"
    MARKET_DATA_UNAVAILABLE = "market_data_unavailable"
    STALE_PRICE = "stale_price"
    THIN_BOOK = "thin_book"
    BELOW_MIN_NOTIONAL = "below_min_notional"
    BELOW_MIN_QUANTITY = "below_min_quantity"
    ABOVE_MAX_QUANTITY = "above_max_quantity"
    OUTSIDE_PRICE_BOUNDS = "outside_price_bounds"
    LEVERAGE_ABOVE_BRACKET = "leverage_above_bracket"
    PRICE_DRIFTED = "price_drifted"
    WRONG_SIDE_STOP = "wrong_side_stop"
    WRONG_SIDE_TARGET = "wrong_side_target"
    STOP_BEYOND_LIQUIDATION = "stop_beyond_liquidation"
    TRIGGER_IN_FUTURE = "trigger_in_future"
    STOP_MISSING = "stop_missing"
    TARGET_MISSING = "target_missing"
    TRAILING_BELOW_BREAK_EVEN = "trailing_below_break_even"
    TRAILING_RATIO = "trailing_ratio"
    NOT_ENOUGH_MARGIN = "not_enough_margin"
    POSITION_OPEN = "position_open"
    NO_POSITION = "no_position"
    QUANTITY_REQUIRED = "quantity_required"
    NOTHING_TO_AMEND = "nothing_to_amend"
    REPORT_STORE_UNAVAILABLE = "report_store_unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"
    CLIENT_ORDER_ID_REUSED = "client_order_id_reused"
    REAL_NOT_AVAILABLE = "real_not_available"
    NEVER_ARRIVED = "never_arrived"
    NO_CREDENTIALS = "no_credentials"
    SEAL_BROKEN = "seal_broken"
    HEDGE_MODE = "hedge_mode"
    MULTI_ASSETS = "multi_assets"
    MARGIN_TYPE = "margin_type"
    LEVERAGE = "leverage"
    WOULD_TRIGGER = "would_trigger"
    REDUCE_ONLY = "reduce_only_rejected"
    NOT_PROTECTED = "not_protected"
    VENUE_AWAY = "venue_away"
    VENUE_HALTED = "venue_halted"
    VENUE_RULE = "venue_rule"


def no(code: OrderRefusal, detail: str) -> Problem:
    """A refusal with its reason."""
    return Problem(code=code.value, detail=detail)


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """USDT of an account; `free` is what a new position may use."""

    total: Decimal
    free: Decimal


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What the market said of one symbol when an order was checked, with the wall time of the check."""

    rules: InstrumentRules
    brackets: Sequence[Bracket]
    brackets_source: BracketsSource
    book: Book
    mark: Mark
    wall_ms: int

    @property
    def age_ms(self) -> int:
        """Of the older of book and mark, since receipt."""
        return self.wall_ms - min(self.book.received_ms, self.mark.received_ms)


class EntryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that passed: what to send, and what the book would give for it now. `sent_at` as in EntryRequest."""

    client_order_id: str
    symbol: str
    side: Side
    leverage: Decimal
    stop_loss: Decimal
    take_profit: Decimal
    expected: Walk
    bracket: Bracket
    sent_at: datetime | None = None

    @property
    def order_side(self) -> OrderSide:
        """BUY for LONG."""
        return order_side_of(self.side, reduce_only=False)

    @property
    def quantity(self) -> Decimal:
        """Base asset, a multiple of the step."""
        return self.expected.quantity

    @property
    def notional(self) -> Decimal:
        """USDT at the expected prices."""
        return self.expected.notional

    @property
    def margin(self) -> Decimal:
        """USDT that the position ties up."""
        return margin_of(self.notional, self.leverage)

    @property
    def liquidation_price(self) -> Decimal:
        """Of the position at the expected average price."""
        return liquidation_price(self.side, self.quantity, self.expected.average_price, self.margin, self.bracket)


def margin_of(notional: Decimal, leverage: Decimal) -> Decimal:
    """Initial margin, USDT, eight decimals."""
    return initial_margin(notional, int(leverage)).quantize(MONEY, rounding=ROUND_HALF_EVEN)


def plan_entry(request: EntryRequest, quote: Quote, wallet: Wallet | None) -> EntryPlan | Problem:
    """The order that an entry request becomes, or the first reason against it.

    Args:
        request: `amount_usdt` is the notional.
        quote: Rules, brackets, book and mark of its symbol.
        wallet: None where only a signed call could say: free margin is not judged then.
    """
    refusal = tradable(quote) or fresh(quote)
    if refusal is not None:
        return refusal
    expected = size(request.amount_usdt, request.side, quote)
    if isinstance(expected, Problem):
        return expected
    tick = quote.rules.tick_size
    plan = EntryPlan(
        client_order_id=request.client_order_id,
        symbol=request.symbol,
        side=request.side,
        leverage=request.leverage,
        stop_loss=round_to_tick(request.stop_loss, tick),
        take_profit=round_to_tick(request.take_profit, tick),
        expected=expected,
        bracket=bracket_for(quote.brackets, expected.notional),
        sent_at=request.sent_at,
    )
    judged = (check(plan, request, quote) for check in _CHECKS)
    return next((found for found in judged if found is not None), None) or affordable(plan, wallet) or plan


def tradable(quote: Quote) -> Problem | None:
    """Only a USDT perpetual that trades now."""
    rules = quote.rules
    if rules.tradable:
        return None
    return no(OrderRefusal.SYMBOL_NOT_TRADING, f"{rules.symbol} is {rules.contract_type} in {rules.quote_asset}, {rules.status}")


def fresh(quote: Quote) -> Problem | None:
    """Nothing is decided on a price that is older than MAX_PRICE_AGE_MS."""
    if quote.age_ms <= MAX_PRICE_AGE_MS:
        return None
    return no(OrderRefusal.STALE_PRICE, f"the price of {quote.rules.symbol} is {quote.age_ms} ms old")


def size(amount_usdt: Decimal, side: Side, quote: Quote) -> Walk | Problem:
    """The quantity for a notional, rounded down to the step and never above it at the prices the book would give.

    Source: seed document, "Order Sizing Logic"; Binance filters LOT_SIZE and MARKET_LOT_SIZE (2026-05).
    """
    levels = levels_for(quote.book, order_side_of(side, reduce_only=False))
    if not levels:
        return no(OrderRefusal.THIN_BOOK, f"nobody offers {quote.rules.symbol}")
    best = levels[0][0]
    first = walk(levels, amount_usdt / best)
    quantity = floor_to_step(amount_usdt / max(best, first.average_price), quote.rules.step_size)
    if quantity < max(quote.rules.min_quantity, quote.rules.market_min_quantity) or quantity <= 0:
        return no(OrderRefusal.BELOW_MIN_QUANTITY, f"{amount_usdt} USDT buys {quantity}, below the symbol's least quantity")
    expected = walk(levels, quantity)
    if expected.left > 0 or abs(expected.average_price - best) > best * MAX_SLIPPAGE_RATIO:
        return no(OrderRefusal.THIN_BOOK, f"the visible book does not take {quantity} {quote.rules.base_asset} near {best}")
    return expected


def _within_max_quantity(plan: EntryPlan, _request: EntryRequest, quote: Quote) -> Problem | None:
    most = min(quote.rules.max_quantity, quote.rules.market_max_quantity)
    if plan.quantity <= most:
        return None
    return no(OrderRefusal.ABOVE_MAX_QUANTITY, f"a market order may hold {most} at most, not {plan.quantity}")


def _above_min_notional(plan: EntryPlan, _request: EntryRequest, quote: Quote) -> Problem | None:
    least = max(quote.rules.min_notional, MIN_NOTIONAL_USDT)
    notional = min(plan.notional, plan.quantity * quote.mark.price)
    if notional >= least:
        return None
    return no(OrderRefusal.BELOW_MIN_NOTIONAL, f"{notional.normalize():f} USDT is below the least notional of {least} USDT")


def _within_price_bounds(plan: EntryPlan, _request: EntryRequest, quote: Quote) -> Problem | None:
    worst = plan.expected.levels[-1][0]
    low, high = price_bounds(quote)
    if low <= worst <= high:
        return None
    return no(OrderRefusal.OUTSIDE_PRICE_BOUNDS, f"{worst} lies outside {low.normalize():f} to {high.normalize():f}")


def price_bounds(quote: Quote) -> tuple[Decimal, Decimal]:
    """Between which prices the exchange fills a market order now.

    Source: Binance USDⓈ-M "Exchange Information" (2026-05): PERCENT_PRICE multipliers and `marketTakeBound`, both against the mark.
    """
    rules, mark = quote.rules, quote.mark.price
    low = max(rules.price_multiplier_down, 1 - rules.market_take_bound)
    high = min(rules.price_multiplier_up, 1 + rules.market_take_bound)
    return mark * low, mark * high


def _within_bracket(plan: EntryPlan, _request: EntryRequest, quote: Quote) -> Problem | None:
    most = max_leverage_for(quote.brackets, plan.notional)
    if plan.leverage <= most:
        return None
    detail = f"a notional of {plan.notional.normalize():f} USDT allows leverage {most} at most, not {plan.leverage}"
    return no(OrderRefusal.LEVERAGE_ABOVE_BRACKET, detail)


def _near_signal(plan: EntryPlan, request: EntryRequest, _quote: Quote) -> Problem | None:
    signal = request.signal_price
    bound = min(signal * MAX_DRIFT_RATIO, abs(signal - request.stop_loss) * MAX_DRIFT_OF_STOP)
    best = plan.expected.levels[0][0]
    if abs(best - signal) <= bound:
        return None
    return no(OrderRefusal.PRICE_DRIFTED, f"the market is at {best}, too far from the signal's {signal}")


def _right_sides(plan: EntryPlan, _request: EntryRequest, _quote: Quote) -> Problem | None:
    return sides_fit(plan.side, plan.expected.average_price, plan.stop_loss, plan.take_profit)


def sides_fit(side: Side, price: Decimal, stop_loss: Decimal | None, take_profit: Decimal | None) -> Problem | None:
    """LONG needs stop < price < target, SHORT the reverse; an absent one is not judged."""
    if stop_loss is not None and (stop_loss <= 0 or (price - stop_loss) * side.sign <= 0):
        return no(OrderRefusal.WRONG_SIDE_STOP, f"a {side} at {price.normalize():f} cannot be stopped at {stop_loss}")
    if take_profit is not None and (take_profit <= 0 or (take_profit - price) * side.sign <= 0):
        return no(OrderRefusal.WRONG_SIDE_TARGET, f"a {side} at {price.normalize():f} cannot aim at {take_profit}")
    return None


def _stop_before_liquidation(plan: EntryPlan, _request: EntryRequest, _quote: Quote) -> Problem | None:
    return stop_acts(plan.side, plan.stop_loss, plan.liquidation_price)


def stop_acts(side: Side, stop_loss: Decimal, liquidation: Decimal) -> Problem | None:
    """A stop that the liquidation comes before is no stop."""
    if liquidation <= 0 or (stop_loss - liquidation) * side.sign > 0:
        return None
    price = liquidation.quantize(MONEY).normalize()
    return no(
        OrderRefusal.STOP_BEYOND_LIQUIDATION, f"the position would be liquidated at {price:f}, before its stop at {stop_loss}"
    )


_CHECKS: tuple[Callable[[EntryPlan, EntryRequest, Quote], Problem | None], ...] = (
    _within_max_quantity,
    _above_min_notional,
    _within_price_bounds,
    _within_bracket,
    _near_signal,
    _right_sides,
    _stop_before_liquidation,
)
"""In the order in which a user can do something about them."""


def affordable(plan: EntryPlan, wallet: Wallet | None) -> Problem | None:
    """Free margin must hold the position's margin and the entry's fee; an unknown wallet is not judged.

    Source: Binance USDⓈ-M "Error Codes" (2026-05), -2019 MARGIN_NOT_SUFFICIENT.
    """
    needed = plan.margin + fee_of(plan.notional, TAKER_FEE_RATIO)
    if wallet is None or wallet.free >= needed:
        return None
    free = wallet.free.normalize()
    return no(OrderRefusal.NOT_ENOUGH_MARGIN, f"{needed.quantize(MONEY).normalize():f} USDT needed, {free:f} free")


CALLBACK_STEP = Decimal("0.001")
MIN_CALLBACK_RATIO = Decimal("0.001")
MAX_CALLBACK_RATIO = Decimal("0.2")
"""Source: USDⓈ-M "New Algo Order", change log of 2026-10-23: callbackRate from 0.1 to 20 percent (10 before), one decimal."""

MAX_ARMING_DRIFT_RATIO = Decimal("0.005")
"""How far the mark may run, either way, until the exchange has the order: in a whole minute 4 of 100 recorded lows lie so far below the open."""


def break_even(side: Side, entry_price: Decimal) -> Decimal:
    """The exit price at which both taker fees are just earned."""
    cost = side.sign * TAKER_FEE_RATIO
    return entry_price * (1 + cost) / (1 - cost)


def trailing_fits(side: Side, entry_price: Decimal, mark: Decimal, trailing: Trailing, tick: Decimal) -> Trailing | Problem:
    """A trailing stop in the exchange's steps, which once armed never gives back more than the gain.

    The exchange refuses an activation price that the market is past (-2021), and starts without one from the mark that it sees then. So
    where none is asked for or the market is past it, it is active at once only if it keeps break-even after the mark has fallen back by
    MAX_ARMING_DRIFT_RATIO meanwhile; else it waits for a price as far beyond the mark, and keeps break-even whatever the mark does.

    Args:
        side: Of the position.
        entry_price: Its average price.
        mark: As read, seconds before the exchange has the order.
        trailing: As asked for.
        tick: The symbol's price step.

    Source: USDⓈ-M "New Algo Order" (2026-05): activatePrice, by default the latest price.
    """
    ratio = trailing.ratio.quantize(CALLBACK_STEP, rounding=ROUND_DOWN)
    if not MIN_CALLBACK_RATIO <= ratio <= MAX_CALLBACK_RATIO:
        return no(
            OrderRefusal.TRAILING_RATIO,
            f"a trailing stop keeps {MIN_CALLBACK_RATIO} to {MAX_CALLBACK_RATIO}, not {trailing.ratio}",
        )
    kept, least = 1 - side.sign * ratio, break_even(side, entry_price)
    asked = trailing.activation_price
    activation = None if asked is None else round_to_tick(asked, tick)
    if activation is None or (activation - mark) * side.sign <= 0:
        fallen = mark * (1 - side.sign * MAX_ARMING_DRIFT_RATIO)
        if (fallen * kept - least) * side.sign >= 0:
            return Trailing(ratio=ratio)
        activation = _beyond(side, mark, tick)
    worst = activation * kept
    if (worst - least) * side.sign < 0:
        detail = f"armed at {activation.normalize():f} it could close at {worst.normalize():f}, worse than the break-even of {least.quantize(MONEY)}"
        return no(OrderRefusal.TRAILING_BELOW_BREAK_EVEN, detail)
    return Trailing(ratio=ratio, activation_price=activation)


def _beyond(side: Side, mark: Decimal, tick: Decimal) -> Decimal:
    """The tick at which the mark has gained what it may run until an order arrives."""
    rounding = ROUND_CEILING if side is Side.LONG else ROUND_FLOOR
    ticks = mark * (1 + side.sign * MAX_ARMING_DRIFT_RATIO) / tick
    return (ticks.to_integral_value(rounding=rounding) * tick).quantize(tick)
