"""The drawing of equity: to scale, drawdowns where they are, nothing where there is nothing."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from orchestrator.web.pages_curve import HEIGHT, draw

START = datetime(2025, 9, 22, tzinfo=UTC)


def _points(*values: str) -> list[tuple[datetime, Decimal]]:
    return [(START + timedelta(hours=hour), Decimal(value)) for hour, value in enumerate(values)]


def test_two_moments_are_needed() -> None:
    assert draw([]) is None
    assert draw(_points("1")) is None
    assert draw([(START, Decimal(1)), (START, Decimal(2))]) is None


def test_the_highest_value_is_at_the_top_and_the_last_moment_at_the_right() -> None:
    curve = draw(_points("100", "150", "200"))
    assert curve is not None
    assert curve.line == "0,192 500,100 1000,8"
    assert curve.drawdowns == []
    assert (curve.low, curve.high, curve.start_y) == (Decimal(100), Decimal(200), 192)


def test_a_drawdown_ends_where_the_line_is_back_at_its_old_high() -> None:
    curve = draw(_points("100", "200", "100", "300"))
    assert curve is not None
    assert curve.drawdowns == ["333.3,100 666.7,192 833.4,100"]


def test_a_drawdown_that_goes_on_reaches_the_last_moment() -> None:
    curve = draw(_points("200", "100"))
    assert curve is not None
    assert curve.drawdowns == ["0,8 1000,192 1000,8"]


def test_a_flat_line_lies_in_the_middle_and_a_value_that_is_no_number_is_left_out() -> None:
    curve = draw([*_points("5", "5"), (START, Decimal("NaN"))])
    assert curve is not None
    assert curve.line == f"0,{HEIGHT / 2:g} 1000,{HEIGHT / 2:g}"


def test_ruin_is_drawn_like_anything_else() -> None:
    curve = draw(_points("100", "0", "-5"))
    assert curve is not None
    assert curve.low == Decimal(-5)
    assert "\u2212$5.00" in curve.says
