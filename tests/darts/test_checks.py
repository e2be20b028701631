"""Mistakes of a configuration are found before the first tile, each with a sentence that says what to change."""

import errno
import os
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import icechunk
import pytest
import zarr

from darts.errors import ConfigurationError
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline
from darts.run import checks
from darts.run.progress import warnings_once
from darts_acquisition import Datacube, arcticdem_product
from darts_export import ExportError
from support.permissions import locked_folder


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_selection_keeps_the_order_and_names_what_is_not_there() -> None:
    assert checks.select(None, ["b", "a"]) == ["b", "a"]
    assert checks.select(["a", "b"], ["b", "c", "a"]) == ["b", "a"]
    with pytest.raises(ConfigurationError, match="no scene '2021_x1'; did you mean '2021_x2'"):
        checks.select(["2021_x1"], ["2021_x2"])


def test_bands_that_cannot_be_produced_are_named() -> None:
    with pytest.raises(ConfigurationError, match="needs swir1, which"):
        checks.check_bands(["red", "swir1"], ["red", "nir"], "The ensemble")


def test_a_folder_that_is_a_file_is_not_writable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written into"):
        checks.check_folder_is_writable(_touch(tmp_path / "file") / "results")
    checks.check_folder_is_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_what_the_system_refuses_names_the_folder_and_our_own_errors_stay(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Records cannot be written into .*: No space"):  # noqa: SIM117
        with checks.writing_into(tmp_path, "Records"):
            raise OSError(errno.ENOSPC, "No space")
    with pytest.raises(ExportError, match=r"^already a sentence$"), checks.writing_into(tmp_path):
        raise ExportError("already a sentence")


def _check_cube(place: Path) -> None:
    checks.check_cube(str(place), arcticdem_product(32), "--arcticdem-dir", PlanetPipeline())


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to."""
    Datacube.create(tmp_path / "cube", arcticdem_product(32))  # All is imported before files cannot be read any more.
    _check_cube(tmp_path / "cube")
    with locked_folder() as folder:
        yield folder


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs the permissions of POSIX")
@pytest.mark.parametrize("place", ["cube", "new/folder/cube", "empty"])
def test_a_cube_that_cannot_be_created_is_found_before_the_first_tile(locked: Path, place: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"arcticdem \(--arcticdem-dir\) cannot .* {locked}: Permission denied"
    ):
        _check_cube(locked / place)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs the permissions of POSIX")
def test_a_cube_that_must_not_be_read_is_found_before_the_first_tile(locked: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"private is .*: Permission denied\. Correct --arcticdem-dir"):
        _check_cube(locked / "private")


def test_the_check_of_a_cube_creates_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _check_cube(tmp_path / "new" / "folder" / "cube")
    _check_cube(tmp_path / "empty")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["empty"]


def _check_offline(place: Path) -> None:
    checks.check_cube(str(place), arcticdem_product(32), "--arcticdem-dir", PlanetPipeline(offline=True))


def test_a_cube_of_another_program_is_left_alone_and_named(tmp_path: Path) -> None:
    """Beside the place of a new cube lies an Icechunk repository that no release of DARTS made."""
    beside, place = tmp_path / "arcticdem_32m.icechunk", tmp_path / "arcticdem_32m.darts.icechunk"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr, about a data type that is of no matter here
        repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(beside)))
        session = repository.writable_session("main")
        zarr.create_group(session.store).create_array("dem", shape=(4, 4), dtype="float32")
        session.commit("by another program")
    before = {path: path.read_bytes() for path in beside.rglob("*") if path.is_file()}
    command = rf"`darts cube import {beside} --to {place}`"
    for check in (_check_cube, _check_offline):
        with pytest.raises(ConfigurationError, match=rf"{beside} is a datacube of another program .*{command}"):
            check(place)
    assert {path: path.read_bytes() for path in beside.rglob("*") if path.is_file()} == before
    assert not place.exists()


def test_a_cube_of_ours_under_an_earlier_name_is_not_fetched_again(tmp_path: Path) -> None:
    beside, place = tmp_path / "arcticdem_32m.icechunk", tmp_path / "arcticdem_32m.darts.icechunk"
    Datacube.create(beside, arcticdem_product(32))
    for check in (_check_cube, _check_offline):
        with pytest.raises(ConfigurationError, match="under an earlier name") as caught:
            check(place)
    subprocess.run(["bash", "-euc", str(caught.value).partition("to use it: ")[2]], check=True)
    _check_offline(place)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_object_size": True}, "should be a number, not true"),
        ({"binarization_threshold": False}, "should be a number, not false"),
        ({"max_failures": True}, "should be a number, not true"),
        ({"patch_size": True}, "should be a number, not true"),
        ({"edge_erosion_size": True}, "should be a number, not true"),
        ({"quality_level": True}, "should be a number, not true"),
        ({"device": True}, "should be a number, not true"),
        ({"overlap": 513}, "at most half of patch_size"),
        ({"overlap": 513, "patch_size": "auto"}, "at most half of patch_size"),
        ({"patch_size": "large"}, "patch_size"),
        ({"patch_size": 0}, "patch_size"),
        ({"tpi_inner_radius": 100}, "must be below"),
        ({"binarization_threshold": 1.5}, "less than or equal to 1"),
        ({"min_object_size": -1}, "greater than or equal to 0"),
        ({"device": "gpu"}, "index of a GPU"),
        ({"quality_level": 3}, "low_quality"),
    ],
)
def test_values_that_cannot_work_are_refused_when_the_pipeline_is_made(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlanetPipeline(**values)


@pytest.mark.parametrize("values", [{"max_cloud_cover": True}, {"months": [7, True]}, {"years": True}], ids=str)
def test_true_is_no_percentage_and_no_month(values: dict) -> None:
    with pytest.raises(ValueError, match="should be a number, not true"):
        Sentinel2Pipeline(**values)


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="patch_sise"):
        PlanetPipeline(patch_sise=3)


def test_one_model_is_a_list_of_one_and_numbers_may_be_text() -> None:
    pipeline = PlanetPipeline(model_files="m.pt", device="1", quality_level="2")
    assert (pipeline.model_files, pipeline.device, pipeline.quality_level) == ([Path.cwd() / "m.pt"], 1, 2)


def test_results_depend_on_what_changes_numbers_and_on_nothing_else() -> None:
    names = set(PlanetPipeline()._results_configuration())
    assert {"tpi_outer_radius", "overlap", "binarization_threshold", "quality_level", "edge_objects"} <= names
    assert not names & {"device", "batch_size", "overwrite", "output_data_dir", "offline", "fail_fast"}


def test_a_warning_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with warnings_once():
            for _ in range(3):
                warnings.warn("the sun is down", UserWarning, stacklevel=1)
                warnings.warn("the moon is up", UserWarning, stacklevel=1)
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert messages == ["the sun is down (UserWarning)", "the moon is up (UserWarning)"]


def test_a_cube_may_lie_in_object_storage(tmp_path: Path) -> None:
    from darts.pipelines.configfile import config_values

    pipeline = PlanetPipeline(arcticdem_dir="s3://cubes/arcticdem", tcvis_dir=tmp_path / "tcvis")
    assert (pipeline.arcticdem_dir, pipeline.tcvis_dir) == ("s3://cubes/arcticdem", str(tmp_path / "tcvis"))
    assert config_values(pipeline)["arcticdem_dir"] == "s3://cubes/arcticdem"
