"""Updates, releases, kills, and what is left out or refused."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from affine import Affine

from darts_dataset import DatasetError, LeftOutWarning, build, check
from darts_utils import ParameterError
from support.lanes import mostly_slow
from support.results import export_mask
from support.slump_worlds import (
    APPEARS,
    CRS,
    GRID,
    GROWS,
    HIDDEN,
    PIXEL,
    blocks,
    day,
    files_of,
    holding,
    objects_of,
    world,
)

# Updates.


@pytest.mark.slow
def test_an_update_across_the_antimeridian_equals_a_build_from_nothing(tmp_path):
    """A slump that is cut at 180° is known from a year that stays as it is, and from a release before."""
    x, y = gpd.GeoSeries([shapely.Point(180, 68)], crs="EPSG:4326").to_crs("EPSG:32601").iloc[0].coords[0]
    grid = Affine(PIXEL, 0, x - 50 * PIXEL, 0, -PIXEL, y + 50 * PIXEL)
    for year in (2019, 2020):
        export_mask(tmp_path / "r" / f"{year}", blocks((40, 60, 40, 60)), grid, "EPSG:32601", day(year))
        build(tmp_path / "r", tmp_path / "updated")
    build(tmp_path / "r", tmp_path / "new")
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "new")
    first, second = (objects_of(tmp_path / "new", year) for year in (2019, 2020))
    assert first.total_bounds[[0, 2]].tolist() == [-180, 180]
    assert first["object_id"].tolist() == second["object_id"].tolist()
    release = build(tmp_path / "r" / "2019", tmp_path / "release").path
    build(tmp_path / "r" / "2020", tmp_path / "later", previous=release)
    assert objects_of(tmp_path / "later", 2020)["object_id"].tolist() == first["object_id"].tolist()


@pytest.mark.slow
def test_an_update_with_a_release_before_equals_a_build_from_nothing(tmp_path):
    """Scenes of 2020 are changed, added and taken away; the release has other outlines of 2018 to 2020."""
    for year in (2018, 2019, 2020):
        mask = blocks(GROWS[0], (52, 66, 12, 28), HIDDEN)
        export_mask(tmp_path / "old" / f"{year}", mask, GRID, CRS, day(year))
    release = build(tmp_path / "old", tmp_path / "release").path
    results = world(tmp_path / "results")
    build(results, tmp_path / "updated", previous=release)
    changes = (
        lambda: export_mask(results / "scene-2020", blocks(GROWS[1], APPEARS), GRID, CRS, day(2020)),
        lambda: export_mask(results / "more", blocks(GROWS[2], HIDDEN), GRID, CRS, day(2020, 210)),
        lambda: shutil.rmtree(results / "scene-2019"),
    )
    for number, change in enumerate(changes):
        change()
        build(results, tmp_path / "updated", previous=release)
        build(results, tmp_path / f"new-{number}", previous=release)
        assert files_of(tmp_path / "updated") == files_of(tmp_path / f"new-{number}")
        assert check(tmp_path / "updated").failures == ()
    assert holding(objects_of(tmp_path / "updated", 2021), HIDDEN) == holding(objects_of(release, 2018), HIDDEN)


def test_an_update_equals_a_build_from_nothing_and_writes_what_changed(tmp_path):
    results = world(tmp_path / "results")
    build(results, tmp_path / "updated")
    assert build(results, tmp_path / "updated").written == ()
    export_mask(results / "scene-2020", blocks(GROWS[1], APPEARS), GRID, CRS, day(2020))
    export_mask(results / "later", blocks(GROWS[2]), GRID, CRS, day(2022))
    update = build(results, tmp_path / "updated")
    assert "level1/source=PlanetScope/year=2019" in update.reused
    assert "level2/year=2019" in update.reused
    assert "level2/year=2021" in update.written  # What was known before has changed.
    build(results, tmp_path / "new")
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "new")
    links = tmp_path / "updated" / "links.parquet"
    read = pd.read_parquet(links)
    read.iloc[1:].to_parquet(links)  # A damaged file of the dataset before is not believed.
    build(results, tmp_path / "updated")
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "new")


@pytest.mark.slow
def test_ids_stay_over_releases_where_outlines_move_by_a_pixel(tmp_path):
    rng = np.random.default_rng(0)
    places = [
        (r, r + rng.integers(5, 9), c, c + rng.integers(5, 9)) for r in range(3, 110, 12) for c in range(3, 110, 12)
    ]
    export_mask(tmp_path / "one" / "scene", blocks(*places), GRID, CRS, day(2020))
    build(tmp_path / "one", tmp_path / "first")
    moved = [
        (
            top + rng.integers(-1, 2),
            bottom + rng.integers(-1, 2),
            left + rng.integers(-1, 2),
            right + rng.integers(-1, 2),
        )
        for top, bottom, left, right in places
    ]
    export_mask(tmp_path / "two" / "scene", blocks(*moved), GRID, CRS, day(2020))
    build(tmp_path / "two", tmp_path / "second", previous=tmp_path / "first")
    before, after = objects_of(tmp_path / "first", 2020), objects_of(tmp_path / "second", 2020)
    assert len(before) == len(after) == len(places)
    for old, new in zip(places, moved, strict=True):
        assert holding(before, old) == holding(after, new)
    build(tmp_path / "two", tmp_path / "third")
    assert set(objects_of(tmp_path / "third", 2020)["object_id"]) != set(before["object_id"])


# Where a process is killed: while the detections, the looks, the objects, the links, the checksums are written.
KILLED_IN = ("level1.write_table", "coverage.write_table", "level2.write_table", "dataset.write_links")
KILLED_LATER = ("dataset.write_copy", "dataset.write_catalog", "dataset.write_memory")


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", mostly_slow([*KILLED_IN, *KILLED_LATER], lambda place: place == "dataset.write_links")
)
def test_a_kill_leaves_the_dataset_before_whole(tmp_path, place):
    results = world(tmp_path / "results")
    build(results, tmp_path / "dataset")
    before = files_of(tmp_path / "dataset")
    export_mask(results / "later", blocks(GROWS[2]), GRID, CRS, day(2022))
    module, name = place.split(".")
    code = (
        "import os, sys, tempfile, importlib; from darts_dataset import build; tempfile.tempdir = '/nowhere'; "
        f"setattr(importlib.import_module('darts_dataset.{module}'), '{name}', lambda *_: os._exit(9)); "
        "build(*sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", code, results, tmp_path / "dataset"], check=False)
    assert done.returncode == 9
    assert files_of(tmp_path / "dataset") == before
    assert len(list(tmp_path.iterdir())) == 3  # What was being made, with all that it needed, stands beside it.
    build(results, tmp_path / "dataset")
    assert check(tmp_path / "dataset").failures == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "results"]


@pytest.mark.slow
def test_a_kill_at_any_time_leaves_the_dataset_before_or_the_new_one(tmp_path):
    """Twelve kills over the time that a build takes, each of which the next one begins after."""
    results = world(tmp_path / "results")
    build(results, tmp_path / "dataset")
    before = files_of(tmp_path / "dataset")
    export_mask(results / "later", blocks(GROWS[2]), GRID, CRS, day(2022))
    build(results, tmp_path / "after")
    after = files_of(tmp_path / "after")
    code = (
        "import sys, scipy.sparse.csgraph, scipy.optimize, geopandas, pyogrio, rasterio.shutil, pystac, h3, pandas; "
        "from darts_dataset import build; print('ready', flush=True); build(*sys.argv[1:]); print('done', flush=True)"
    )
    command = [sys.executable, "-c", code, results, tmp_path / "dataset"]

    def seconds(limit: float | None) -> float:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            start = time.perf_counter()
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
            return time.perf_counter() - start

    shutil.copytree(tmp_path / "dataset", tmp_path / "copy")
    whole = seconds(None)
    shutil.rmtree(tmp_path / "dataset")
    (tmp_path / "copy").rename(tmp_path / "dataset")
    for number in range(1, 13):
        seconds(whole * number / 12)
        assert files_of(tmp_path / "dataset") in (before, after)
    build(results, tmp_path / "dataset")
    assert files_of(tmp_path / "dataset") == after
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after", "dataset", "results"]


# What is left out, and what is refused.


def test_damaged_and_incomplete_results_are_left_out_by_name(tmp_path):
    results = world(tmp_path / "results")
    damaged = results / "scene-2020" / "prediction_segments.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (results / "half").mkdir()
    (results / "half" / "manifest.json").write_text('{"files": {')
    with pytest.warns(LeftOutWarning) as caught:
        made = build(results, tmp_path / "dataset")
    assert set(made.left_out) == {str(results / "scene-2020"), str(results / "half")}
    said = sorted(str(each.message) for each in caught if each.category is LeftOutWarning)
    assert "manifest.json cannot be read" in said[0]
    assert "prediction_segments.parquet was changed" in said[1]
    assert made.scenes == 2
    assert not (made.path / "level2/year=2020").exists()


def replaced(folder: Path, name: str, content: bytes) -> None:
    """Put other content into a file of results, as one that was written damaged: the manifest has its SHA-256."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def without_a_column(path: Path) -> bytes:
    gpd.read_parquet(path).drop(columns="npixel").to_parquet(path)
    return path.read_bytes()


