"""The configuration file: what counts over what, and that a written one reads back to the same pipeline."""

from pathlib import Path

import pytest

from darts.errors import ConfigurationError
from darts.pipelines.configfile import config_values, read_config, write_config
from darts.pipelines.options import build, known_keys, options_of
from darts.pipelines.sequential_v2 import PlanetPipeline

COMMAND = ("inference", "planet-sequential")
KNOWN = known_keys(PlanetPipeline)


def _file(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_commands_own_table_goes_over_the_general_one(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        """
        [darts]
        overlap = 128
        [darts.model]
        patch-size = 512
        batch_size = 2
        [darts.inference.planet-sequential]
        overlap = 64
        [darts.inference.something-else]
        unheard = 1
        """,
    )
    assert read_config(path, COMMAND, KNOWN) == {"overlap": 64, "patch_size": 512, "batch_size": 2}


def test_a_misspelt_key_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    path = _file(tmp_path, "[darts]\npatchsize = 512\n")
    with pytest.raises(ConfigurationError, match=r"config\.toml: unknown key 'patchsize'; did you mean 'patch_size'\?"):
        read_config(path, COMMAND, KNOWN)


def test_a_key_set_in_two_tables_is_an_error(tmp_path: Path) -> None:
    path = _file(tmp_path, "[darts.a]\noverlap = 1\n[darts.b]\noverlap = 2\n")
    with pytest.raises(ConfigurationError, match="'overlap' is set twice"):
        read_config(path, COMMAND, KNOWN)


@pytest.mark.parametrize(
    ("text", "message"), [("overlap =", "cannot be read"), ("darts = 3", "expected a table"), (None, "does not exist")]
)
def test_a_file_that_is_none_is_an_error(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config.toml" if text is None else _file(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message):
        read_config(path, COMMAND, KNOWN)


def test_a_written_configuration_reads_back_to_the_same_pipeline(tmp_path: Path) -> None:
    changed = {
        "model_files": [tmp_path / "ä b.pt"],
        "darts_dir": tmp_path,
        "scenes_dir": tmp_path / "scenes",
        "image_ids": ["one", "two"],
        "tpi_outer_radius": 60,
        "edge_erosion_size": 0,
        "binarization_threshold": 0.25,
        "quality_level": "high_quality",
        "export_bands": ["extent", "ndvi"],
        "offline": True,
        "max_failures": 3,
    }
    pipeline = build(PlanetPipeline, changed)
    path = tmp_path / "config.toml"
    write_config(pipeline, path)
    assert build(PlanetPipeline, read_config(path, COMMAND, KNOWN)) == pipeline


def test_what_is_none_is_left_out_and_paths_are_text() -> None:
    values = config_values(PlanetPipeline(scenes_dir="scenes"))
    assert values["scenes_dir"] == str(Path.cwd() / "scenes")
    assert "orthotiles_dir" not in values
    assert values["overlap"] == 256


def test_the_contract_of_fields_and_defaults() -> None:
    defaults = {item.name: item.default for item in options_of(PlanetPipeline)}
    contract = {
        "model_files": None,
        "output_data_dir": None,
        "arcticdem_dir": None,
        "tcvis_dir": None,
        "device": None,
        "tpi_outer_radius": 100,
        "tpi_inner_radius": 0,
        "patch_size": 1024,
        "overlap": 256,
        "batch_size": 8,
        "reflection": 0,
        "binarization_threshold": 0.5,
        "mask_erosion_size": 10,
        "edge_erosion_size": None,
        "min_object_size": 32,
        "quality_level": 1,
        "export_bands": ["probabilities", "binarized", "polygonized", "extent", "thumbnail"],
        "write_model_outputs": False,
        "overwrite": False,
        "offline": False,
        "debug_data": False,
        "precision": "fp32",
        "tta": None,
        "edge_objects": "clip",
        "executor": "overlap",
        "prefetch": 1,
        "fail_fast": False,
        "max_failures": None,
        "orthotiles_dir": None,
        "scenes_dir": None,
        "image_ids": None,
    }
    assert {name: defaults[name] for name in contract} == contract
