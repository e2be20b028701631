"""Work in several threads, whose results come in the order of what they were made from."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from darts_utils.resources import usable_cpus

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")
_MOST = 4
"""Threads beyond these wait for one another, and each needs memory."""


def in_order(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
    """Yield what a function makes of each item, in their order; a few are made ahead.

    Args:
        make: The function, called in threads; its errors are raised where its result would come.
        items: The items, taken one at a time.

    Yields:
        The results.
    """
    workers = min(usable_cpus(), _MOST)
    ahead: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="darts-dataset") as pool:
        for item in items:
            ahead.append(pool.submit(make, item))
            if len(ahead) >= workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
