"""The equity curve as an SVG: a line, and every stretch below an earlier high shaded. Pure."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from orchestrator.web import format as fmt

WIDTH = 1000
HEIGHT = 200
_EDGE = 8


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Coordinates in a box of WIDTH x HEIGHT, and the figures that label it."""

    line: str
    drawdowns: list[str]
    start_y: float
    low: Decimal
    high: Decimal
    says: str


def draw(points: Sequence[tuple[datetime, Decimal]]) -> Curve | None:
    """The curve of values over time, oldest first; None where there are not two moments to join."""
    known = [(at, value) for at, value in points if value.is_finite()]
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return None
    low, high = min(value for _, value in known), max(value for _, value in known)
    places = _places(known, low, high)
    change = known[-1][1] - known[0][1]
    return Curve(
        line=_path(places),
        drawdowns=_drawdowns(places),
        start_y=places[0][1],
        low=low,
        high=high,
        says=f"Equity from {fmt.money(known[0][1])} to {fmt.money(known[-1][1])}, {fmt.pnl(change)}; "
        f"lowest {fmt.money(low)}, highest {fmt.money(high)}",
    )


def _places(known: Sequence[tuple[datetime, Decimal]], low: Decimal, high: Decimal) -> list[tuple[float, float]]:
    begin, span = known[0][0], (known[-1][0] - known[0][0]).total_seconds()
    height = float(high - low)
    room = HEIGHT - 2 * _EDGE
    return [
        (
            round((at - begin).total_seconds() / span * WIDTH, 1),
            round(HEIGHT / 2 if height == 0 else HEIGHT - _EDGE - float(value - low) / height * room, 1),
        )
        for at, value in known
    ]


def _drawdowns(places: Sequence[tuple[float, float]]) -> list[str]:
    """Closed areas between the line and the high before it; y grows downwards."""
    areas: list[str] = []
    peak_y, stretch = places[0][1], [places[0]]
    for place in places[1:]:
        if place[1] <= peak_y:
            if len(stretch) > 1:
                areas.append(_path([*stretch, (_crossing(stretch[-1], place, peak_y), peak_y)]))
            peak_y, stretch = place[1], [place]
        else:
            stretch.append(place)
    if len(stretch) > 1:
        areas.append(_path([*stretch, (stretch[-1][0], peak_y)]))
    return areas


def _crossing(below: tuple[float, float], above: tuple[float, float], y: float) -> float:
    """Where the line from one place to another reaches a height."""
    return round(below[0] + (above[0] - below[0]) * (below[1] - y) / (below[1] - above[1]), 1)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
