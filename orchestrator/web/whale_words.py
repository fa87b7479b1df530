"""A whale view in words: where its cascade stands, and the figures behind its points. Stands between the wire and the templates.

A view comes from the engine as it is, or as it was recorded with a signal or a scan; what an older record lacks is left out.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from orchestrator.web import format as fmt

CASCADES: Final = {"BUILDING": "cascade building", "RUNNING": "cascade running", "EXHAUSTED": "cascade exhausted"}
PUSHES: Final = {"LONG": "down", "SHORT": "up"}
"""Longs that are forced out sell, shorts that are forced out buy."""


def cascade_words(whale: object) -> str:
    """`cascade running, pushing down`; empty where there is none."""
    view = _mapping(whale)
    state = CASCADES.get(str(view.get("cascade")), "")
    way = PUSHES.get(str(view.get("cascade_side")), "")
    if not state or not way:
        return state
    return f"{state}, {'pushed' if view.get('cascade') == 'EXHAUSTED' else 'pushing'} {way}"


def whale_figures(whale: object) -> list[tuple[str, str]]:
    """Labels and figures, those that are known alone."""
    view = _mapping(whale)
    found = [
        ("Forced orders, 5 min", fmt.figure(view["liquidations"]) if view.get("liquidations") else None),
        ("Price with them", _percent(view.get("cascade_answer_ratio"))),
        ("Book", _leaning(view.get("book_imbalance_ratio"))),
        ("Walls within 1%", _walls(view)),
        ("Large buys, 5 min", _usd(view.get("large_bought_usd"))),
        ("Large sells, 5 min", _usd(view.get("large_sold_usd"))),
        ("Funding", _percent(view.get("funding_ratio"), places=4)),
        ("Open interest, 5 min", _percent(view.get("open_interest_change_ratio"))),
        ("Longs for each short", None if view.get("long_short_ratio") is None else fmt.figure(view["long_short_ratio"])),
    ]
    return [(label, text) for label, text in found if text is not None]


def _mapping(whale: object) -> Mapping[str, Any]:
    if isinstance(whale, msgspec.Struct):
        return {name: getattr(whale, name) for name in whale.__struct_fields__}
    return whale if isinstance(whale, Mapping) else {}


def _percent(ratio: Any, places: int = 2) -> str | None:
    if ratio is None:
        return None
    if places == 2:
        return fmt.percent(Decimal(str(ratio)) * 100)
    return f"{Decimal(str(ratio)) * 100:+.{places}f}%".replace("-", fmt.MINUS)


def _usd(value: Any) -> str | None:
    return None if value is None else fmt.usd(value)


def _leaning(ratio: Any) -> str | None:
    if ratio is None:
        return None
    side = "bids" if ratio >= 0 else "asks"
    return f"{fmt.share(abs(Decimal(str(ratio))) * 100)} to the {side}"


def _walls(view: Mapping[str, Any]) -> str | None:
    if view.get("buy_wall") is None or view.get("sell_wall") is None:
        return None
    names = [name for name, stands in (("bid", view["buy_wall"]), ("ask", view["sell_wall"])) if stands]
    return " and ".join(names) or "none"
