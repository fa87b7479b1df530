"""Work spread over processes that are renewed now and then, so that nothing gathers in them.

The executor's own `max_tasks_per_child` hangs once every child has reached it (CPython issue 115634): whole pools follow one another instead.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import batched
from multiprocessing import get_context


def in_order[T, R](
    work: Callable[[T], R], items: Sequence[T], processes: int, begin: Callable[[], None], each: int
) -> Iterator[R]:
    """The results of the items in their order.

    Args:
        work: Done in a process of its own; it can be pickled.
        items: One after another.
        processes: At a time.
        begin: Run once in each process.
        each: Items that a process is given before it is followed by a new one.
    """
    for portion in batched(items, each * processes):
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=begin) as pool:
            yield from pool.map(work, portion)
