"""Cases of which the default lane tries some, and the slow one all or more."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import settings


def mostly_slow(cases: Iterable[Any], usual: Callable[[Any], bool]) -> list[Any]:
    """Return pytest's parameters: a case (a tuple is several arguments) that is not usual is marked slow."""
    return [_parameter(case, () if usual(case) else (pytest.mark.slow,)) for case in cases]


def cases(few: int) -> int:
    """Return on how many random cases a costly property is tried: few, and in proportion more where others are."""
    return max(few, few * settings.default.max_examples // 25)


def _parameter(case: Any, marks: tuple[Any, ...]) -> Any:
    return pytest.param(*case, marks=marks) if isinstance(case, tuple) else pytest.param(case, marks=marks)
