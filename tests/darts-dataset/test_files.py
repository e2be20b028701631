"""Files of a dataset: what others read in them, and what a check finds."""

import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from affine import Affine

from darts_dataset import DatasetError, build, check, tables
from support.results import export_mask
from support.slump_worlds import CRS, LEFT, PIXEL, TOP, day, files_of, objects_of


@pytest.mark.slow
def test_one_byte_that_changes_is_found(built, tmp_path):
    for name in files_of(built.path):
        copy = tmp_path / "copy"
        shutil.copytree(built.path, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        try:
            assert any(name in failure for failure in check(copy).failures) or name == "checksums.sha256"
        except DatasetError:
            assert name in ("checksums.sha256", "dataset.json")
        shutil.rmtree(copy)


def test_nothing_names_the_machine(built):
    for name, content in files_of(built.path).items():
        assert str(built.path.parent).encode() not in content, name


def test_columns_are_those_of_the_dictionary_for_others_too(built):
    duckdb = pytest.importorskip("duckdb")
    path = built.path / "level2" / "*" / "*.parquet"
    rows = duckdb.sql(
        f"SELECT year, count(*) FROM read_parquet('{path}', hive_partitioning=true) GROUP BY 1 ORDER BY 1"
    )
    assert rows.fetchall() == [(2019, 5), (2020, 3), (2021, 5)]
    frame = gpd.read_parquet(built.path / "level1")
    assert len(frame) == 13
    assert set(frame["year"].astype(int)) == {2019, 2020, 2021}
    copy = gpd.read_file(built.path / "geopackage/level2/year=2019/objects.gpkg")
    assert (copy["year"] == 2019).all()
    text = (built.path / "DATA_DICTIONARY.md").read_text()
    for name in {*frame.columns, *objects_of(built.path, 2019).columns}:
        assert f"`{name}`" in text or f"`{name}=" in text or f"/{name}=" in text, name


@pytest.mark.parametrize("name", ["level1/source=PlanetScope/year=2020/detections", "level2/year=2020/objects"])
def test_a_geopackage_says_what_its_table_says(built, name):
    table = gpd.read_parquet(built.path / f"{name}.parquet")
    copy = gpd.read_file(built.path / "geopackage" / f"{name}.gpkg")
    left = {"majority", "geometry", "year", "source"}  # Readers differ in whether the folders are columns.
    assert set(copy.columns) - left == set(table.columns) - left
    for column in set(table.columns) - left:
        expected = table[column]
        if column == "detections":
            expected = expected.map(", ".join)
        if expected.dtype == object:
            assert copy[column].tolist() == expected.tolist(), column
        else:
            np.testing.assert_array_equal(copy[column].to_numpy(), expected.to_numpy(), column)
    assert copy.crs == table.crs
    assert shapely.equals_exact(copy.geometry.to_numpy(), table.geometry.to_numpy()).all()
    assert set(copy["year"]) == {2020}
    if "level1" in name:
        assert set(copy["source"]) == {"PlanetScope"}
    assert (built.path / "geopackage" / f"{name}.qml").is_file()


def test_outlines_of_level_1_are_those_of_the_results(built):
    """Corner by corner, in longitude and latitude, by the row's own CRS; boxes and the file's bounds hold them."""
    for path in built.path.glob("level1/*/*/detections.parquet"):
        table = gpd.read_parquet(path)
        native = gpd.read_parquet(built.path.parent / "results" / table["tile_id"][0] / "prediction_segments.parquet")
        native = native.set_index("object_uid").loc[table["object_uid"]].to_crs("OGC:CRS84")
        assert shapely.equals_exact(table.geometry.to_numpy(), native.geometry.to_numpy(), 1e-12).all()
        boxes = pd.json_normalize(pq.read_table(path, columns=["bbox"])["bbox"].to_pylist())
        np.testing.assert_array_equal(boxes.to_numpy(), table.geometry.bounds.to_numpy())
        written = json.loads(pq.read_schema(path).metadata[b"geo"])["columns"]["geometry"]["bbox"]
        assert written == table.total_bounds.tolist()
        for column in ("area_m2", "perimeter_m", "lon", "lat", "npixel", "Region_ID", "mean"):
            assert table[column].tolist() == native[column].tolist()
        assert (table["pixel_m"] == PIXEL).all()
        assert (table["crs"] == CRS).all()


def test_the_collection_leads_to_every_part(built):
    pystac = pytest.importorskip("pystac")
    collection = pystac.Collection.from_file(str(built.path / "collection.json"))
    items = list(collection.get_items())
    assert len(items) == 9
    for item in items:
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href()).is_file()
    assert all("://" not in link["href"] for link in json.loads((built.path / "collection.json").read_text())["links"])


