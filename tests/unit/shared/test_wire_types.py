"""Invariant 3: one typed schema shared by both services; every field round-trips, unknown and missing fields are refused.

The strategies are built from the types themselves, so that a wire type added tomorrow is tested without a line here.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect as mi

import shared.analysis
import shared.execution
import shared.margin
import shared.problem
from shared import wire


def wire_types(module: ModuleType) -> list[type[msgspec.Struct]]:
    """The structs that a module defines itself."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
    ]


WIRE_TYPES = [
    kind for module in (shared.analysis, shared.execution, shared.margin, shared.problem) for kind in wire_types(module)
]

decimals = st.decimals(min_value=Decimal("0.00000001"), max_value=Decimal(10) ** 9, places=8)
whole_decimals = st.integers(min_value=1, max_value=125).map(Decimal)
moments = st.datetimes(min_value=datetime(2019, 9, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
plain_words = st.text(alphabet="ABCabc019_-", min_size=1, max_size=30)


def strategy_of(kind: mi.Type, name: str) -> st.SearchStrategy[Any]:
    """Values of a wire type, valid by its own bounds."""
    for match, build in BUILDERS:
        if isinstance(kind, match):
            built: st.SearchStrategy[Any] = build(kind, name)
            return built
    raise AssertionError(f"no strategy for {kind!r} of {name}")


def _struct(kind: Any, name: str) -> st.SearchStrategy[Any]:
    del name
    fields = {field.name: strategy_of(field.type, field.name) for field in kind.fields}
    return st.builds(kind.cls, **fields)


def _decimal(kind: Any, name: str) -> st.SearchStrategy[Any]:
    del kind
    return whole_decimals if name == "leverage" else decimals


def _integer(kind: Any, name: str) -> st.SearchStrategy[Any]:
    del name
    return st.integers(min_value=0 if kind.ge is None else kind.ge, max_value=10**6 if kind.le is None else kind.le)


BUILDERS: list[tuple[Any, Any]] = [
    (mi.StructType, _struct),
    (mi.DecimalType, _decimal),
    (mi.DateTimeType, lambda _kind, _name: moments),
    (mi.EnumType, lambda kind, _name: st.sampled_from(list(kind.cls))),
    (mi.BoolType, lambda _kind, _name: st.booleans()),
    (mi.IntType, _integer),
    (mi.FloatType, lambda _kind, _name: st.floats(allow_nan=False, allow_infinity=False)),
    (mi.StrType, lambda _kind, _name: plain_words),
    (mi.NoneType, lambda _kind, _name: st.none()),
    (mi.ListType, lambda kind, name: st.lists(strategy_of(kind.item_type, name), max_size=2)),
    (mi.DictType, lambda kind, name: st.dictionaries(plain_words, strategy_of(kind.value_type, name), max_size=2)),
    (mi.UnionType, lambda kind, name: st.one_of([strategy_of(member, name) for member in kind.types])),
]


def values_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    return strategy_of(mi.type_info(kind), "")


@pytest.mark.parametrize("kind", WIRE_TYPES, ids=lambda kind: kind.__name__)
def test_every_wire_type_survives_the_journey_and_back(kind: type[msgspec.Struct]) -> None:
    @given(value=values_of(kind))
    def journey(value: msgspec.Struct) -> None:
        assert wire.decode_strict(wire.encode(value), kind) == value

    journey()


@pytest.mark.parametrize("kind", WIRE_TYPES, ids=lambda kind: kind.__name__)
def test_an_unknown_field_is_refused_at_every_wire_type(kind: type[msgspec.Struct]) -> None:
    body = wire.to_builtins(_sample(kind)) | {"surprise": 1}

    with pytest.raises(msgspec.ValidationError, match="surprise"):
        wire.decode_strict(msgspec.json.encode(body), kind)


@pytest.mark.parametrize("kind", WIRE_TYPES, ids=lambda kind: kind.__name__)
def test_a_missing_field_is_refused_at_every_wire_type(kind: type[msgspec.Struct]) -> None:
    body = wire.to_builtins(_sample(kind))
    for field in msgspec.structs.fields(kind):
        if field.required:
            short = {name: value for name, value in body.items() if name != field.encode_name}
            with pytest.raises(msgspec.ValidationError, match=f"`{field.encode_name}`"):
                wire.decode_strict(msgspec.json.encode(short), kind)


@pytest.mark.parametrize("kind", WIRE_TYPES, ids=lambda kind: kind.__name__)
def test_every_number_with_money_in_it_is_a_plain_string_on_the_wire(kind: type[msgspec.Struct]) -> None:
    def look(value: object, sent: Any) -> None:
        if isinstance(value, Decimal):
            assert re.fullmatch(r"-?\d+(\.\d+)?", sent)
        elif isinstance(value, msgspec.Struct):
            for field in msgspec.structs.fields(value):
                if field.encode_name in sent:
                    look(getattr(value, field.name), sent[field.encode_name])

    sample = _sample(kind)
    look(sample, msgspec.json.decode(wire.encode(sample)))


def _sample(kind: type[msgspec.Struct]) -> msgspec.Struct:
    """One value with every optional part that its type allows, the same in each run."""
    made: msgspec.Struct = _sample_of(mi.type_info(kind), "")
    return made


def _sample_of(kind: mi.Type, name: str) -> Any:
    for match, build in SAMPLES:
        if isinstance(kind, match):
            return build(kind, name)
    raise AssertionError(f"no sample for {kind!r} of {name}")


def _sample_struct(kind: Any, name: str) -> Any:
    del name
    return kind.cls(**{field.name: _sample_of(field.type, field.name) for field in kind.fields})


SAMPLES: list[tuple[Any, Any]] = [
    (mi.StructType, _sample_struct),
    (mi.DecimalType, lambda _kind, name: Decimal(5) if name == "leverage" else Decimal("0.00000007")),
    (mi.DateTimeType, lambda _kind, _name: datetime(2026, 1, 7, tzinfo=UTC)),
    (mi.EnumType, lambda kind, _name: next(iter(kind.cls))),
    (mi.BoolType, lambda _kind, _name: True),
    (mi.IntType, lambda _kind, _name: 7),
    (mi.FloatType, lambda _kind, _name: 0.5),
    (mi.StrType, lambda _kind, _name: "word"),
    (mi.ListType, lambda kind, name: [_sample_of(kind.item_type, name)]),
    (mi.DictType, lambda kind, name: {"word": _sample_of(kind.value_type, name)}),
    (mi.UnionType, lambda kind, name: _sample_of(next(t for t in kind.types if not isinstance(t, mi.NoneType)), name)),
]


@pytest.mark.parametrize("number", ["1e3", "1_000", "+1", " 1", "NaN", "Infinity", "-Infinity", ".5", "1.", "0x1", ""])
def test_a_decimal_that_is_not_in_plain_notation_is_refused(number: str) -> None:
    body = msgspec.json.encode({"balance": number, "positions": []})

    with pytest.raises(msgspec.ValidationError):
        wire.decode_strict(body, shared.execution.PaperBook)


def test_a_json_number_is_accepted_for_a_decimal() -> None:
    book = wire.decode_strict(b'{"balance": 10000.25}', shared.execution.PaperBook)

    assert book.balance == Decimal("10000.25")


@pytest.mark.parametrize("leverage", ["0", "0.5", "2.5", "-1"])
def test_a_leverage_that_is_not_whole_and_positive_is_refused(leverage: str) -> None:
    body = wire.to_builtins(_sample(shared.execution.EntryRequest)) | {"leverage": leverage}

    with pytest.raises(msgspec.ValidationError, match="leverage"):
        wire.decode_strict(msgspec.json.encode(body), shared.execution.EntryRequest)


def test_the_mode_alone_decides_which_account_a_body_is() -> None:
    paper = wire.decode_strict(b'{"account": {"mode": "PAPER", "book": {"balance": "1"}}}', shared.execution.AccountRequest)
    real = wire.decode_strict(b'{"account": {"mode": "REAL", "user_id": "7", "dry_run": true}}', shared.execution.AccountRequest)

    assert isinstance(paper.account, shared.execution.PaperAccount)
    assert isinstance(real.account, shared.execution.RealAccount)


@pytest.mark.parametrize(
    "account",
    [
        b'{"book": {"balance": "1"}}',
        b'{"mode": "LIVE", "user_id": "7", "dry_run": true}',
        b'{"mode": "PAPER", "user_id": "7", "dry_run": true}',
        b'{"mode": "PAPER", "book": {"balance": "1"}, "credentials": {"key_id": "1", "sealed": "x"}}',
    ],
)
def test_an_account_that_mixes_the_modes_is_refused(account: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.decode_strict(b'{"account": ' + account + b"}", shared.execution.AccountRequest)


def test_sealed_credentials_never_show_themselves() -> None:
    account = shared.execution.RealAccount(
        user_id="7", dry_run=True, credentials=shared.execution.SealedCredentials(key_id="k", sealed="c2VjcmV0")
    )

    assert "c2VjcmV0" not in repr(account)
