"""A source of images is plain data with a few methods: of one's own, checked, resolved, written down, and sent."""

import copy
import dataclasses
import multiprocessing
import pickle
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pydantic.dataclasses
import pytest
import rasterio
from affine import Affine

from darts.errors import ConfigurationError
from darts.pipelines.configfile import read_config, write_config
from darts.pipelines.options import build, given, known_keys
from darts.pipelines.sequential_v2 import ImageSelection, PlanetPipeline, Sentinel2Pipeline, _BasePipeline
from darts.run import CancellationToken, exit_code, run
from darts.run.task import TileTask
from darts.run.worker import Worker
from darts_utils import DefaultPaths
from support import standin

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-images.md"
HOOKS = ("_arcticdem_resolution", "_get_tile_id", "_tileinfos", "_load_tile", "_tile_aoi")
RESOLVED = ("output_data_dir", "model_files", "arcticdem_dir", "tcvis_dir", "edge_erosion_size")
DATACLASSES = {"stdlib": "from dataclasses import dataclass", "pydantic": "from pydantic.dataclasses import dataclass"}


def _source(kind: str) -> type:
    """Return the source that the documentation shows, made with a dataclass of the standard library or of pydantic."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    code = code.partition("\npipeline = ")[0].replace(DATACLASSES["stdlib"], DATACLASSES[kind])
    assert DATACLASSES[kind] in code
    names: dict[str, Any] = {"__name__": "example"}
    exec(code, names)
    return names["LandsatPipeline"]


@pytest.fixture(params=DATACLASSES)
def source(request: pytest.FixtureRequest) -> type:
    return _source(request.param)


def _make_folder(folder: Path, count: int) -> Path:
    """Write a model and some images, whose names end with a date as those of the page do."""
    standin.make_folder(folder, count)
    for number in range(count):
        (folder / "images" / f"tile-{number:03}.tif").rename(folder / "images" / f"tile-2021082{number}.tif")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and three images."""
    return _make_folder(tmp_path_factory.mktemp("sources"), 3)


def _values(folder: Path, output: Path) -> dict[str, Any]:
    made = standin.make_pipeline(folder, output_data_dir=output)
    return {item.name: given(getattr(made, item.name)) for item in dataclasses.fields(made)}


def _pixels(raster: Path) -> np.ndarray:
    with rasterio.open(raster) as file:
        return file.read()


def test_the_source_of_the_page_names_an_image_of_other_bands(tmp_path: Path) -> None:
    image = tmp_path / "tile-20210820.tif"
    profile = {"driver": "GTiff", "width": 8, "height": 8, "dtype": "uint16", "crs": "EPSG:32608"}
    with rasterio.open(image, "w", count=3, transform=rasterio.Affine(30, 0, 0, 0, -30, 0), **profile) as file:
        file.write(np.ones((3, 8, 8), np.uint16))
    pipeline = _source("stdlib")(images_dir=tmp_path, output_data_dir=tmp_path / "out", device="cpu")
    with pytest.raises(ValueError, match=r"tile-20210820\.tif has 3 bands; expected blue"):
        pipeline._load_tile(image)


def test_a_source_of_ones_own_runs_as_any_dataclass(folder: Path, tmp_path: Path) -> None:
    results = {}
    for kind in DATACLASSES:
        records = run(_source(kind)(**_values(folder, tmp_path / kind)), standin.open_session)
        assert [(tile.status, tile.error, tile.objects) for tile in records.tiles] == [("success", "", 1)] * 3
        results[kind] = standin.describe(tmp_path / kind)
    assert results["stdlib"] == results["pydantic"]
    assert len(results["stdlib"]) == 3
    # The stand-in is a source that is written otherwise, over the same images.
    run(standin.make_pipeline(folder, output_data_dir=tmp_path / "standin"), standin.open_session)
    for name in ("probabilities.tif", "binarized.tif"):
        pixels = [_pixels(tmp_path / kind / "tile-20210821" / name) for kind in ("stdlib", "standin")]
        np.testing.assert_array_equal(*pixels)
        assert len(np.unique(pixels[0])) > 1


def test_a_source_of_ones_own_is_finished_until_an_image_changes(source: type, tmp_path: Path) -> None:
    folder = _make_folder(tmp_path, 2)
    pipeline = source(**_values(folder, tmp_path / "results"))
    assert exit_code(run(pipeline, standin.open_session)) == 0
    standin.write_image(folder / "images" / "tile-20210821.tif", 5)
    planned = [(decision.action, decision.why) for decision in pipeline.plan().decisions]
    assert planned == [("skip", "finished"), ("compute", "changed since: tile-20210821.tif has another content")]


