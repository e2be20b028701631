"""Measure what happens inside a stage without telling it who wants to know."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

_current: ContextVar["Stopwatch | None"] = ContextVar("darts_stopwatch", default=None)


class Stopwatch:
    """Collects the seconds of named steps, those of steps with the same name added up.

    Attributes:
        seconds: Seconds by name, in the order in which the steps first ended.

    Examples:
        >>> watch = Stopwatch()
        >>> with watch.recording(), step("reading"):
        ...     pass
        >>> list(watch.seconds)
        ['reading']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def recording(self) -> Iterator["Stopwatch"]:
        """Collect every :func:`step` of this thread (or task) until the block ends."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a step."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@contextmanager
def step(name: str) -> Iterator[None]:
    """Time the block under `name` where a :class:`Stopwatch` records; cost nothing worth mentioning elsewhere.

    Args:
        name: What the block does, as it will stand in the record.
    """
    watch = _current.get()
    if watch is None:
        yield
        return
    start = perf_counter()
    try:
        yield
    finally:
        watch.add(name, perf_counter() - start)
