"""Names that code written for the original DARTS imports work here, or say what to use instead."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from darts.pipelines import PlanetPipeline
from darts.utils.cuda import debug_info, decide_device
from darts.utils.earthengine import init_ee
from darts_acquisition import LoginError
from darts_acquisition.utils.copernicus import init_copernicus
from darts_utils.paths import DefaultPaths, OriginalPaths, paths
from support import standin

LIST = Path(__file__).resolve().parents[3] / "shared" / "cases" / "original-names.txt"
PACKAGES = (
    "acquisition",
    "dataset",
    "evaluation",
    "export",
    "postprocessing",
    "preprocessing",
    "segmentation",
    "utils",
)


def names(title: str) -> list[str]:
    """Return the names under a heading of the list; none where the list is absent."""
    lines = LIST.read_text("utf-8").splitlines() if LIST.exists() else []
    starts = [number for number, line in enumerate(lines) if line.startswith(f"# {title}:")]
    rest = lines[starts[0] + 1 :] if starts else []
    ends = [number for number, line in enumerate(rest) if line.startswith("#")]
    return [line.strip() for line in rest[: ends[0] if ends else None] if line.strip()]


def fetch(name: str) -> object:
    """Import a name as ``from module import name`` does."""
    found: dict[str, object] = {}
    module, _, name = name.rpartition(".")
    exec(f"from {module} import {name}", found)
    return found[name]


@pytest.mark.skipif(not LIST.exists(), reason="the list of the original's names is not beside the checkout")
@pytest.mark.parametrize("name", names("works"))
def test_name_works(name: str):
    fetch(name)


@pytest.mark.skipif(not LIST.exists(), reason="the list of the original's names is not beside the checkout")
@pytest.mark.parametrize("name", names("says where"))
def test_name_says_in_a_sentence_where_it_is(name: str):
    with pytest.raises(ImportError, match=rf"^{name} is of the original DARTS; use .+ here\.$"):
        fetch(name)


@pytest.mark.parametrize(
    "module",
    ["darts_acquisition", "darts_acquisition.s2", "darts_segmentation.utils", "darts_ensemble", "darts_utils.cuda"],
)
def test_unknown_name_stays_unknown(module: str):
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        fetch(f"{module}.nothing")


@pytest.mark.parametrize("package", [*(f"darts_{name}" for name in PACKAGES), "darts"])
def test_package_tells_its_version(package: str):
    from importlib.metadata import version

    distribution = "darts-nextgen" if package == "darts" else package.replace("_", "-")
    assert importlib.import_module(package).__version__ == version(distribution)


def test_pipelines_load_no_heavy_library_before_they_are_asked_for():
    code = "import sys, darts.pipelines; print(sorted({'torch', 'xarray', 'rasterio'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"


def test_paths_follow_the_environment_at_first_use_and_then_what_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("DARTS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DARTS_FAST_DATA_DIR", str(tmp_path / "fast"))
    monkeypatch.delenv("DARTS_LARGE_DATA_DIR", raising=False)
    ours, data = OriginalPaths(), tmp_path / "data"
    assert ours.models == tmp_path / "fast/models"
    assert ours.training == tmp_path / "fast/training"
    monkeypatch.setenv("DARTS_DATA_DIR", str(tmp_path / "later"))
    folders = {"out": "output", "aux": "aux", "input": "input", "cache": "cache", "logs": "logs", "archive": "archive"}
    assert {name: getattr(ours, name) for name in folders} == {name: data / there for name, there in folders.items()}
    assert ours.arcticdem(10) == data / "aux/arcticdem_10m.darts.icechunk"
    assert ours.tcvis() == data / "aux/tctrend2019.darts.icechunk"
    assert (ours.planet_scenes(), ours.planet_orthotiles()) == (
        data / "input/planet/scenes",
        data / "input/planet/tiles",
    )
    assert ours.sentinel2_raw_data("gee") == data / "input/sentinel2/gee-scenes"
    assert ours.sentinel2_grid() == data / "input/sentinel2/grid"
    ours.set_defaults(DefaultPaths(tmp_path, tmp_path / "other", tmp_path / "large"))
    assert ours.models == tmp_path / "other/models"
    assert ours.out == tmp_path / "large/output"
    with pytest.raises(AttributeError, match="outt"):
        _ = ours.outt
    assert isinstance(paths, OriginalPaths)


@pytest.mark.parametrize("asked", [None, "cpu", "auto"])
def test_device_is_the_cpu_without_a_gpu(asked, monkeypatch):
    monkeypatch.setattr("darts_utils.device._visible_gpus", lambda: ([], "there is none"))
    assert decide_device(asked) == "cpu"


@pytest.mark.parametrize(("asked", "chosen"), [(None, "cuda"), ("cuda", "cuda"), (1, 1), ("cuda:1", 1), ("auto", 0)])
def test_device_is_named_as_the_original_names_it(asked, chosen, monkeypatch):
    from darts_utils.device import _Gpu

    monkeypatch.setattr("darts_utils.device._visible_gpus", lambda: ([_Gpu(0, 10), _Gpu(0, 10)], ""))
    monkeypatch.setattr("darts.utils.cuda.try_torch", lambda device: "")
    assert decide_device(asked) == chosen


def test_debug_info_prints_what_the_machine_has(capsys):
    debug_info()
    assert "GPU for networks" in capsys.readouterr().out


def test_init_ee_asks_as_it_is_told(monkeypatch):
    asked = []
    monkeypatch.setattr("darts.utils.earthengine.initialize_earth_engine", asked.append)
    init_ee("my-project", use_highvolume=False)
    (settings,) = asked
    assert (settings.project, settings.use_highvolume) == ("my-project", False)


def test_init_copernicus_finds_the_keys_of_a_profile_or_says_that_there_are_none(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "credentials").write_text("[cdse]\naws_access_key_id = a\naws_secret_access_key = b\n")
    init_copernicus(profile_name="cdse")
    with pytest.raises(LoginError, match="profile 'other'"):
        init_copernicus(profile_name="other")


def test_pipeline_tells_resolved_values_and_may_be_initialised_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("DARTS_DATA_DIR", str(tmp_path))
    standin.write_model(tmp_path / "models/first.safetensors")
    pipeline = PlanetPipeline()
    told = vars(pipeline).copy()
    assert pipeline.output_data_dir == tmp_path / "output/planet"
    assert pipeline.model_files == [tmp_path / "models/first.safetensors"]
    assert Path(pipeline.arcticdem_dir) == tmp_path / "aux/arcticdem_2m.darts.icechunk"
    assert (pipeline.scenes_dir, pipeline.orthotiles_dir) == (
        tmp_path / "input/planet/scenes",
        tmp_path / "input/planet/tiles",
    )
    pipeline.__post_init__()
    assert vars(pipeline) == told
