"""Waiting for what must become true, instead of sleeping for as long as it might take."""

import time
from collections.abc import Callable


def wait_until[T](read: Callable[[], T], *, seconds: float, what: str) -> T:
    """The first truthy answer of `read`; fails naming what did not happen."""
    deadline = time.monotonic() + seconds
    while True:
        answer = read()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}; last answer: {answer!r}")
        time.sleep(0.05)
