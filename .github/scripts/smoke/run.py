"""Try one installed package: run its smoke test, and see that no public function was left out.

Runs in an environment that holds the package and what it declares, nothing else: ``python -I run.py darts-utils``.
"""

import importlib
import inspect
import os
import runpy
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

MODULES = {"darts-nextgen": "darts"}


def code_of(function: Callable[..., Any]) -> CodeType:
    """Return the code that runs when a function is called, below its decorators."""
    return inspect.unwrap(function).__code__


def main() -> None:
    """Run the smoke test of the package that the command line names."""
    name = sys.argv[1].replace("-", "_")
    module = importlib.import_module(MODULES.get(sys.argv[1], name))
    installed = Path(sysconfig.get_path("purelib"))
    assert Path(module.__file__).is_relative_to(installed), f"{module.__file__} is not in {installed}"

    ran: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            ran.add(frame.f_code)

    sys.setprofile(note)
    try:
        smoke = runpy.run_path(os.fspath(Path(__file__).with_name(f"smoke_{name}.py")), run_name="__main__")
    finally:
        sys.setprofile(None)

    functions = {public: getattr(module, public) for public in getattr(module, "__all__", ())}
    idle = {public for public, each in functions.items() if inspect.isfunction(each) and code_of(each) not in ran}
    left_out = idle - smoke.get("NEEDS_SERVICE", set())
    assert not left_out, f"The smoke test of {sys.argv[1]} does not run {', '.join(sorted(left_out))}."
    but = f", but for {len(idle)} that need a service" if idle else ""
    print(f"{sys.argv[1]}: every public function ran{but}.")


if __name__ == "__main__":
    main()
