"""The words of the pages: what each machine word means to a person. A word that is not here is shown as it is, with spaces."""

from typing import Any, Final

from orchestrator.ports import SignalView
from orchestrator.web import format as fmt

REFUSALS: Final = {
    "scan_running": "another scan was running",
    "duplicate_in_batch": "the same symbol was already in this scan",
    "duplicate_signal": "this candle's signal was taken by another scan",
    "no_credentials": "there is no exchange key of this account",
    "real_stopped": "real entries are stopped",
    "real_in_use": "something at the exchange still needs this key",
    "key_claimed": "another admin has claimed the owner's key",
    "price_unknown": "the price is not known now",
    "recent_signal": "the same signal came a short while ago",
    "position_held": "a position in this symbol is already open",
    "entry_under_way": "an entry in this symbol is already under way",
    "not_enough_margin": "not enough free margin",
    "too_many_positions": "the limit of positions is reached",
    "too_much_exposure": "the limit of exposure would be passed",
    "daily_loss_reached": "the daily-loss stop is reached",
    "stop_beyond_liquidation": "the stop lies too near the liquidation price at your leverage",
    "leverage_above_bracket": "the symbol does not allow your leverage at this size",
    "below_min_notional": "the size is under the exchange's minimum",
    "balance_unknown": "the balance is not known",
    "balance_stale": "the balance is too old",
    "signal_stale": "the price had moved away from the signal",
    "approval_expired": "not approved in time",
    "declined": "you declined it",
    "not_found": "it is not there",
    "not_open": "it is no longer open",
    "bad_quantity": "that quantity cannot be closed",
    "bad_price": "that price cannot be used",
    "stopped": "trading was stopped",
    "foreign_position": "something that is not ours is open in this symbol",
    "venue_refused": "the exchange refused the order",
    "engine_unavailable": "the engine did not answer",
    "outcome_unknown": "the exchange has not answered; treated as open",
}

CLOSE_REASONS: Final = {
    "MANUAL": "closed by you",
    "STOP": "stop reached",
    "TARGET": "target reached",
    "TRAILING": "trailing stop reached",
    "LIQUIDATION": "liquidated",
    "PANIC": "closed by STOP",
    "UNPROTECTED": "closed at once, its stop was not confirmed",
    "ADL": "closed by the exchange (auto-deleveraging)",
    "EXTERNAL": "closed at the exchange",
}

ACRONYMS: Final = {part: part.upper() for part in ("adx", "atr", "ema", "macd", "roc", "rsi", "usd")}

RESULTS: Final = {
    "closed": "closed",
    "closing": "being closed",
    "partly_closed": "a part is closed",
    "kept": "kept, with its stop",
    "failed": "not closed",
    "waiting": "waits",
    "not_sent": "nothing was sent",
    "no_stop_seen": "kept, no stop is seen",
    "not_heard": "kept, the exchange was not heard",
    "under_way": "an entry is on its way",
    "flat": "flat",
    "not_flat": "not flat yet",
}
"""What a panic or a stop did with a position; where it did nothing the word is the refusal's."""

WHOLE: Final = {"*": "The whole account", "REAL": "The real account"}

LEDGER_KINDS: Final = {
    "DEPOSIT": "Deposit",
    "REALIZED_PNL": "Price result",
    "FEE": "Fee",
    "FUNDING": "Funding",
    "LIQUIDATION_FEE": "Liquidation fee",
    "TRANSFER": "Transfer",
    "EXTERNAL": "Not by NeuroTrade",
}

