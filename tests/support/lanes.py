"""Cases of which the default lane tries some, and the slow one all."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def mostly_slow(cases: Iterable[Any], usual: Callable[[Any], bool]) -> list[Any]:
    """Return pytest's parameters: a case (a tuple is several arguments) that is not usual is marked slow."""
    return [_parameter(case, () if usual(case) else (pytest.mark.slow,)) for case in cases]


def _parameter(case: Any, marks: tuple[Any, ...]) -> Any:
    return pytest.param(*case, marks=marks) if isinstance(case, tuple) else pytest.param(case, marks=marks)
