"""Waiting for what must become true, instead of sleeping for as long as it might take."""

import asyncio
import time
from collections.abc import Awaitable, Callable


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


async def eventually[T](read: Callable[[], Awaitable[T | None]], *, seconds: float, what: str) -> T:
    """As `wait_until`, inside an event loop."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await read()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}; last answer: {answer!r}")
        await asyncio.sleep(0.02)
