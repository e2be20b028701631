"""What planning refuses before the first tile: places, sizes, models that cannot be."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from darts.errors import ConfigurationError
from darts.run import checks, plan, run
from darts.run.planning import Planner
from darts.run.session import open_session
from darts_utils import ParameterError
from support import standin


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model and two images."""
    return standin.make_folder(tmp_path / "folder", 2)


def _run(folder: Path, **values: Any) -> Any:
    return run(standin.make_pipeline(folder, **values), standin.open_session)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: place.write_text("mine"), "place is a file; expected a folder"),
        (lambda place: place.symlink_to("nowhere"), "place is a link to nothing; expected a folder"),
    ],
    ids=["file", "link"],
)
def test_a_place_that_can_be_no_folder_is_found_while_planning(folder: Path, make: Any, message: str) -> None:
    place = folder / "place"
    make(place)
    for output in (place, place / "deep" / "results"):
        with pytest.raises(ConfigurationError, match=message):
            plan(standin.make_pipeline(folder, output_data_dir=output))
        with pytest.raises(ConfigurationError, match=message):
            _run(folder, output_data_dir=output)
    assert plan(standin.make_pipeline(folder, output_data_dir=folder / "new" / "deep")).todo
    assert not (folder / "new").exists()


def test_a_mistake_that_planning_finds_leaves_no_folder_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Planner) -> None:
        raise ConfigurationError("a cube of another product")

    monkeypatch.setattr(Planner, "plan", refuse)
    with pytest.raises(ConfigurationError, match="another product"):
        _run(folder, output_data_dir=folder / "new" / "results")
    assert not (folder / "new").exists()


def test_two_tiles_with_one_folder_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standin.StandInPipeline, "_get_tile_id", lambda self, key: "same")
    monkeypatch.setattr(
        standin.StandInPipeline, "_tileinfos", lambda self: [(Path("a"), Path("x")), (Path("b"), Path("x"))]
    )
    with pytest.raises(ConfigurationError, match="one folder of results, x"):
        plan(standin.make_pipeline(folder))


@pytest.mark.parametrize(
    ("values", "needed"), [({"patch_size": 2_000_000}, "238,419"), ({"reflection": 1_000_000}, "29,803")], ids=str
)
def test_sizes_that_fit_no_memory_are_refused(folder: Path, values: dict, needed: str) -> None:
    (name,) = values
    with pytest.raises(ConfigurationError, match=f"{name} is .* px, which needs at least {needed} GB of memory"):
        plan(standin.make_pipeline(folder, **values))


@pytest.mark.parametrize(
    ("values", "name", "needed"),
    [
        ({"patch_size": 1000, "overlap": 8, "reflection": 0}, "patch_size", 64 * 1000**2),
        ({"patch_size": 32, "overlap": 8, "reflection": 500}, "reflection", 8 * 1032**2),
    ],
)
def test_the_least_memory_of_a_size_decides(
    folder: Path, monkeypatch: pytest.MonkeyPatch, values: dict, name: str, needed: int
) -> None:
    """16 channels of float32 for a patch; two arrays of float32 for a tile that is no larger than a patch."""
    pipeline = standin.make_pipeline(folder, **values)
    monkeypatch.setattr(checks, "available_memory", lambda: needed)
    checks.check_sizes(pipeline)
    monkeypatch.setattr(checks, "available_memory", lambda: needed - 1)
    with pytest.raises(ConfigurationError, match=f"^{name} is {values[name]} px"):
        checks.check_sizes(pipeline)


@pytest.mark.parametrize(("count", "write", "subsets"), [(1, True, ()), (2, True, ("a", "b")), (2, False, ())])
def test_results_of_members_are_written_where_there_are_several(
    folder: Path, count: int, write: bool, subsets: tuple[str, ...]
) -> None:
    models = [standin.write_model(folder / f"{name}.safetensors") for name in "ab"[:count]]
    pipeline = standin.make_pipeline(folder, model_files=models, write_model_outputs=write)
    assert plan(pipeline).context.subsets == subsets


def test_a_network_that_cannot_take_the_patches_is_a_mistake_of_the_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(size: int) -> None:
        raise ParameterError(f"patch_size is {size}; expected 64.")

    networks = SimpleNamespace(check_patch_size=refuse)
    monkeypatch.setattr("darts_segmentation.EnsembleV1", lambda models, device, engine: networks)
    pipeline = standin.make_pipeline(folder)
    with pytest.raises(ConfigurationError, match="patch_size is 32; expected 64"):
        open_session(pipeline, plan(pipeline).context)


def test_a_model_whose_name_cannot_be_that_of_a_file_is_refused(folder: Path) -> None:
    models = [standin.write_model(folder / name) for name in ("rts:v2.safetensors", "b.safetensors")]
    with pytest.raises(ValueError, match="rts:v2"):
        plan(standin.make_pipeline(folder, model_files=models, write_model_outputs=True))
