"""The `darts` command: options from the fields, wrong usage with code 2 and one sentence, light start."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from darts.cli import run_command
from darts.pipelines.options import options_of
from darts.pipelines.sequential_v2 import PlanetPipeline
from support.commands import logging_restored


@pytest.fixture
def darts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path):
    """Run the command in an empty folder; return code, output and error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["darts", *arguments])
        with logging_restored(), pytest.raises(SystemExit) as ended:
            run_command()
        output = capsys.readouterr()
        code = ended.value.code
        return (0 if code is None else int(code)), output.out, output.err

    return run


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder that holds the folder of one scene, whose files nobody must read."""
    (tmp_path / "scenes" / "20210821_210019_08_2405").mkdir(parents=True)
    return tmp_path / "scenes"


def test_every_field_is_an_option_with_its_help(darts) -> None:
    code, output, _ = darts("inference", "planet-sequential", "--help")
    assert code == 0
    for item in options_of(PlanetPipeline):
        assert f"--{item.name.replace('_', '-')}" in output
        assert item.help.split()[0] in output
    for name in ("--darts-dir", "--config-file", "--log-dir", "--log-plain", "--verbose"):
        assert name in output


def test_version_and_paths(darts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert darts("--version")[1].startswith("darts 0.")
    monkeypatch.setenv("DARTS_FAST_DATA_DIR", str(tmp_path / "fast"))
    code, output, _ = darts("paths")
    assert code == 0
    assert str(tmp_path / "fast" / "auxiliary" / "tcvis.icechunk") in output


def test_env_info_names_versions_and_what_a_gpu_lacks(darts, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    code, output, _ = darts("env-info")
    assert code == 0
    assert np.__version__ in output
    assert "GPU for networks" in output
    assert re.search(rf"CPU cores +1 usable of {os.cpu_count()}\b", output)
    assert re.search(r"memory +0\.0 GiB usable of [1-9]", output)


def assert_usage_error(result: tuple[int, str, str], message: str) -> None:
    code, _, error = result
    lines = [line for line in error.splitlines() if line.strip()]
    assert code == 2
    assert message in error
    assert len(lines) == 1, error


def test_a_misspelt_key_in_the_configuration(darts, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[darts]\npatch_sice = 3\n")
    result = darts("inference", "planet-sequential", "--scenes-dir", str(scenes))
    assert_usage_error(result, "unknown key 'patch_sice'; did you mean 'patch_size'?")


def test_a_missing_model_file(darts, scenes: Path) -> None:
    result = darts("inference", "planet-sequential", "--scenes-dir", str(scenes), "--model-files", "absent.pt")
    assert_usage_error(result, "absent.pt does not exist; correct --model-files")


def test_an_unknown_export_band(darts, scenes: Path) -> None:
    arguments = ("--scenes-dir", str(scenes), "--model-files", "absent.pt", "--export-bands", "probabillities")
    assert_usage_error(darts("inference", "planet-sequential", *arguments), "probabillities")


def test_an_overlap_larger_than_half_a_patch(darts, scenes: Path) -> None:
    arguments = ("--scenes-dir", str(scenes), "--patch-size", "512", "--overlap", "257")
    assert_usage_error(darts("inference", "planet-sequential", *arguments), "at most half of patch_size (256 px)")


def test_the_command_line_goes_over_the_file(darts, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[darts]\noverlap = 300\npatch_size = 512\n")
    arguments = ("--scenes-dir", str(scenes), "--overlap", "10", "--model-files", "absent.pt")
    assert_usage_error(darts("inference", "planet-sequential", *arguments), "absent.pt does not exist")
    assert_usage_error(darts("inference", "planet-sequential", *arguments[:2]), "overlap is 300 px")


def test_a_value_of_the_wrong_kind_names_its_option(darts, scenes: Path) -> None:
    arguments = ("--scenes-dir", str(scenes), "--quality-level", "best")
    assert_usage_error(darts("inference", "planet-sequential", *arguments), "--quality-level is 'best'")


def test_a_folder_without_scenes(darts, tmp_path: Path) -> None:
    arguments = ("--scenes-dir", str(tmp_path), "--model-files", "absent.pt")
    assert_usage_error(darts("inference", "planet-sequential", *arguments), "holds no folder of a scene")
    arguments = ("--scenes-dir", str(tmp_path / "absent"))
    assert_usage_error(darts("inference", "planet-sequential", *arguments), "correct --scenes-dir")


def test_help_loads_no_heavy_library() -> None:
    script = (
        "import sys; sys.argv = ['darts', '--help']\n"
        "import darts_command\n"
        "try:\n    darts_command.main()\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'xarray', 'pydantic', 'rasterio'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_other_library_of_that_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import darts_command

    class Found:
        version = "0.40.0"

    monkeypatch.setattr(darts_command, "distribution", lambda name: Found())
    with pytest.raises(SystemExit, match="time-series library"):
        darts_command.main()


def test_a_model_is_shown_and_converted(darts, tmp_path: Path) -> None:
    from darts.demo import demo_model

    code, output, _ = darts("model", "info", str(demo_model()))
    assert code == 0
    assert "relative_elevation" in output
    assert "demonstration" in output
    assert darts("model", "convert", str(demo_model()), str(tmp_path / "copy.safetensors"))[0] == 0
    again = darts("model", "info", str(tmp_path / "copy.safetensors"))[1]
    assert [line for line in again.splitlines() if "bands" in line] == [
        line for line in output.splitlines() if "bands" in line
    ]
    (tmp_path / "bad.pt").write_bytes(b"no model")
    assert_usage_error(darts("model", "info", str(tmp_path / "bad.pt")), "bad.pt")


def test_runs_of_a_folder_without_records(darts, tmp_path: Path) -> None:
    assert_usage_error(darts("runs", str(tmp_path)), "no records of a run")


def test_preparing_nothing_is_wrong_usage(darts, scenes: Path) -> None:
    result = darts("inference", "prep-data", "planet", "--scenes-dir", str(scenes))
    assert_usage_error(result, "ask for --aux, --optical or both")
    code, output, _ = darts("inference", "prep-data", "sentinel2", "--help")
    assert code == 0
    assert "--optical" in output
    assert "--tile-ids" in output
