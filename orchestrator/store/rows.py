"""From a row struct to the columns it needs: the struct's fields name them, so that no secret is ever selected by accident."""

from typing import Any

import msgspec
from sqlalchemy import Select, select


def rows_of(kind: type[msgspec.Struct], table: type[Any]) -> Select[Any]:
    """A select of just the columns that the struct has."""
    return select(*(getattr(table, name) for name in kind.__struct_fields__))
