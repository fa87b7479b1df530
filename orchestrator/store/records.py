"""Between rows and records: one mapping for every table, since a record is field for column.

Decimals come back without the zeros that NUMERIC pads, so that a tick of 0.1 quantises to one decimal.
"""

from collections.abc import Container, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.wire import to_builtins


def columns_of(table: sa.Table, kind: type[msgspec.Struct]) -> list[sa.Column[Any]]:
    """The columns that a record has fields for."""
    return [table.c[field.name] for field in msgspec.structs.fields(kind)]


def as_row(record: msgspec.Struct) -> dict[str, Any]:
    """A record as column values."""
    return as_values((field, getattr(record, field)) for field in record.__struct_fields__)


def as_values(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Single fields as column values."""
    return {name: _stored(value) for name, value in fields}


def told(record: msgspec.Struct, *, without: Container[str] = ()) -> dict[str, Any]:
    """What the audit writes down of a record: its fields without whose it is, which the audit says besides."""
    return {name: value for name, value in as_row(record).items() if name != "user_id" and name not in without}


def as_record[R: msgspec.Struct](row: sa.RowMapping, kind: type[R]) -> R:
    """A row as a record."""
    return msgspec.convert({str(name): stripped(value) for name, value in row.items()}, kind)


def stripped(value: Any) -> Any:
    """A Decimal without trailing zeros after the point; anything else as it is."""
    if not isinstance(value, Decimal) or not value.is_finite():
        return value
    short = value.normalize()
    return short if int(short.as_tuple().exponent) <= 0 else short.quantize(Decimal(1))


async def insert(connection: AsyncConnection, table: sa.Table, record: msgspec.Struct) -> None:
    """Adds a row."""
    await connection.execute(sa.insert(table), as_row(record))


async def insert_once(connection: AsyncConnection, table: sa.Table, record: msgspec.Struct) -> bool:
    """Adds a row unless one of its unique keys is taken; whether it did. The transaction goes on either way."""
    statement = postgresql.insert(table).on_conflict_do_nothing().returning(sa.literal(1))
    return (await connection.execute(statement, as_row(record))).first() is not None


async def select_one[R: msgspec.Struct](connection: AsyncConnection, statement: sa.Select[Any], kind: type[R]) -> R | None:
    """The first row as a record, or None."""
    row = (await connection.execute(statement)).mappings().first()
    return None if row is None else as_record(row, kind)


async def select_all[R: msgspec.Struct](connection: AsyncConnection, statement: sa.Select[Any], kind: type[R]) -> list[R]:
    """Every row as a record."""
    return [as_record(row, kind) for row in (await connection.execute(statement)).mappings()]


async def compare_and_set[R: msgspec.Struct](
    connection: AsyncConnection, table: sa.Table, old: R, values: Mapping[str, Any], kind: type[R]
) -> R | None:
    """Changes one row where id, status and version are as in `old`, version + 1; the new record, or None when the row has moved."""
    key: Any = old
    statement = (
        sa.update(table)
        .where(table.c.id == key.id, table.c.status == key.status.value, table.c.version == key.version)
        .values(version=table.c.version + 1, **as_values(values.items()))
        .returning(*columns_of(table, kind))
    )
    row = (await connection.execute(statement)).mappings().first()
    return None if row is None else as_record(row, kind)


def _stored(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, msgspec.Struct | dict | list):
        return to_builtins(value)
    return value
