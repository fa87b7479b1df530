"""What the live stream patches into a page each second: prices, positions, balance, as JSON and as the text that the templates print.

Keys of `t` (text), `s` (up, down, flat) and `x` (0 to 1000 on a track), as the templates name them:
    mark-<SYM>  mark-<position id>  pnl-<position id>  pct-<position id>  liq-<position id>  open-pnl  equity  free  margin-used
    unrealized  balance  today  all  all-pct  loss-left  and in `x`  track-<position id>
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from orchestrator.ports import Mark, PositionRow
from orchestrator.web import format as fmt
from orchestrator.web.replies import amount, maybe
from orchestrator.web.valuation import LIVE, ZERO, Gain, Valued, Wealth, in_wallet

type Payload = dict[str, Any]


def prices_payload(marks: Mapping[str, Mark], rows: Sequence[PositionRow], wall: datetime) -> Payload:
    """Event `prices`: marks with their ages, and their texts where a held symbol gives the tick size."""
    ticks = {row.symbol: row.tick_size for row in rows}
    return {
        "at": fmt.iso(wall),
        "prices": {
            symbol: {"mark_price": amount(mark.price), "age_ms": int((wall - mark.at).total_seconds() * 1000)}
            for symbol, mark in marks.items()
        },
        "t": {f"mark-{symbol}": fmt.price(mark.price, ticks.get(symbol)) for symbol, mark in marks.items()},
    }


def positions_payload(
    valued: Sequence[Valued], mode: str, worth: Wealth, wall: datetime, gained: Gain | None = None, left: Decimal | None = None
) -> Payload:
    """Event `positions`: every open position at its mark, and the totals of those in the present mode."""
    text: dict[str, str] = {}
    signs: dict[str, str] = {}
    places: dict[str, int] = {}
    for each in valued:
        _position(each, text, signs, places)
    parts = [each.pnl for each in valued if in_wallet(each.row, mode)]
    known = [part for part in parts if part is not None]
    open_pnl = sum(known, ZERO) if len(known) == len(parts) else None
    for key, value in (("open-pnl", open_pnl), ("unrealized", worth.unrealized)):
        text[key], signs[key] = fmt.pnl(value), fmt.sign(value)
    text["equity"] = fmt.money(worth.equity)
    if gained is not None:
        text["loss-left"] = fmt.money(left)
        for key, value in (("today", gained.today), ("all", gained.all_time)):
            text[key], signs[key] = fmt.pnl(value), fmt.sign(value)
        text["all-pct"], signs["all-pct"] = fmt.percent(gained.all_percent), fmt.sign(gained.all_percent)
    return {
        "at": fmt.iso(wall),
        "positions": [_figures(each) for each in valued],
        "equity": maybe(worth.equity),
        "open_pnl": maybe(open_pnl),
        "t": text,
        "s": signs,
        "x": places,
    }


def balance_payload(mode: str, worth: Wealth, wall: datetime, status: str) -> Payload:
    """Event `balance`: the wallet; paper is always fresh, since the ledger is the wallet."""
    balance, free = (worth.balance, worth.free) if worth.known else (None, None)
    return {
        "mode": mode,
        "total": maybe(balance),
        "free": maybe(free),
        "margin_used": amount(worth.margin_used),
        "equity": maybe(worth.equity),
        "status": "fresh" if mode == "PAPER" else status,
        "as_of": fmt.iso(wall),
        "t": {
            "balance": fmt.money(balance),
            "free": fmt.money(free),
            "margin-used": fmt.money(worth.margin_used),
        },
        "s": {},
    }


def equity_payload(equity: Decimal, now: datetime) -> Payload:
    """Event `equity`: the newest end of the curve, at a moment of market time."""
    return {"at": fmt.iso(now), "value": amount(equity)}


def _figures(each: Valued) -> Payload:
    return {
        "id": str(each.row.id),
        "symbol": each.row.symbol,
        "mark_price": None if each.mark is None else amount(each.mark.price),
        "pnl": maybe(each.pnl),
        "pnl_percent": maybe(each.pnl_percent),
        "liquidation_price": maybe(each.row.liquidation_price),
    }


def _position(each: Valued, text: dict[str, str], signs: dict[str, str], places: dict[str, int]) -> None:
    row, price = each.row, None if each.mark is None else each.mark.price
    text[f"mark-{row.id}"] = fmt.price(price, row.tick_size)
    text[f"liq-{row.id}"] = fmt.price(row.liquidation_price, row.tick_size)
    text[f"pnl-{row.id}"], signs[f"pnl-{row.id}"] = fmt.pnl(each.pnl), fmt.sign(each.pnl)
    text[f"pct-{row.id}"], signs[f"pct-{row.id}"] = fmt.percent(each.pnl_percent), fmt.sign(each.pnl_percent)
    place = fmt.track(price, row.stop_loss, row.take_profit)
    if place is not None and row.status in LIVE:
        places[f"track-{row.id}"] = place
