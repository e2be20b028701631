"""Measure what happens inside a stage without telling it who wants to know."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
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
        self._lock = Lock()

    @contextmanager
    def recording(self) -> Iterator["Stopwatch"]:
        """Collect every :func:`step` of this thread (or task) until the block ends.

        Another thread takes part where it runs in a copy of this one's context (:func:`contextvars.copy_context`).
        A recording inside another takes the steps for itself.

        Returns:
            A context manager that gives this stopwatch.
        """
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a step; threads may do so at once.

        Args:
            name: Name of the step.
            seconds: What to add.
        """
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@contextmanager
def step(name: str) -> Iterator[None]:
    """Time the block under `name` where a :class:`Stopwatch` records; cost nothing worth mentioning elsewhere.

    A step's time includes that of the steps inside it. A block that raises is timed as well.

    Args:
        name: What the block does, as it will stand in the record.

    Returns:
        A context manager.
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
