"""Folders of results are found and read as their files say."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from scipy.ndimage import label

from darts_evaluation import PredictionsError, evaluate, find_results, mapped_objects, read_tile_map
from darts_utils import ResultFolder
from support.maps import CRS, GRID, SIZE, labels_of, make_tile, shapes_of

TILE, TRUTH = make_tile(2)
SEEN, NONE = TILE.seen, 255


def write_result(
    folder: Path, tile_id: str | None = None, files: tuple[str, ...] = ("binarized", "probabilities")
) -> Path:
    """Write the results of a tile as an export leaves them; names may end in that of a model."""
    folder.mkdir(parents=True)
    rasters = {
        "binarized": np.where(SEEN, TILE.mapped, NONE),
        "probabilities": np.where(SEEN, TILE.probability, NONE),
        "binarized-other": np.where(SEEN, ~TILE.mapped, NONE),
        "probabilities-other": np.where(SEEN, 100 - TILE.probability, NONE),
    }
    tables = {"prediction_segments": TILE.objects, "prediction_segments-other": TILE.objects[:1]}
    tables["prediction_extent"] = gpd.GeoDataFrame(geometry=[shapely.box(*TILE.objects.total_bounds)], crs=CRS)
    for name in files:
        if name in rasters:
            options = {"driver": "GTiff", "height": SIZE, "width": SIZE, "count": 1, "dtype": "uint8"}
            with rasterio.open(folder / f"{name}.tif", "w", crs=CRS, transform=GRID, **options) as file:
                file.write(rasters[name].astype(np.uint8), 1)
        else:
            tables[name].to_parquet(folder / f"{name}.parquet")
    listed = {path.name: {"size": path.stat().st_size} for path in folder.iterdir()}
    manifest = {"files": listed} | ({"tile_id": tile_id} if tile_id else {})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def read(folder: Path, model: str | None = None):
    return read_tile_map(ResultFolder.open(folder), model)


def test_rasters_are_the_map_where_nothing_else_was_exported(tmp_path):
    found = read(write_result(tmp_path / "tile", "the tile"))
    assert found.name == "the tile"
    assert (found.mapped == TILE.mapped).all()
    assert (found.seen == SEEN).all()
    assert (found.probability[SEEN] == TILE.probability[SEEN]).all()
    assert len(found.objects) == label(TILE.mapped, np.ones((3, 3)))[1]
    assert np.isnan(found.objects["mean"]).all()


def test_objects_are_the_map_where_it_was_not_exported(tmp_path):
    found = read(write_result(tmp_path / "tile", files=("probabilities", "prediction_segments")))
    assert found.name == "tile"
    assert (found.mapped == TILE.mapped).all()
    assert (found.seen == SEEN).all()
    assert found.objects["mean"].tolist() == TILE.objects["mean"].tolist()


def test_the_extent_is_what_was_seen(tmp_path):
    found = read(write_result(tmp_path / "tile", files=("binarized", "prediction_extent")))
    left, bottom, right, top = TILE.objects.total_bounds
    rows, cols = np.indices((SIZE, SIZE))
    x, y = GRID.c + 10 * (cols + 0.5), GRID.f - 10 * (rows + 0.5)
    assert (found.seen == SEEN & (x > left) & (x < right) & (y > bottom) & (y < top)).all()
    assert found.probability is None


def test_a_member_of_the_ensemble_has_files_of_its_own(tmp_path):
    files = ("binarized", "probabilities", "binarized-other", "probabilities-other", "prediction_segments-other")
    found = read(write_result(tmp_path / "tile", files=files), "other")
    assert (found.mapped[SEEN] == ~TILE.mapped[SEEN]).all()
    assert (found.probability[SEEN] == 100 - TILE.probability[SEEN]).all()
    assert len(found.objects) == 1
    assert len(read(tmp_path / "tile").objects) > 1


@pytest.mark.filterwarnings("ignore::darts_evaluation.FewBlocksWarning")
def test_results_have_the_figures_of_the_map(tmp_path):
    write_result(tmp_path / "results" / "tile", files=("binarized", "probabilities", "prediction_segments"))
    labels = labels_of(TRUTH)
    one, two = evaluate(tmp_path / "results", labels), evaluate([TILE], labels)
    assert repr(one.figures) == repr(two.figures)


def test_results_are_found_by_name_and_once(tmp_path):
    for folder, name in (("x", "b"), ("y", "a"), ("z", "c")):
        write_result(tmp_path / folder, name, ("binarized",))
    (tmp_path / "z" / "manifest.json").write_text('{"files": {}, "status": "empty"}')
    (tmp_path / "notes.txt").write_text("no folder")
    (tmp_path / "unfinished").mkdir()
    found = find_results([tmp_path, tmp_path / "x", tmp_path / "." / "y"])
    assert [(each.tile_id, each.path.name) for each in found] == [("a", "y"), ("b", "x")]
    assert [each.tile_id for each in find_results(str(tmp_path / "x"))] == ["b"]


def test_results_that_cannot_be_used_are_one_sentence(tmp_path):
    write_result(tmp_path / "one", "same", ("binarized",))
    write_result(tmp_path / "two", "same", ("binarized",))
    with pytest.raises(PredictionsError, match=r"one and .*two are both of the tile same; expected one of them"):
        find_results(tmp_path)
    with pytest.raises(PredictionsError, match=r"absent: no finished results; expected .* manifest\.json"):
        find_results([tmp_path / "one", tmp_path / "absent"])
    with pytest.raises(PredictionsError, match=r"neither binarized-x\.tif nor probabilities-x\.tif"):
        read(tmp_path / "one", "x")
    with pytest.raises(PredictionsError, match=r"neither binarized\.tif nor objects"):
        read(write_result(tmp_path / "three", files=("probabilities",)))
    (tmp_path / "two" / "binarized.tif").write_bytes(b"damaged")
    with pytest.raises(PredictionsError, match=r"two: a file cannot be read"):
        read(tmp_path / "two")


@pytest.mark.parametrize("seed", range(3))
def test_mapped_objects_are_the_areas_that_touch_by_a_corner(seed):
    mask = np.random.default_rng(seed).random((30, 40)) < 0.4
    found = mapped_objects(mask, GRID, CRS)
    expected = shapes_of(mask)
    assert found.crs.to_epsg() == 32608
    assert sorted(round(each.area) for each in found.geometry) == sorted(round(each.area) for each in expected)
    assert found.union_all().symmetric_difference(shapely.union_all(expected)).area == 0


def test_results_with_a_damaged_manifest_are_not_left_out_in_silence(tmp_path):
    for name in "ab":
        write_result(tmp_path / name, name)
    (tmp_path / "b" / "manifest.json").write_text('{"files": {')
    with pytest.raises(PredictionsError, match=r"manifest\.json cannot be read"):
        find_results(tmp_path)


@pytest.mark.filterwarnings("ignore::darts_evaluation.FewBlocksWarning")
def test_tiles_that_were_not_made_alike_are_a_note(tmp_path):
    """Figures over two thresholds are those of no map."""
    notes = []
    for number, thresholds in enumerate([(0.5, 0.5), (0.5, 0.3)]):
        for name, threshold in zip("ab", thresholds, strict=True):
            folder = write_result(tmp_path / str(number) / name)
            manifest = json.loads((folder / "manifest.json").read_text())
            about = {"configuration": {"binarization_threshold": threshold}, "models": {"m": {"sha256": "1" * 64}}}
            (folder / "manifest.json").write_text(json.dumps(manifest | {"metadata": about}))
        notes.append(evaluate(tmp_path / str(number), labels_of(TRUTH)).notes)
    said = "binarization_threshold (0.5 in 1 tile, 0.3 in 1 tile)"
    assert [note for note in notes[1] if note not in notes[0]] == [
        f"The tiles were not made alike, so that the figures are those of no one map: {said}."
    ]


def test_results_are_found_as_a_dataset_finds_them(tmp_path):
    """At any depth, but not where an export is at work."""
    for place, name in (("2021/north/one", "one"), ("2021/two", "two"), ("three", "three"), (".draft/four", "four")):
        write_result(tmp_path / "results" / place, name)
    assert [result.tile_id for result in find_results(tmp_path / "results")] == ["one", "three", "two"]
