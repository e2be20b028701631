"""A real order as it was delivered: ten scenes flat in one folder, or in an archive, through loaders and pipeline."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from darts.errors import NoTilesError
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts.run import exit_code, plan, run
from darts_acquisition import find_planet_scenes, get_planet_geometry, load_planet_masks, load_planet_scene
from support import standin
from support.damage import copy_scene

BANDS = ("blue", "green", "red", "nir")
PEEL = "20210821_210019_08_2405"


@pytest.fixture(scope="module")
def delivered(shared_data: Path) -> Path:
    return shared_data / "planet_order"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standin.write_model(tmp_path_factory.mktemp("model") / "model.safetensors")


def _pipeline(model: Path, output: Path, **values: object) -> PlanetPipeline:
    values = (
        {"patch_size": 64, "overlap": 8, "mask_erosion_size": 2, "device": "cpu", "offline": True}
        | values
        | {"report": False}
    )
    values |= {"model_files": model, "output_data_dir": output, "export_bands": ["probabilities", "extent"]}
    return PlanetPipeline(**values)


def _decisions(pipeline: PlanetPipeline) -> dict[str, tuple[str, str]]:
    return {decision.task.tile_id: (decision.action, decision.why) for decision in plan(pipeline).decisions}


def _zip(folder: Path, archive: Path, **changed: bytes) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(folder.iterdir()):
            target.writestr(f"PSScene/{file.name}", changed.get(file.name, file.read_bytes()))
    return archive


def quality_of(udm: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Quality by Planet's specification, one pixel and one bit after the other."""
    quality = np.empty(udm.shape[1:], "uint8")
    for place in np.ndindex(quality.shape):
        bands = [int(value) for value in udm[:, *place]]
        if bands[7] & 1 or bands[7] >> 2 or not any(int(value) for value in numbers[:, *place]):
            quality[place] = 0
        else:
            quality[place] = 1 if any(bands[1:6]) or bands[7] >> 1 & 1 else 2
    return quality


def test_real_order_equals_an_independent_reading(delivered: Path) -> None:
    scenes = find_planet_scenes(delivered)
    assert len(scenes) == 10
    qualities = []
    for path in scenes:
        with rasterio.open(delivered / f"{path.name}_3B_AnalyticMS_SR_harmonized_clip.tif") as image:
            numbers, bounds, crs = image.read().astype("float64"), image.bounds, image.crs
        with rasterio.open(delivered / f"{path.name}_3B_udm2_clip.tif") as mask:
            udm = mask.read()
        scene = load_planet_scene(path)
        for name, band in zip(BANDS, numbers, strict=True):
            np.testing.assert_allclose(scene[name], np.where(band == 0, np.nan, band / 10000), rtol=0, atol=1e-7)
        for masks in (load_planet_masks(path, scene), load_planet_masks(path)):
            np.testing.assert_array_equal(masks.quality_data_mask, quality_of(udm, numbers))
            np.testing.assert_array_equal(masks.planet_udm, udm)
        assert get_planet_geometry(path).boundingbox.bbox == tuple(bounds)
        assert scene.odc.geobox.crs == crs
        assert scene.attrs["tile_id"] == path.name
        assert 50 < scene.attrs["elevation"] < 65
        qualities.append(masks.quality_data_mask.values)
    assert set(np.unique(qualities)) >= {0, 2}


@pytest.mark.slow
def test_real_order_runs_from_the_folder_as_it_was_delivered(delivered: Path, model: Path, tmp_path: Path) -> None:
    pipeline = _pipeline(model, tmp_path / "results", scenes_dir=delivered)
    records = run(pipeline, standin.open_session)
    assert exit_code(records) == 0
    assert sorted(tile.tile_id for tile in records.tiles) == [path.name for path in find_planet_scenes(delivered)]
    for tile in records.tiles:
        scene = load_planet_scene(delivered / tile.tile_id)
        invalid = load_planet_masks(delivered / tile.tile_id, scene).quality_data_mask.values == 0
        with rasterio.open(tmp_path / "results" / tile.tile_id / "probabilities.tif") as raster:
            assert (raster.read(1)[invalid] == 255).all()
            assert (raster.read(1) != 255).any()
    assert set(_decisions(pipeline).values()) == {("skip", "finished")}


