"""The one form in which either service says no over HTTP."""

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An error body.

    `code` is a stable word for programs, `detail` a sentence for people, `fields` a sentence for each field that is at fault.
    """

    code: str
    detail: str
    trace_id: str = ""
    fields: dict[str, str] | None = None
