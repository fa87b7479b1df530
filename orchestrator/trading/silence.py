"""How long a question to the store may stay without an answer: a server that hangs says nothing, and no error comes from that.

What is given up is let go, not waited for: to end a statement that nobody answers takes the driver some ten seconds.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from orchestrator.errors import StoreSilent

_LET_GO: set[asyncio.Task[Any]] = set()
"""The loop holds its tasks weakly only."""


async def heard[T](question: Coroutine[Any, Any, T], seconds: float) -> T:
    """The answer.

    Raises:
        StoreUnavailable: It said so.
        StoreSilent: It said nothing within so many wall seconds.
    """
    asked = asyncio.ensure_future(question)
    try:
        done, _ = await asyncio.wait({asked}, timeout=seconds)
    except asyncio.CancelledError:
        let_go(asked)
        asked.cancel()
        raise
    if done:
        return asked.result()
    let_go(asked)
    asked.cancel()
    raise StoreSilent(f"the store said nothing for {seconds:g} s")


def let_go(task: asyncio.Task[Any]) -> None:
    """Whatever it ends with, nobody asks."""
    _LET_GO.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[Any]) -> None:
    _LET_GO.discard(task)
    if not task.cancelled():
        task.exception()
