"""The `darts` command: options from the fields, wrong usage with code 2 and one sentence, light start."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from darts.cli import run_command
from darts.cli.arguments import OTHER_VARIABLES, variable_of
from darts.pipelines.options import options_of
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline
from darts_acquisition import TRENDS
from support import standin
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
    assert str(tmp_path / "fast" / "models") in output
    for trend in TRENDS:
        assert f"TCVIS, {trend}" in output
        assert str(tmp_path / "aux" / f"tctrend{trend[-4:]}.darts.icechunk") in output


def test_paths_that_moved_are_shown_with_what_to_do(darts, tmp_path: Path) -> None:
    for name in ("auxiliary/tcvis.icechunk", "aux/arcticdem_10m.icechunk"):
        (tmp_path / name / "refs").mkdir(parents=True)
    code, output, _ = darts("paths")
    assert code == 0
    before, now = tmp_path / "auxiliary" / "tcvis.icechunk", tmp_path / "aux" / "tctrend2019.darts.icechunk"
    assert f"To move it: mkdir -p {now.parent} && mv {before} {now}\n" in output
    assert f"{tmp_path / 'aux' / 'arcticdem_10m.icechunk'} is a datacube of another program" in output


def test_env_info_names_versions_and_what_a_gpu_lacks(darts, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    code, output, _ = darts("env-info")
    assert code == 0
    assert np.__version__ in output
    assert "GPU for networks" in output
    assert re.search(rf"CPU cores +1 usable of {os.cpu_count()}\b", output)
    named = [line.split("  ")[0].strip() for line in output.splitlines()]
    assert len(set(named)) == len(named)
    assert {
        "darts-training",
        "darts-evaluation",
        "darts-dataset",
        "darts-demo",
        "dask",
        "distributed",
        "dask-jobqueue",
    } <= set(named)
    assert [line for line in output.splitlines() if line != line.rstrip()] == []
    gpu = next(line for line in output.splitlines() if line.startswith(" GPU for features and objects"))
    assert "cupy is not installed" not in gpu or '(pip install "darts-nextgen[cuda12]", or [cuda13])' in gpu
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


def test_a_configuration_of_another_program_is_an_error_and_can_be_left_out(
    darts, scenes: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("[params]\ntheme = 'a'\n")
    arguments = ("inference", "planet-sequential", "--scenes-dir", str(scenes), "--model-files", "absent.pt")
    assert_usage_error(darts(*arguments), "config.toml: expected a table [darts], found [params]; name a file of DARTS")
    assert_usage_error(darts(*arguments, "--config-file", "none"), "absent.pt does not exist")


def test_a_configuration_with_a_byte_order_mark(darts, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf[darts]\r\npatch_size = 64\r\noverlap = 33\r\n")
    result = darts("inference", "planet-sequential", "--scenes-dir", str(scenes))
    assert_usage_error(result, "at most half of patch_size (32 px)")


def test_options_before_the_command_count(darts, scenes: Path, tmp_path: Path) -> None:
    for name, overlap in (("a", 300), ("b", 301)):
        (tmp_path / f"{name}.toml").write_text(f"[darts]\noverlap = {overlap}\npatch_size = 512\n")
    command = ("inference", "planet-sequential", "--scenes-dir", str(scenes))
    before = ("--config-file", "a.toml", "-v", "--log-dir", str(tmp_path / "logs"), "--log-plain")
    assert_usage_error(darts(*before, *command), "overlap is 300 px")
    assert len(list((tmp_path / "logs").iterdir())) == 1
    assert_usage_error(darts(*before, *command, "--config-file", "b.toml"), "overlap is 301 px")
    code, _, error = darts("--config-file", "a.toml", "paths")
    assert code == 2
    assert "`darts paths` does not know it" in error
    assert darts("-v", "paths")[0] == 0


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (
            "--model-files a.pt b.pt c.pt",
            "'b.pt': --model-files takes one value; repeat it: --model-files a.pt --model-",
        ),
        ("--model-files=a.pt b.pt", "repeat it: --model-files a.pt --model-files b.pt"),
        ("--image-ids a a --overlap 3", "'a': --image-ids takes one value; repeat it: --image-ids a --image-ids a"),
        ("--device cpu gpu", "Unexpected word 'gpu': there is no option before it that takes it"),
        ("scenes", "Unexpected word 'scenes': there is no option"),
    ],
)
def test_a_value_too_many_says_how_to_repeat_the_option(darts, words: str, advice: str) -> None:
    code, _, error = darts("inference", "planet-sequential", *words.split())
    assert code == 2
    assert advice in error


def test_a_log_folder_that_cannot_be_written(darts, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = darts("inference", "planet-sequential", "--scenes-dir", str(scenes), "--log-dir", str(tmp_path / "file"))
    assert_usage_error(result, "Correct --log-dir.")


def test_a_missing_model_file(darts, scenes: Path) -> None:
    result = darts("inference", "planet-sequential", "--scenes-dir", str(scenes), "--model-files", "absent.pt")
    assert_usage_error(result, "absent.pt does not exist; correct model_files (--model-files).")


def test_an_unknown_export_band(darts, scenes: Path) -> None:
    arguments = ("--scenes-dir", str(scenes), "--model-files", "absent.pt", "--export-bands", "probabillities")
    assert_usage_error(darts("inference", "planet-sequential", *arguments), "probabillities")


def test_an_overlap_larger_than_half_a_patch(darts, scenes: Path) -> None:
    arguments = ("--scenes-dir", str(scenes), "--patch-size", "512", "--overlap", "257")
    assert_usage_error(darts("inference", "planet-sequential", *arguments), "at most half of patch_size (256 px)")


def test_the_command_line_overrides_the_file(darts, scenes: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("infrence planet-sequential", "'inference'"),
        ("inference planet-sequentail", "'planet-sequential'"),
        ("inference prep-date planet", "'prep-data'"),
        ("inference prep-data sentinel", "'sentinel2'"),
        ("model inof", "'info'"),
        ("inference planet", "'planet-sequential'"),
        ("planet-sequential", "'darts inference planet-sequential'"),
        ("verify results", "'darts cube verify' or 'darts export verify'"),
    ],
)
def test_a_misspelt_command_names_the_nearest(darts, words: str, near: str) -> None:
    code, _, error = darts(*words.split())
    assert code == 2
    assert f"Did you mean {near}?" in error


def test_commands_are_listed_in_the_order_in_which_one_meets_them(darts) -> None:
    listed = re.findall(r"^│ ([a-z][a-z-]+) ", darts("--help")[1], re.MULTILINE)
    assert (listed[:4], listed[-1]) == (["demo", "inference", "status", "report"], "env-info")


def test_a_command_like_no_other_names_those_there_are(darts) -> None:
    code, _, error = darts("inference", "prediction")
    assert code == 2
    assert "There are prep-data, planet-sequential, sentinel2-sequential." in " ".join(error.replace("│", " ").split())


@pytest.mark.parametrize("command", ["status", "runs", "report"])
def test_a_folder_that_is_absent_is_told_from_one_without_runs(darts, tmp_path: Path, command: str) -> None:
    assert_usage_error(darts(command, str(tmp_path / "absent")), "There is no folder")


@pytest.mark.parametrize("group", [("inference", "prep-data"), ("training-data", "create")])
def test_a_group_lists_its_commands_by_the_names_that_call_them(darts, group: tuple[str, ...]) -> None:
    code, text, _ = darts(*group, "--help")
    assert code == 0
    assert re.findall(r"^\W*(planet\S*|sentinel2\S*)", text, re.MULTILINE) == ["planet", "sentinel2"]


def test_help_shows_plain_defaults_and_what_extras_are_called(darts) -> None:
    _, output, _ = darts("inference", "planet-sequential", "--help")
    assert "[default: 1024]" in output
    assert "darts-nextgen[openvino]" in output
    assert "(1024)" not in output
    assert "DARTS_DEVICE=cpu" in output


def test_the_environment_overrides_the_file_and_the_command_line_both(
    darts, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("inference", "planet-sequential", "--scenes-dir", str(scenes))
    (tmp_path / "config.toml").write_text("[darts]\noverlap = 300\npatch_size = 512\n")
    assert_usage_error(darts(*command), "overlap is 300 px")
    monkeypatch.setenv("DARTS_OVERLAP", "301")
    code, _, error = darts(*command)
    assert code == 2
    assert "overlap is 301 px" in error
    assert "From the environment: DARTS_OVERLAP." in error
    assert "overlap is 302 px" in darts(*command, "--overlap", "302")[2]
    monkeypatch.setenv("DARTS_OVERLAP", "")
    assert_usage_error(darts(*command), "overlap is 300 px")


def test_lists_switches_and_files_come_from_the_environment(
    darts, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("inference", "planet-sequential", "--scenes-dir", str(scenes))
    (tmp_path / "run.toml").write_text("[darts]\noverlap = 300\npatch_size = 512\n")
    (tmp_path / "other.toml").write_text("[darts]\noverlap = 301\npatch_size = 512\n")
    monkeypatch.setenv("DARTS_CONFIG_FILE", "run.toml")
    assert_usage_error(darts(*command), "overlap is 300 px")
    for words in (("--config-file", "other.toml", *command), (*command, "--config-file", "other.toml")):
        assert_usage_error(darts(*words), "overlap is 301 px")
    assert darts("paths")[0] == 0
    monkeypatch.setenv("DARTS_CONFIG_FILE", "none")
    monkeypatch.setenv("DARTS_OFFLINE", "1")
    monkeypatch.setenv("DARTS_EXPORT_BANDS", "extent slop")
    for name in ("a", "b"):
        standin.write_model(tmp_path / f"{name}.safetensors")
    monkeypatch.setenv("DARTS_MODEL_FILES", os.pathsep.join(["a.safetensors", "b.safetensors"]))
    error = darts(*command)[2]
    assert "From the environment: DARTS_MODEL_FILES, DARTS_EXPORT_BANDS, DARTS_OFFLINE." in error
    assert "slop" in error


def test_variables_that_set_nothing_are_warned_of(darts, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("inference", "planet-sequential", "--scenes-dir", str(scenes), "--overlap", "-1")
    for name in ("DARTS_OFFLIN", "DARTS_OUTPUT_DIR", "DARTS_TILE_IDS", "DARTS_KEEP_HEAP", "DARTS_ZQX"):
        monkeypatch.setenv(name, "x")
    error = darts(*command)[2]
    assert "DARTS_OFFLIN is set, but DARTS knows no such variable; did you mean DARTS_OFFLINE?" in error
    assert "DARTS_OUTPUT_DIR is set, but DARTS knows no such variable; did you mean DARTS_OUTPUT_DATA_DIR?" in error
    assert "DARTS_ZQX is set, but DARTS knows no such variable." in error
    assert error.count("knows no such variable") == 3


def test_a_wrong_value_names_where_it_comes_from(
    darts, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("inference", "planet-sequential", "--scenes-dir", str(scenes))
    (tmp_path / "run.toml").write_text('[darts]\nbatch_size = "four"\n')
    in_file = darts(*command, "--config-file", "run.toml")
    assert_usage_error(in_file, "--batch-size is 'four' (from run.toml): should be a valid integer")
    monkeypatch.setenv("DARTS_OVERLAP", "-1")
    assert "--overlap is -1 (from DARTS_OVERLAP): should be greater than or equal to 0" in darts(*command)[2]
    assert_usage_error(darts(*command, "--overlap", "-2"), "--overlap is -2: should be")
    monkeypatch.setenv("DARTS_BATCH_SIZE", "abc")
    code, _, error = darts(*command)
    assert code == 2
    assert "(from the variable DARTS_BATCH_SIZE)" in " ".join(error.replace("│", "").split())


def test_variables_of_options_are_none_that_darts_reads_already() -> None:
    source = Path(__file__).parents[2] / "packages"
    words = {
        word
        for file in source.glob("*/src/**/*.py")
        for word in re.findall(r"\"(DARTS_[A-Z0-9_]+)\"", file.read_text())
    }
    tags = {"DARTS_EXPORT_VERSION", "DARTS_FINGERPRINT", "DARTS_MODELS", "DARTS_TILE_ID", "DARTS_TIME", "DARTS_SOURCE"}
    assert words - tags == OTHER_VARIABLES
    names = {variable_of(item.name) for kind in (PlanetPipeline, Sentinel2Pipeline) for item in options_of(kind)}
    assert not names & OTHER_VARIABLES


@pytest.mark.parametrize(
    ("option", "value"),
    [("--mask-erosion-size", 10**6), ("--tpi-outer-radius", 10**7), ("--prefetch", 10**5), ("--batch-size", 10**6)],
)
def test_absurd_sizes_are_refused(darts, scenes: Path, option: str, value: int) -> None:
    result = darts("inference", "planet-sequential", "--scenes-dir", str(scenes), option, str(value))
    assert_usage_error(result, f"{option} is {value}: should be less than or equal to")


def test_a_device_file_is_no_model(darts, scenes: Path) -> None:
    result = darts("inference", "planet-sequential", "--scenes-dir", str(scenes), "--model-files", "/dev/null")
    assert_usage_error(result, "/dev/null is neither a file nor a folder, so no model")
