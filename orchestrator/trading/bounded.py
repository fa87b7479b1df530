"""Many independent pieces of work at once, a bounded number at a time; one that fails never touches another."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from orchestrator.errors import OrchestratorError
from orchestrator.log import logger


async def each[T, R](items: Iterable[T], work: Callable[[T], Awaitable[R]], *, what: str, at_once: int = 8) -> list[R]:
    """Runs `work` for every item and answers the results of those that did not fail, in the items' order.

    A broken promise of a neighbour (OrchestratorError) is logged as a warning, anything else as an error with its traceback.

    Args:
        items: Independent of each other.
        work: Safe to run for different items at the same time.
        what: Names the work in the log.
        at_once: The most that run at a time.
    """
    places = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with places:
            return await work(item)

    done = await asyncio.gather(*(one(item) for item in items), return_exceptions=True)
    results: list[R] = []
    for outcome in done:
        if isinstance(outcome, OrchestratorError):
            logger().warning(f"{what} did not get through", error=f"{type(outcome).__name__}: {outcome}")
        elif isinstance(outcome, Exception):
            logger().error(f"{what} failed", error=type(outcome).__name__, exc_info=outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            results.append(outcome)
    return results