def without_geometry(path: Path) -> bytes:
    pd.read_parquet(path).drop(columns="geometry").to_parquet(path)
    return path.read_bytes()


DAMAGE = {
    "cut": (lambda path: path.read_bytes()[:-20], "is no whole GeoParquet"),
    "page": (lambda path: path.read_bytes()[:4] + bytes(200) + path.read_bytes()[204:], "is no whole GeoParquet"),
    "empty": (lambda path: b"", "is no whole GeoParquet"),
    "column": (without_a_column, "lacks the columns npixel"),
    "geometry": (without_geometry, "is no whole GeoParquet"),
}


DAMAGED = [*(("segments", kind) for kind in DAMAGE), ("extent", "cut")]


@pytest.mark.parametrize(("name", "kind"), mostly_slow(DAMAGED, lambda case: case[1] == "cut"))
def test_a_table_that_was_written_damaged_is_left_out(tmp_path, name, kind):
    results = world(tmp_path / "results")
    file = results / "scene-2020" / f"prediction_{name}.parquet"
    damage, said = DAMAGE[kind]
    replaced(file.parent, file.name, damage(file))
    with pytest.warns(LeftOutWarning, match=said):
        made = build(results, tmp_path / "dataset")
    assert set(made.left_out) == {str(results / "scene-2020")}
    assert (made.scenes, made.detections) == (2, 10)