def test_a_source_of_ones_own_may_choose_its_images(folder: Path, tmp_path: Path) -> None:
    @dataclasses.dataclass
    class ChosenPipeline(ImageSelection, standin.StandInPipeline):
        def _tileinfos(self) -> list[tuple[Path, Path]]:
            found = {key.stem: (key, place) for key, place in super()._tileinfos()}
            return [found[name] for name in self.select_images(list(found))]

    (tmp_path / "list.txt").write_text("tile-20210822\n# not tile-20210821\ntile-20210820\n")
    chosen = ChosenPipeline(**_values(folder, tmp_path / "results"), image_list=tmp_path / "list.txt")
    assert [decision.task.tile_id for decision in chosen.plan().decisions] == ["tile-20210820", "tile-20210822"]
    with pytest.raises(ConfigurationError, match="no scene 'tile-202108'; did you mean 'tile-2021082"):
        dataclasses.replace(chosen, image_list=None, image_ids="tile-202108").plan()
    with pytest.raises(ConfigurationError, match="image_ids is empty; name at least one scene"):
        dataclasses.replace(chosen, image_list=None, image_ids=[]).plan()


@pytest.mark.parametrize("make", [dataclasses.dataclass, pydantic.dataclasses.dataclass], ids=DATACLASSES)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_missing_hook_is_a_type_error(make: Any, hook: str) -> None:
    others = {name: getattr(_source("stdlib"), name) for name in HOOKS if name != hook}
    partial = make(type("Partial", (_BasePipeline,), others))
    with pytest.raises(TypeError, match=f"abstract.* '?{hook}"):
        partial()


@pytest.mark.parametrize("pipeline", [PlanetPipeline, Sentinel2Pipeline])
def test_an_unknown_field_is_a_type_error(pipeline: type) -> None:
    with pytest.raises(TypeError, match="no field 'overlapp'"):
        pipeline(overlapp=1)


def test_a_source_of_ones_own_refuses_what_it_does_not_know(source: type) -> None:
    with pytest.raises(TypeError, match="no field 'overlapp'"):
        source(images_dir="images", overlapp=1)
    with pytest.raises((TypeError, ValueError), match="images_dir"):
        source()
    with pytest.raises(ValueError, match="patch_size"):
        source(images_dir="images", patch_size=0)


# Fields that are resolved when a pipeline is made.


def _root(folder: Path) -> DefaultPaths:
    standin.write_model(folder / "models" / "one.safetensors")
    return DefaultPaths(folder)


def test_planet_resolves_its_fields(tmp_path: Path) -> None:
    pipeline = PlanetPipeline(default_dirs=_root(tmp_path), mask_erosion_size=7)
    assert pipeline.output_data_dir == tmp_path / "output" / "planet"
    assert pipeline.model_files == [tmp_path / "models" / "one.safetensors"]
    assert Path(pipeline.arcticdem_dir) == tmp_path / "aux" / "arcticdem_2m.darts.icechunk"
    assert Path(pipeline.tcvis_dir) == tmp_path / "aux" / "tctrend2019.darts.icechunk"
    assert pipeline.edge_erosion_size == 7
    assert pipeline.orthotiles_dir == tmp_path / "input" / "planet" / "tiles"
    assert pipeline.scenes_dir == tmp_path / "input" / "planet" / "scenes"


@pytest.mark.parametrize("service", ["cdse", "gee"])
def test_sentinel2_resolves_its_fields(tmp_path: Path, service: str) -> None:
    pipeline = Sentinel2Pipeline(default_dirs=_root(tmp_path), raw_data_source=service)
    assert pipeline.output_data_dir == tmp_path / "output" / f"sentinel2-{service}"
    assert Path(pipeline.arcticdem_dir) == tmp_path / "aux" / "arcticdem_10m.darts.icechunk"
    assert pipeline.raw_data_store == tmp_path / "input" / "sentinel2" / f"{service}-scenes"
    kept_nowhere = Sentinel2Pipeline(default_dirs=_root(tmp_path), no_raw_data_store=True)
    assert kept_nowhere.raw_data_store is None
    assert dataclasses.replace(kept_nowhere, no_raw_data_store=False).raw_data_store is not None


def test_a_source_of_ones_own_resolves_its_fields(source: type, tmp_path: Path) -> None:
    pipeline = source(images_dir=tmp_path, default_dirs=_root(tmp_path))
    assert pipeline.output_data_dir == tmp_path / "output" / "LandsatPipeline"
    assert pipeline.model_files == [tmp_path / "models" / "one.safetensors"]
    assert Path(pipeline.arcticdem_dir) == tmp_path / "aux" / "arcticdem_32m.darts.icechunk"
    assert [given(getattr(pipeline, name)) for name in RESOLVED] == [None] * len(RESOLVED)


