"""Which client order ids belong to a request: the same on every replica, so that all of them look up the same.

A request's id is `nt-?-X`; its stop is `nt-s-X`, its target `nt-t-X`, its trailing stop `nt-r-X`, the emergency close of its entry
`nt-x-X`. An order that is tried again under a fresh id, which only a reduce-only one ever is, carries the number of its try.
"""

import re

OURS = "nt-"
"""Every order of ours begins so; nothing else is ever cancelled one by one."""

_FAMILY = re.compile(r"^nt-[a-z]-(.+)$")

MOST_TRIES = 9
"""An id has room for one digit more."""

_LONGEST = 36
"""Source: USDⓈ-M "New Order" (2026-05)."""


def stop_id(request_id: str) -> str:
    """The stop that a request placed."""
    return _member("s", request_id)


def target_id(request_id: str) -> str:
    """The target that a request placed."""
    return _member("t", request_id)


def trailing_id(request_id: str) -> str:
    """The trailing stop that a request placed."""
    return _member("r", request_id)


def emergency_id(request_id: str) -> str:
    """The close of an entry that could not be protected."""
    return _member("x", request_id)


def numbered(base_id: str, attempt: int) -> str:
    """The id of a reduce-only order's try, MOST_TRIES at most; the first one has the id itself."""
    return base_id if attempt == 1 else f"{base_id[: _LONGEST - 3]}-{attempt}"


def _member(letter: str, request_id: str) -> str:
    match = _FAMILY.match(request_id)
    return f"{OURS}{letter}-{match[1] if match else request_id}"[:_LONGEST]