def test_an_archive_gives_the_same_files_and_is_finished_until_a_member_changes(
    delivered: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "PSScene"
    folder.mkdir()
    first, second, *_ = sorted({path.name for path in find_planet_scenes(delivered)})
    for file in delivered.iterdir():
        if file.name.startswith((first, second)):
            shutil.copy(file, folder)
    archive = _zip(folder, tmp_path / "order.zip")
    from_folder = _pipeline(model, tmp_path / "from-folder", scenes_dir=folder)
    from_archive = _pipeline(model, tmp_path / "from-archive", scenes_dir=archive)
    for pipeline in (from_folder, from_archive):
        assert exit_code(run(pipeline, standin.open_session)) == 0
    for name in (first, second):
        layers = []
        for results in ("from-archive", "from-folder"):
            with rasterio.open(tmp_path / results / name / "probabilities.tif") as raster:
                layers.append(raster.read())
        np.testing.assert_array_equal(*layers)

    finished = {first: ("skip", "finished"), second: ("skip", "finished")}
    assert _decisions(from_archive) == finished
    _zip(folder, archive)
    assert _decisions(from_archive) == finished, "an archive that was packed anew holds the same"
    metadata = f"{second}_metadata.json"
    content = (folder / metadata).read_bytes()
    _zip(folder, archive, **{metadata: content.replace(b'"strip_id": "6', b'"strip_id": "7')})
    changed = {first: ("skip", "finished"), second: ("compute", f"changed since: {metadata} has another content")}
    assert _decisions(from_archive) == changed
    _zip(folder, archive, **{metadata: content + b" "})
    assert _decisions(from_archive) == changed
    (folder / metadata).rename(tmp_path / metadata)
    _zip(folder, archive)
    assert _decisions(from_archive) == finished | {second: ("compute", f"changed since: {metadata} is gone")}


def test_scenes_of_an_archive_that_is_damaged_fail_by_name(delivered: Path, model: Path, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    copy_scene(delivered.parent / "peel" / "planet_layout" / "scenes" / PEEL, scenes, PEEL)
    archive = _zip(delivered, scenes / "order.zip")
    archive.write_bytes(archive.read_bytes()[:-1000])
    records = run(_pipeline(model, tmp_path / "results", scenes_dir=scenes), standin.open_session)
    ended = {tile.tile_id: (tile.status, tile.error) for tile in records.tiles}
    assert ended[PEEL][0] == "success"
    assert ended["order.zip"][0] == "failed"
    assert f"{archive} cannot be read as a zip archive" in ended["order.zip"][1]
    assert exit_code(records) == 1


def test_orthotiles_go_to_the_folder_of_their_tile_in_every_layout(
    model: Path, tmp_path: Path, shared_data: Path
) -> None:
    peel = shared_data / "peel" / "planet_layout" / "scenes" / PEEL
    name = "5790392_4372514_2022-07-16_2459"
    nested = copy_scene(peel, tmp_path / "tiles" / "4372514", name)
    flat = tmp_path / "order" / "PSOrthoTile"
    shutil.copytree(nested, flat)
    output = tmp_path / "results"
    for folder, key in ((tmp_path / "tiles", nested), (tmp_path / "order", flat / name)):
        pipeline = _pipeline(model, output, orthotiles_dir=folder)
        assert pipeline._tileinfos() == [(key, output / "4372514" / name)]
    odd = copy_scene(peel, tmp_path / "odd" / "some_place", PEEL)
    pipeline = _pipeline(model, output, orthotiles_dir=tmp_path / "odd")
    assert pipeline._tileinfos() == [(odd, output / "some_place" / PEEL)]


def test_a_folder_without_a_scene_says_what_was_sought(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(NoTilesError, match=r"notes holds no folder of a scene, and no files .*<scene>_3B_"):
        plan(_pipeline(model, tmp_path / "results", scenes_dir=tmp_path / "notes"))
    for absent in ("absent", "notes.txt"):
        with pytest.raises(NoTilesError, match=f"There is no folder or zip archive .*{absent}; correct --scenes-dir"):
            plan(_pipeline(model, tmp_path / "results", scenes_dir=tmp_path / absent))


def test_names_select_scenes_of_an_order(delivered: Path, model: Path, tmp_path: Path) -> None:
    names = [path.name for path in find_planet_scenes(delivered)][2:4]
    for mark, end in ((b"", "\n"), (b"\xef\xbb\xbf", "\r\n")):
        listed = tmp_path / "images.txt"
        listed.write_bytes(mark + end.join(names).encode())
        pipeline = _pipeline(model, tmp_path / "results", scenes_dir=delivered, image_list=listed)
        assert [decision.task.tile_id for decision in plan(pipeline).decisions] == names