OUTLINES = {"empty": (shapely.Polygon().wkb, "1 objects with an empty outline"), "cut": (b"\x01\x06", "no whole Geo")}


@pytest.mark.parametrize("kind", OUTLINES)
def test_results_with_an_outline_that_cannot_be_are_left_out_by_name(tmp_path, kind):
    """No export writes one."""
    folder = export_mask(tmp_path / "r" / "scene", blocks(GROWS[0]), GRID, CRS, day(2020))
    export_mask(tmp_path / "r" / "other", blocks(GROWS[0]), GRID, CRS, day(2021))
    build(tmp_path / "r", tmp_path / "dataset")
    outline, said = OUTLINES[kind]
    path = folder / "prediction_segments.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("geometry")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array([outline], pa.binary())), path)
    replaced(folder, path.name, path.read_bytes())
    with pytest.warns(LeftOutWarning, match=f"prediction_segments.parquet .*{said}"):
        made = build(tmp_path / "r", tmp_path / "dataset")
    assert (made.scenes, set(made.left_out)) == (1, {str(folder)})


@pytest.mark.parametrize("simple", [True, False])
def test_results_of_the_first_release_and_of_other_writers_are_read(tmp_path, simple):
    """Without the columns that came later, with simple polygons, NaN for nothing, and other integers."""
    folder = export_mask(tmp_path / "r" / "scene", blocks(GROWS[0], APPEARS), GRID, CRS, day(2020))
    build(tmp_path / "r", tmp_path / "dataset")
    path = folder / "prediction_segments.parquet"
    frame = gpd.read_parquet(path)
    expected = gpd.read_parquet(tmp_path / "dataset" / "level1").sort_values("Region_ID", ignore_index=True)
    frame = frame.drop(columns=["object_uid", "lon", "lat", "perimeter_m", "touches_edge"])
    frame["std"], frame["Region_ID"] = np.nan, frame["Region_ID"].astype("int64")
    if simple:
        frame.geometry = frame.geometry.map(lambda shape: shape.geoms[0])
    frame.to_parquet(path)
    replaced(folder, path.name, path.read_bytes())
    made = build(tmp_path / "r", tmp_path / "old")
    assert check(made.path).failures == ()
    found = gpd.read_parquet(made.path / "level1").sort_values("Region_ID", ignore_index=True)
    assert found.columns.tolist() == expected.columns.tolist()
    assert found["std"].isna().all()
    assert found["object_uid"].nunique() == len(found) == 2
    assert sorted(found["perimeter_m"]) == [96, 120]  # On the grid.
    assert found["touches_edge"].tolist() == [False, False]
    points = gpd.GeoSeries(gpd.points_from_xy(found["lon"], found["lat"]), crs=found.crs)
    assert points.within(found.geometry).all()
    assert found.geometry.normalize().equals(expected.geometry.normalize())
    assert pq.read_schema(made.path / "level1/source=PlanetScope/year=2020/detections.parquet") == pq.read_schema(
        tmp_path / "dataset/level1/source=PlanetScope/year=2020/detections.parquet"
    )


