"""What a whole run through the command does not load."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import rasterio

from darts.demo import SampleArea, demo_model, make_sample_area
from darts_export import read_manifest

_COMMAND = """
    import json, sys
    from darts_command import main
    sys.argv = ["darts", *json.loads(sys.argv[1])]
    try:
        main()
    finally:
        watched = ("sympy", "torch", "torch._dynamo", "torch._inductor", "openvino_telemetry")
        loaded = [name for name in watched if name in sys.modules]
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


def _command(area: SampleArea, results: Path) -> list[str]:
    options = {
        "scenes-dir": area.scenes_dir,
        "model-files": demo_model(),
        "arcticdem-dir": area.arcticdem_dir,
        "tcvis-dir": area.tcvis_dir,
        "output-data-dir": results,
        "patch-size": 128,
        "overlap": 16,
        "device": "cpu",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return ["inference", "planet-sequential", "--offline", *given]


@pytest.mark.slow
def test_a_run_loads_no_compiler_and_a_plan_no_torch(tmp_path: Path) -> None:
    area = make_sample_area(tmp_path / "area", seed=3, size=128)
    command = _command(area, tmp_path / "results")
    assert _loaded(*command, "--dry-run") == []
    assert _loaded(*command) == ["torch"]
    assert _loaded(*command) == [], "all is finished, so that no network is needed"


@pytest.mark.slow
def test_a_run_with_openvino_loads_no_torch_and_gives_the_same_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    area = make_sample_area(tmp_path / "area", seed=3, size=128)
    command = _command(area, tmp_path / "results")
    assert _loaded(*command, "--engine", "openvino") == []
    (manifest,) = (read_manifest(path.parent) for path in (tmp_path / "results").rglob("manifest.json"))
    assert manifest["metadata"]["depends_on"]["engine"] == {"engine": "openvino", "precision": "fp32"}
    assert "openvino" in manifest["metadata"]["versions"]
    assert _loaded(*command, "--engine", "openvino") == [], "it is finished"
    found = _probabilities(tmp_path / "results")
    assert _loaded(*command) == ["torch"], "another engine is computed again"
    difference = np.abs(_probabilities(tmp_path / "results").astype(int) - found)
    assert difference.max() <= 1, "percent"
    assert found[found < 101].std() > 1


def _probabilities(folder: Path) -> np.ndarray:
    (path,) = folder.rglob("probabilities.tif")
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.mark.slow
def test_a_command_that_trains_ends_without_a_list_of_what_triton_left() -> None:
    """An optimiser brings torch's compiler, that triton, whose bindings count what was never collected."""
    script = """
        import darts.cli
        import darts_command

        def step():
            import torch

            weights = torch.nn.Parameter(torch.zeros(3))
            optimiser = torch.optim.AdamW([weights])
            weights.sum().backward()
            optimiser.step()

        darts.cli.run_command = step
        darts_command.main()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