STATUSES: Final = {
    "OPEN": "open",
    "CLOSING": "closing",
    "CLOSED_WIN": "closed with profit",
    "CLOSED_LOSS": "closed without profit",
}
OUTCOMES: Final = {
    "TARGET": "its target came first",
    "STOP": "its stop came first",
    "NEITHER": "neither stop nor target within a day",
}
WHALES: Final = {
    "PUMP_IMMINENT": "pump expected",
    "DUMP_IMMINENT": "dump expected",
    "SQUEEZE_LONGS": "longs squeezed",
    "SQUEEZE_SHORTS": "shorts squeezed",
    "NEUTRAL": "quiet",
}
TRENDS: Final = {"BULL": "up", "BEAR": "down"}
PRESSURES: Final = {
    "NONE": "No pressure",
    "LONG_HEAVY": "Mostly longs",
    "SHORT_HEAVY": "Mostly shorts",
    "BALANCED": "Both sides",
}

SOURCES: Final = {
    "postgres": "Database",
    "redis": "Redis",
    "engine": "Engine",
    "worker": "Worker",
    "feed": "Market feed",
    "watch": "Position watch",
    "scan": "Scanning",
    "exchange": "Exchange",
    "truth": "Real accounts",
}

NOTICES: Final = {
    "closed": ("good", "Closed."),
    "partly-closed": ("good", "A part is closed; the rest keeps its stop and target."),
    "protected": ("good", "Stop and target are saved."),
    "approved": ("good", "Approved and entered."),
    "declined": ("good", "Declined."),
    "auto-on": ("good", "Auto-trading is on."),
    "stopped": ("good", "Auto-trading is off. Open positions keep their stops."),
    "stopped-left": (
        "danger",
        "Auto-trading is off, but not everything could be closed. What is left keeps its stop; try again.",
    ),
    "stopped-closed": ("good", "Auto-trading is off and every position is closed."),
    "saved": ("good", "Saved."),
    "key-stored": ("good", "The key is stored, sealed. Real entries wait until REAL is armed with it."),
    "key-deleted": ("good", "The key is deleted."),
    "totp-begun": ("", "Scan the picture with your authenticator and enter its first code."),
    "totp-ended": ("good", "Two-step sign-in is off."),
    "mode-real": ("good", "REAL is armed: a protective order was placed, read back and cancelled just now."),
    "mode-paper": ("good", "Back on PAPER. What is open in REAL stays there, protected."),
    "scan": ("good", "A scan is queued."),
    "again": ("", "That form was sent twice; it was carried out once."),
    "logged-out": ("good", "You are logged out."),
    "login": ("", "Please log in first."),
}
"""What a page may say after a redirect, by name only, so that nobody can put words on a page with a link."""


def word(table: dict[str, str], key: object) -> str:
    """A machine word in plain words."""
    return table.get(str(key), label(key)) if key is not None else fmt.UNKNOWN


def label(name: object) -> str:
    """`volume_ratio` as `Volume ratio`, `rsi_4h` as `RSI 4h`."""
    text = " ".join(ACRONYMS.get(part, part) for part in str(name).replace("_", " ").split())
    return text[:1].upper() + text[1:]


def result(key: str) -> str:
    """What became of a position in a panic or a stop."""
    said = RESULTS.get(key) or word(REFUSALS, key)
    return said[:1].upper() + said[1:]


def sentence(text: str) -> str:
    """A reason as a sentence of its own."""
    whole = text[:1].upper() + text[1:]
    return whole if whole.endswith((".", "!", "?")) else f"{whole}."


def decision(item: SignalView) -> str:
    """What became of a signal for the user, in one phrase."""
    made = item.decision
    if made.kind == "traded":
        return "traded"
    if made.kind == "waiting":
        return "waits for your approval"
    if made.kind == "entering":
        return "the entry is under way"
    if made.kind == "refused":
        return f"refused: {made.detail or word(REFUSALS, made.reason)}"
    return "not traded"


def any_figure(value: Any) -> str:
    """A value from a recorded dict, however deep, as one line."""
    if isinstance(value, list):
        return ", ".join(any_figure(item) for item in value) or fmt.UNKNOWN
    if isinstance(value, dict):
        return ", ".join(f"{label(key)} {any_figure(item)}" for key, item in value.items()) or fmt.UNKNOWN
    return fmt.figure(value)