def _pipelines(root: DefaultPaths) -> list[Any]:
    own = [_source(kind)(images_dir="images", default_dirs=root) for kind in DATACLASSES]
    return [PlanetPipeline(default_dirs=root), Sentinel2Pipeline(default_dirs=root), *own]


def test_a_pipeline_may_be_made_ready_again(tmp_path: Path) -> None:
    for pipeline in _pipelines(_root(tmp_path)):
        before = copy.deepcopy(pipeline)
        pipeline.__post_init__()
        assert pipeline == before
        pipeline.mask_erosion_size = 3
        pipeline.__post_init__()
        assert pipeline.edge_erosion_size == 3


def test_a_changed_copy_resolves_anew(tmp_path: Path) -> None:
    other = _root(tmp_path / "other")
    for pipeline in _pipelines(_root(tmp_path)):
        replaced = dataclasses.replace(pipeline, default_dirs=other, mask_erosion_size=4)
        assert replaced.edge_erosion_size == 4
        for item in dataclasses.fields(pipeline):
            before, now = getattr(pipeline, item.name), getattr(replaced, item.name)
            if given(before) is None and before is not None and item.name != "edge_erosion_size":
                assert str(now).replace("/other/", "/") == str(before)
                assert "/other/" in str(now), item.name
        assert dataclasses.replace(replaced, default_dirs=pipeline.default_dirs, mask_erosion_size=10) == pipeline


def test_a_changed_copy_keeps_what_was_given(source: type, tmp_path: Path) -> None:
    chosen = {"output_data_dir": tmp_path, "arcticdem_dir": "s3://bucket/dem", "edge_erosion_size": 0}
    pipeline = source(images_dir="images", **chosen)
    replaced = dataclasses.replace(pipeline, default_dirs=DefaultPaths("/other"))
    assert {name: getattr(replaced, name) for name in chosen} == chosen


def test_a_folder_below_a_resolved_one_counts_as_given(tmp_path: Path) -> None:
    pipeline = PlanetPipeline(default_dirs=DefaultPaths(tmp_path))
    below = PlanetPipeline(output_data_dir=pipeline.output_data_dir / "north", default_dirs=DefaultPaths("/other"))
    assert below.output_data_dir == tmp_path / "output" / "planet" / "north"


def _read_back(pipeline: Any, path: Path) -> Any:
    write_config(pipeline, path)
    kind = type(pipeline)
    return build(kind, read_config(path, ("inference", "own"), known_keys(kind)))


def test_a_configuration_carries_what_was_given(tmp_path: Path) -> None:
    for number, pipeline in enumerate(_pipelines(_root(tmp_path))):
        path = tmp_path / f"{number}.toml"
        assert _read_back(pipeline, path) == pipeline
        written = tomllib.loads(path.read_text("utf-8"))["darts"]
        assert not written.keys() & {*RESOLVED, "scenes_dir", "orthotiles_dir", "raw_data_store"}
        changed = dataclasses.replace(pipeline, tcvis_dir="s3://bucket/tcvis", overlap=3)
        assert _read_back(changed, path) == changed
        assert 'tcvis_dir = "s3://bucket/tcvis"' in path.read_text()


# Plain data: sent to other processes.


@pytest.mark.parametrize(
    "pipeline", [PlanetPipeline(), Sentinel2Pipeline(), Sentinel2Pipeline(no_raw_data_store=True)], ids=repr
)
def test_a_pipeline_pickles_small(pipeline: Any) -> None:
    sent = pickle.dumps(pipeline)
    received = pickle.loads(sent)
    assert len(sent) < 10_000
    assert received == pipeline
    # It is as much as before what was given, and no more.
    names = [item.name for item in dataclasses.fields(pipeline)]
    assert [given(getattr(received, name)) for name in names] == [given(getattr(pipeline, name)) for name in names]


def test_a_pipeline_pickles_with_many_scenes() -> None:
    names = [f"S2A_MSIL2A_20210721T210021_N0500_R100_T08WMA_{number:08}T010203" for number in range(10_000)]
    pipeline = Sentinel2Pipeline(scene_ids=names)
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