@pytest.mark.filterwarnings("ignore::darts_dataset.MixedResultsWarning")
def test_damaged_results_of_a_scene_end_no_choice(tmp_path):
    """Of two results of one scene, and another scene, one table is damaged."""
    for model in ("old", "new"):
        export_mask(tmp_path / model / "scene", blocks(GROWS[0]), GRID, CRS, day(2020), model=model)
    export_mask(tmp_path / "new" / "other", blocks(GROWS[0]), GRID, CRS, day(2021), model="new")
    replaced(tmp_path / "new" / "scene", "prediction_segments.parquet", b"PAR1")
    for prefer, scenes in (("old", 2), ("new", 1)):
        with pytest.warns(LeftOutWarning, match="is no whole GeoParquet"):
            made = build([tmp_path / "old", tmp_path / "new"], tmp_path / "dataset", prefer=prefer)
        assert set(made.left_out) == {str(tmp_path / "new" / "scene")}
        assert made.scenes == scenes


def test_several_results_of_one_scene_need_a_choice(tmp_path):
    for model in ("old", "new"):
        mask = blocks(GROWS[0] if model == "old" else GROWS[1])
        export_mask(tmp_path / model / "scene", mask, GRID, CRS, day(2020), model=model)
    both = [tmp_path / "old", tmp_path / "new"]
    with pytest.raises(DatasetError, match=r"several results of the scene scene.*prefer="):
        build(both, tmp_path / "dataset")
    build(both, tmp_path / "dataset", prefer="old")
    assert objects_of(tmp_path / "dataset", 2020)["models"].tolist() == ["old"]
    shutil.copytree(tmp_path / "old", tmp_path / "copy")
    assert build([tmp_path / "old", tmp_path / "copy"], tmp_path / "dataset").detections == 1


def test_objects_that_few_looks_have_can_be_dropped(tmp_path):
    for number, mask in enumerate((blocks(GROWS[0], APPEARS), blocks(GROWS[0]), blocks(GROWS[0]))):
        export_mask(tmp_path / "r" / f"scene-{number}", mask, GRID, CRS, day(2020, 200 + number))
    assert build(tmp_path / "r", tmp_path / "all").objects == 2
    assert build(tmp_path / "r", tmp_path / "some", keep_share=0.5).objects == 1
    frame = objects_of(tmp_path / "all", 2020).set_index("n_hits")
    assert frame.loc[1, "majority_area_m2"] == 0
    assert frame.loc[1, "majority"].is_empty


def test_nothing_but_damaged_results_are_no_dataset(tmp_path):
    folder = export_mask(tmp_path / "r" / "scene", blocks(GROWS[0]), GRID, CRS, day(2020))
    (folder / "prediction_extent.parquet").unlink()
    with pytest.raises(DatasetError, match="none of the results"), pytest.warns(LeftOutWarning, match="cannot be read"):
        build(tmp_path / "r", tmp_path / "dataset")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_what_cannot_be_is_refused(tmp_path):
    results = world(tmp_path / "results")
    with pytest.raises(ParameterError, match="keep_share is 2"):
        build(results, tmp_path / "dataset", keep_share=2)
    with pytest.raises(ParameterError, match="cell_km is 0"):
        build(results, tmp_path / "dataset", cell_km=0)
    with pytest.raises(DatasetError, match=r"nothing: no finished results"):
        build([results, tmp_path / "nothing"], tmp_path / "dataset")
    with pytest.raises(DatasetError, match="holds something that is no dataset"):
        build(results, results)
    with pytest.raises(DatasetError, match="holds no dataset"):
        build(results, tmp_path / "dataset", previous=tmp_path)
    assert not (tmp_path / "dataset").exists()


def test_places_without_results_are_named(tmp_path):
    results = world(tmp_path / "results")
    (tmp_path / "other").mkdir()
    (tmp_path / "notes.txt").touch()  # which `results/*` names, too
    with pytest.warns(LeftOutWarning, match="other is left out: no finished results"):
        built = build([results, tmp_path / "other", tmp_path / "notes.txt"], tmp_path / "dataset")
    assert list(built.left_out) == [(tmp_path / "other").as_posix()]
    with pytest.raises(DatasetError, match="other: no finished results"):
        build(tmp_path / "other", tmp_path / "dataset")


def test_results_of_no_time_are_named(tmp_path):
    results = world(tmp_path / "results")
    changed = sorted(results.glob("*/manifest.json"))[0]
    content = json.loads(changed.read_text())
    changed.write_text(
        json.dumps({name: value for name, value in content.items() if name != "digest"} | {"time": "2021-08"})
    )
    with pytest.warns(LeftOutWarning, match="was taken '2021-08'; expected ISO 8601"):
        build(results, tmp_path / "dataset")