def test_row_groups_hold_all_rows_and_the_bounds_are_those_of_all(built, tmp_path, monkeypatch):
    monkeypatch.setattr("darts_dataset.tables._ROWS", 2)
    build(built.path.parent / "results", tmp_path / "dataset")
    assert check(tmp_path / "dataset").failures == ()
    for name in ("level1/source=PlanetScope/year=2019/detections", "level2/year=2019/objects"):
        path = tmp_path / "dataset" / f"{name}.parquet"
        table, whole = gpd.read_parquet(path), gpd.read_parquet(built.path / f"{name}.parquet")
        assert pq.ParquetFile(path).num_row_groups == 3
        assert table.drop(columns=["year", "source"], errors="ignore").equals(
            whole.drop(columns=["year", "source"], errors="ignore")
        )
        written = json.loads(pq.read_schema(path).metadata[b"geo"])["columns"]["geometry"]["bbox"]
        assert written == table.total_bounds.tolist()
        assert len(gpd.read_file(tmp_path / "dataset" / "geopackage" / f"{name}.gpkg")) == 5


def test_looks_are_counted_per_pixel(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    cogeo = pytest.importorskip("rio_cogeo.cogeo")
    monkeypatch.setattr("darts_dataset.coverage._BLOCK", 16)
    wide = Affine(100, 0, LEFT, 0, -100, TOP)
    for number in range(3):
        extent = np.ones((40, 40), bool)
        extent[:, 10 * number :] = number == 0
        export_mask(
            *(tmp_path / "r" / f"scene-{number}", np.zeros((40, 40), bool), wide, CRS, day(2020, 200 + number)),
            extent=extent,
        )
    made = build(tmp_path / "r", tmp_path / "dataset")
    seen = gpd.read_parquet(made.path / "coverage/year=2020/seen.parquet")
    assert seen[["hemisphere", "n_looks"]].to_numpy().tolist() == [["north", 3]]
    assert seen["area_km2"].item() == pytest.approx(16, rel=2e-3)
    path = made.path / "coverage/year=2020/looks-north.tif"
    assert cogeo.cog_validate(path, strict=True)[0]
    with rasterio.open(path) as file:
        found, transform, crs = file.read(1), file.transform, file.crs
    rows, columns = np.indices(found.shape)
    x, y = transform * (columns + 0.5, rows + 0.5)
    centres = gpd.GeoSeries(gpd.points_from_xy(x.ravel(), y.ravel()), crs=crs).to_crs(CRS)
    column, row = ~wide * (centres.x.to_numpy(), centres.y.to_numpy())
    inside = (column > 0) & (column < 40) & (row > 0) & (row < 40)
    expected = np.where(inside, 1 + (column < 10).astype(int) + (column < 20), 0).reshape(found.shape)
    near = (np.abs(column[:, None] - [0, 10, 20, 40]).min(axis=1) < 1e-6) | (
        np.abs(row[:, None] - [0, 40]).min(axis=1) < 1e-6
    )
    np.testing.assert_array_equal(found[~near.reshape(found.shape)], expected[~near.reshape(found.shape)])
    assert set(np.unique(found)) == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", range(3))
def test_files_are_quarters_of_quarters_of_the_globe(monkeypatch, seed):
    """Against a count of the points in each box of the grid; one place has more rows than a file."""
    monkeypatch.setattr(tables, "MOST_ROWS", 50)
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-140, -134, 500), rng.uniform(69, 71, 500)])
    points[:60] = points[0]
    places, rows = np.sort(tables.hilbert_positions(points)), rng.integers(1, 4, 500)
    found = list(tables.cells_along(places, rows, "objects"))
    assert np.concatenate([np.arange(500)[cell] for _, cell in found]).tolist() == list(range(500))
    assert [name for name, _ in found] == sorted({name for name, _ in found})
    grid = np.floor((points + [180, 90]) / [360, 180] * (2**tables.LEVEL - 1))  # noqa: RUF005 - numbers, no lists
    grid = grid[np.argsort(tables.hilbert_positions(points), kind="stable")]
    for name, cell in found:
        size = 2 ** (tables.LEVEL - len(name.removeprefix("objects-")))
        corners, above = grid[cell] // size, grid // size // 2
        assert (corners == corners[0]).all()
        assert rows[cell].sum() <= 50 or size == 1
        assert rows[(above == corners[0] // 2).all(axis=1)].sum() > 50
    assert list(tables.cells_along(places[:9], np.ones(9, int), "objects")) == [("objects", slice(0, 9))]
    assert list(tables.cells_along(places[:0], rows[:0], "objects")) == [("objects", slice(0, 0))]
    assert len(tables.hilbert_positions(np.empty((0, 2)))) == 0