def test_a_task_pickles_small(tmp_path: Path) -> None:
    output = PlanetPipeline(default_dirs=DefaultPaths(tmp_path)).output_data_dir / "20210821_210019_08_2405"
    task = TileTask(tmp_path / "20210821_210019_08_2405", "20210821_210019_08_2405", output, attempt=2)
    sent = pickle.dumps(task)
    assert pickle.loads(sent) == task
    assert len(sent) < 10_000


def test_a_token_pickles_with_its_state() -> None:
    asked, signalled = CancellationToken(), CancellationToken()
    asked.cancel()
    signalled.cancel(15)
    tokens = [pickle.loads(pickle.dumps(token)) for token in (CancellationToken(), asked, signalled)]
    assert [token.requested for token in tokens] == [False, True, True]
    assert [token.immediate for token in tokens] == [False, False, True]
    assert [token.signum for token in tokens] == [None, None, 15]
    tokens[0].cancel()
    assert tokens[0].requested


def test_serial_and_overlap_write_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    found = {}
    for executor in ("serial", "overlap"):
        values = {"output_data_dir": tmp_path / executor, "executor": executor, "prefetch": 2}
        assert exit_code(run(standin.make_pipeline(folder, **values), standin.open_session)) == 0
        found[executor] = standin.describe(tmp_path / executor)
    assert found["serial"] == found["overlap"]
    assert len(found["serial"]) == 3


@pytest.mark.slow
def test_a_run_in_a_new_process_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    here, there = (standin.make_pipeline(folder, output_data_dir=tmp_path / name) for name in ("here", "there"))
    process = multiprocessing.get_context("spawn").Process(target=run, args=(there, standin.open_session))
    process.start()
    run(here, standin.open_session)
    process.join()
    assert process.exitcode == 0
    assert standin.describe(there.output_data_dir) == standin.describe(here.output_data_dir)
    assert len(standin.describe(here.output_data_dir)) == 3


@pytest.mark.parametrize(
    ("crs", "said"),
    [
        ("EPSG:4326", r"The tile is in WGS 84; .*UTM"),
        (None, r"The tile has no grid with a CRS; give it one with .*_load_tile"),
    ],
)
def test_a_tile_that_lies_on_no_metres_fails_before_anything_is_fetched(
    tmp_path: Path, crs: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = standin.make_folder(tmp_path, 2)
    path = folder / "images" / "tile-000.tif"
    with rasterio.open(path) as file:
        values, profile = file.read(), file.profile
    with rasterio.open(path, "w", **profile | {"crs": crs, "transform": Affine(1e-5, 0, -135, 0, -1e-5, 69)}) as file:
        file.write(values)
    fetched: list[str] = []
    monkeypatch.setattr(Worker, "_preprocess", lambda self, work: fetched.append(work.record.tile_id))
    records = run(standin.make_pipeline(folder), standin.open_session)
    (failed,) = (tile for tile in records.tiles if tile.tile_id == "tile-000")
    assert failed.status == "failed"
    assert re.search(rf"^Loading Optical: GridError: {said}", failed.error)
    assert fetched == ["tile-001"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tile: tile.assign_attrs(time="August 2021"), "ParameterError: The time of the tile is 'August 2021'"),
        (lambda tile: tile.drop_vars("quality_data_mask"), "MissingBandError: The tile has no variable 'quality_data_"),
        (lambda tile: tile.drop_vars("green"), "MissingBandError: The tile has no variable 'green'"),
        (
            lambda tile: tile.assign(quality_data_mask=tile.quality_data_mask + 253),
            "ValueRangeError: quality_data_mask",
        ),
        (lambda tile: tile.expand_dims("time"), "GridError: quality_data_mask has the dimensions"),
        (lambda tile: tile.red, "InputTypeError: Expected an xarray.Dataset"),
    ],
)
def test_a_tile_that_cannot_be_exported_fails_before_the_network(
    tmp_path: Path, change: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = standin.make_folder(tmp_path, 2)
    load = standin.StandInPipeline._load_tile
    changed = {"tile-000": change}

    def load_changed(self: Any, tilekey: Path) -> Any:
        return changed.get(tilekey.stem, lambda tile: tile)(load(self, tilekey))

    monkeypatch.setattr(standin.StandInPipeline, "_load_tile", load_changed)
    reached: list[str] = []
    monkeypatch.setattr(Worker, "_preprocess", lambda self, work: reached.append(work.record.tile_id))
    records = run(standin.make_pipeline(folder, export_bands=["optical", "polygonized"]), standin.open_session)
    (failed,) = (tile for tile in records.tiles if tile.tile_id == "tile-000")
    assert failed.error.startswith(f"Loading Optical: {said}")
    assert reached == ["tile-001"]
