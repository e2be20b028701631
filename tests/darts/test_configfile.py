"""The configuration file: what counts over what, and that a written one reads back to the same pipeline."""

from pathlib import Path

import pytest

from darts.errors import ConfigurationError
from darts.pipelines.configfile import config_values, read_config, write_config
from darts.pipelines.options import build, known_keys, options_of
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline

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
        [darts.inference.sentinel2-sequential]
        unheard = 1
        """,
    )
    assert read_config(path, COMMAND, KNOWN) == {"overlap": 64, "patch_size": 512, "batch_size": 2}


def test_the_table_of_the_group_stands_between_the_two(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "[darts]\noverlap = 1\nreflection = 1\nbatch_size = 1\n[darts.inference]\noverlap = 2\nreflection = 2\n"
        "[darts.inference.planet_sequential]\noverlap = 3\n",
    )
    assert read_config(path, COMMAND, KNOWN) == {"overlap": 3, "reflection": 2, "batch_size": 1}
    (misspelt := tmp_path / "b.toml").write_text("[darts.inference]\noverlop = 2\n")
    with pytest.raises(ConfigurationError, match="unknown key 'overlop'; did you mean 'overlap'"):
        read_config(misspelt, COMMAND, KNOWN)


@pytest.mark.parametrize("table", ["training", "train", "demo", "evaluate", "dataset", "cluster", "training-data"])
def test_tables_of_other_commands_and_of_training_are_not_read(tmp_path: Path, table: str) -> None:
    inner = f"[darts.{table}.hyper]\npatch_size = 32\nunheard = 2\n"
    path = _file(tmp_path, f"[darts]\noverlap = 8\n[darts.{table}]\nbatch_size = 4\nunheard = 1\n{inner}")
    assert read_config(path, COMMAND, KNOWN) == {"overlap": 8}


@pytest.mark.parametrize("table", ["paths", "segmentation", "model", "objects.first"])
def test_tables_that_give_order_are_read_and_checked(tmp_path: Path, table: str) -> None:
    path = _file(tmp_path, f"[darts.{table}]\npatch-size = 32\n")
    assert read_config(path, COMMAND, KNOWN) == {"patch_size": 32}
    path = _file(tmp_path, f"[darts.{table}]\npatch-sice = 32\n")
    with pytest.raises(ConfigurationError, match="unknown key 'patch_sice'; did you mean 'patch_size'"):
        read_config(path, COMMAND, KNOWN)


def test_every_command_is_known_either_to_have_a_table_or_to_have_none() -> None:
    """A new command has to be entered: in OTHER_TABLES where it has settings, here where it has none."""
    import typer

    from darts.cli.app import app, inference
    from darts.pipelines.configfile import INFERENCE_TABLES, OTHER_TABLES

    without_settings = {"inference", "paths", "env_info", "runs", "timings", "model", "cube"}
    commands = {name.replace("-", "_") for name in typer.main.get_command(app).list_commands(None)}
    assert commands <= OTHER_TABLES | without_settings
    group = typer.main.get_command(inference)
    assert {name.replace("-", "_") for name in group.list_commands(None)} == INFERENCE_TABLES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dart]\noverlap = 1\n", r"expected a table \[darts\], found \[dart\]; did you mean .* it says 'dart'\?"),
        ("[Darts]\noverlap = 1\n", r"found \[Darts\]; did you mean \[darts\] where it says 'Darts'\?"),
        ("overlap = 1\n", r"expected a table \[darts\], found overlap; put a line \[darts\] above 'overlap'"),
        ("patch-sice = 1\n", r"found patch-sice; put a line \[darts\] above 'patch-sice'"),
        ("[tool.black]\n[package]\n", r"found \[tool\], \[package\]; name a file of DARTS with --config-file, or none"),
        ("", r"expected a table \[darts\], found an empty file;"),
        ("# nothing\n", r"found an empty file;"),
        ("overlap = 1\n[darts]\npatch_size = 8\n", r"'overlap' stands outside \[darts\], .*; move it\.$"),
        ("patchsize = 1\n[darts]\n", r"'patchsize' stands outside .*; did you mean 'patch_size'\?"),
        ("darts = 3", r"expected a table \[darts\], found int"),
        ("[darts]\ninference = 3", r"expected a table \[darts\.inference\], found int"),
        ("[darts.inference.planet-sequental]\n", "no command 'planet-sequental'; did you mean 'planet-sequential'"),
        ("[darts]\npatch-size = 1\npatch_size = 2\n", "'patch_size' is set twice, with a dash and with an underscore"),
    ],
)
def test_what_stands_in_the_wrong_place_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_config(_file(tmp_path, text), COMMAND, KNOWN)


def test_an_empty_table_sets_nothing(tmp_path: Path) -> None:
    assert read_config(_file(tmp_path, "[darts]\n"), COMMAND, KNOWN) == {}


def test_other_tables_are_named_in_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _file(tmp_path, "title = 'a'\n[darts]\noverlap = 1\n[tool.x]\na = 1\n[project]\n")
    with caplog.at_level("WARNING", "darts"):
        assert read_config(path, COMMAND, KNOWN) == {"overlap": 1}
    assert caplog.messages == [f"{path}: only the table [darts] is read, and not title, [tool], [project]."]
    caplog.clear()
    path = _file(tmp_path, "[darts.inference.planet-sequential]\noverlap = 1\n[darts.inference.swarm]\nx = 1\n")
    with caplog.at_level("WARNING", "darts"):
        assert read_config(path, COMMAND, KNOWN) == {"overlap": 1}
    assert caplog.messages == [f"{path}: [darts.inference] holds tables that no command reads: swarm."]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_mark_and_line_end_gives_the_same_values(tmp_path: Path, mark: bytes, end: str) -> None:
    path = tmp_path / "config.toml"
    lines = ["[darts]", "# größe", "patch_size = 64", 'scenes_dir = "Süd"', "image_ids = [", '"a",', '"b"]', ""]
    path.write_bytes(mark + end.join(lines).encode())
    assert read_config(path, COMMAND, KNOWN) == {"patch_size": 64, "scenes_dir": "Süd", "image_ids": ["a", "b"]}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_another_encoding_says_how_to_save_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes('[darts]\nscenes_dir = "Süd"\n'.encode(encoding))
    found = "is not UTF-8: line 2 holds the byte 0xFC" if encoding == "latin-1" else "is UTF-16"
    with pytest.raises(ConfigurationError, match=rf"config\.toml {found}.* Save it with the encoding UTF-8"):
        read_config(path, COMMAND, KNOWN)


def test_days_need_no_quotes(tmp_path: Path) -> None:
    path = _file(tmp_path, "[darts]\nstart_date = 2021-07-01\nend_date = '2021-08'\n")
    values = read_config(path, ("inference", "sentinel2-sequential"), known_keys(Sentinel2Pipeline))
    pipeline = build(Sentinel2Pipeline, values)
    assert (pipeline.start_date, pipeline.end_date) == ("2021-07-01", "2021-08")


def test_a_misspelt_key_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    path = _file(tmp_path, "[darts]\npatchsize = 512\n")
    with pytest.raises(ConfigurationError, match=r"config\.toml: unknown key 'patchsize'; did you mean 'patch_size'\?"):
        read_config(path, COMMAND, KNOWN)


def test_a_key_set_in_two_tables_is_an_error(tmp_path: Path) -> None:
    path = _file(tmp_path, "[darts.a]\noverlap = 1\n[darts.b]\noverlap = 2\n")
    with pytest.raises(ConfigurationError, match="'overlap' is set twice"):
        read_config(path, COMMAND, KNOWN)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[darts]\nscenes_dir = a/b", "cannot be read: .* in quotes"), (None, "does not exist")],
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
