"""What a whole run through the command does not load."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from darts.demo import demo_model, make_sample_area

_COMMAND = """
    import json, sys
    from darts_command import main
    sys.argv = ["darts", *json.loads(sys.argv[1])]
    try:
        main()
    finally:
        loaded = [name for name in ("sympy", "torch", "torch._dynamo", "torch._inductor") if name in sys.modules]
        print(json.dumps(loaded))
"""


def _loaded(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_COMMAND), json.dumps([str(argument) for argument in arguments])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_run_loads_no_compiler_and_a_plan_no_torch(tmp_path: Path) -> None:
    area = make_sample_area(tmp_path / "area", seed=3, size=128)
    options = {
        "scenes-dir": area.scenes_dir,
        "model-files": demo_model(),
        "arcticdem-dir": area.arcticdem_dir,
        "tcvis-dir": area.tcvis_dir,
        "output-data-dir": tmp_path / "results",
        "patch-size": 128,
        "overlap": 16,
        "device": "cpu",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = ("inference", "planet-sequential", "--offline", *given)
    assert _loaded(*command, "--dry-run") == []
    assert _loaded(*command) == ["torch"]
    assert _loaded(*command) == [], "all is finished, so that no network is needed"
