"""Shows the figures of the benchmarks, ratios and memory, below their times."""

from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    for bench in getattr(session, "benchmarks", ()):
        if bench.extra_info:
            figures = [f"{k}: {v:.4g}" if isinstance(v, float) else f"{k}: {v}" for k, v in bench.extra_info.items()]
            terminalreporter.write_line(f"{bench.name}: {', '.join(figures)}")
