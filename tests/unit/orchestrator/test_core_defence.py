"""The first two layers of the defence keep what is new, and keep it again."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.defence import distinct, not_recent
from orchestrator.core.order import RefusalReason
from shared.analysis import Signal
from shared.enums import Side
from tests.builders import signal

SIGNALS = st.lists(
    st.builds(signal, st.sampled_from(["AAAUSDT", "BBBUSDT", "CCCUSDT", "1000PEPEUSDT"]), st.sampled_from(list(Side))), max_size=8
)


@given(SIGNALS, SIGNALS)
def test_the_defence_is_idempotent(batch: list[Signal], recent: list[Signal]) -> None:
    once, _ = not_recent(distinct(batch)[0], recent)
    again, refused = not_recent(distinct(once)[0], recent)
    assert again == once
    assert refused == []


@given(SIGNALS, SIGNALS)
def test_every_signal_is_kept_or_refused_with_a_reason(batch: list[Signal], recent: list[Signal]) -> None:
    kept, repeated = distinct(batch)
    new, known = not_recent(kept, recent)
    assert len(new) + len(known) + len(repeated) == len(batch)
    assert len({one.symbol for one in new}) == len(new)


def test_a_second_signal_for_a_symbol_in_one_batch_is_refused() -> None:
    first, second = signal("AAAUSDT"), signal("AAAUSDT", Side.SHORT)
    kept, refused = distinct([first, second])
    assert kept == [first]
    assert [(one, refusal.reason) for one, refusal in refused] == [(second, RefusalReason.DUPLICATE_IN_BATCH)]


def test_the_other_side_of_a_recent_signal_is_not_a_repetition() -> None:
    kept, refused = not_recent([signal("AAAUSDT", Side.SHORT)], [signal("AAAUSDT", Side.LONG)])
    assert (len(kept), refused) == (1, [])
