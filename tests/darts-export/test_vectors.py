"""Polygons: one row per object with the right figures, readable by geopandas, DuckDB and ogrinfo."""

import json
import sqlite3
import subprocess
import uuid
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Geod
from rasterio.features import rasterize
from shapely.testing import assert_geometries_equal
from skimage.measure import label, regionprops

from darts_export import export_tile
from support.gdal import needs_gdal_bin

COLUMNS = [
    "object_uid",
    "Region_ID",
    "min",
    "max",
    "mean",
    "median",
    "std",
    "npixel",
    "area_m2",
    "perimeter_m",
    "lon",
    "lat",
    "touches_edge",
    "mean_slope",
    "mean_relative_elevation",
    "tile_id",
    "source",
    "acquisition_time",
    "model_names",
    "geometry",
]


def read_both(folder: Path, stem: str = "prediction_segments") -> list[gpd.GeoDataFrame]:
    return [gpd.read_file(folder / f"{stem}.gpkg", layer="tile-1"), gpd.read_parquet(folder / f"{stem}.parquet")]


def on_ellipsoid(frame: gpd.GeoDataFrame, shape: shapely.Geometry) -> tuple[float, float]:
    """Return area and perimeter of a shape of a frame on the ellipsoid, by geodesics between points 20 m apart."""
    dense = gpd.GeoSeries([shapely.segmentize(shape, 20)], crs=frame.crs).to_crs(4326).iloc[0]
    area, perimeter = Geod(ellps="WGS84").geometry_area_perimeter(dense)
    return abs(area), perimeter


@pytest.fixture(scope="module")
def folder(make_tile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vectors") / "tile"
    metadata = {"models": {"a": {}, "b": {}}}
    export_tile(make_tile(models=("a", "b")), out, ["polygonized", "extent"], ["a", "b"], metadata)
    return out


def test_files_say_that_statistics_are_shares(folder: Path) -> None:
    assert gpd.read_parquet(folder / "prediction_segments.parquet").attrs == {"darts:statistics_unit": "1"}
    # GDAL takes the colon for its own separator when it reads an item back; what is in the file is whole.
    with closing(sqlite3.connect(folder / "prediction_segments.gpkg")) as connection:
        ((content,),) = connection.execute("SELECT metadata FROM gpkg_metadata")
    items = {item.get("key"): item.text for item in ET.fromstring(content).iter("MDI")}
    assert items == {"darts:statistics_unit": "1"}
    with closing(sqlite3.connect(folder / "prediction_extent.gpkg")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'gpkg_metadata'").fetchall()
    assert tables == []


@pytest.mark.parametrize("model", ["", "-a", "-b"])
def test_rows_are_the_objects_of_scikit_image(make_tile, folder: Path, model: str) -> None:
    tile = make_tile(models=("a", "b"))
    probabilities = tile[f"probabilities{model}"].to_numpy().astype(np.float64)
    labels = label(tile[f"binarized_segmentation{model}"].values, connectivity=2)
    regions = regionprops(labels, probabilities)
    for frame in read_both(folder, f"prediction_segments{model}"):
        assert list(frame.columns) == COLUMNS
        assert frame.crs.to_epsg() == 32608
        assert frame["Region_ID"].tolist() == list(range(1, len(regions) + 1))
        assert len(regions) > 5
        for row, region in zip(frame.itertuples(), regions, strict=True):
            inside = probabilities[labels == region.label]
            figures = [row.min, row.max, row.mean, row.median, row.std]
            wanted = [inside.min(), inside.max(), inside.mean(), np.median(inside), inside.std()]
            np.testing.assert_allclose(figures, wanted, rtol=1e-12)
            assert row.npixel == region.num_pixels
            assert row.area_m2 == pytest.approx(on_ellipsoid(frame, row.geometry)[0], rel=1e-4)
            assert row.geometry.geom_type == "MultiPolygon"
            assert row.geometry.is_valid
            assert row.geometry.area == pytest.approx(region.num_pixels * 9, rel=1e-9)
            for name in ("slope", "relative_elevation"):
                mean = tile[name].to_numpy()[labels == region.label].mean(dtype=np.float64)
                assert getattr(row, f"mean_{name}") == pytest.approx(mean, rel=1e-12)
            top, left, bottom, right = region.bbox
            assert row.geometry.bounds == (
                500_001 + 3 * left,
                7_500_003 - 3 * bottom,
                500_001 + 3 * right,
                7_500_003 - 3 * top,
            )
        assert set(frame["tile_id"]) == {"tile-1"}
        assert set(frame["source"]) == {"PlanetScope"}
        assert set(frame["model_names"]) == {model.removeprefix("-") or "a,b"}
        assert set(frame["acquisition_time"]) == {pd.Timestamp("2021-08-21T21:00:19Z")}


PLACES = [
    ("EPSG:32608", 280_000, 5_560_000),
    ("EPSG:32609", 720_000, 7_000_000),
    ("EPSG:32641", 500_000, 7_900_000),
    ("EPSG:32633", 440_000, 9_200_000),
    ("EPSG:3413", -2_000_000, 300_000),
    ("EPSG:3413", 0, -700_000),
    ("EPSG:3413", 900_000, -2_200_000),
]


@pytest.mark.parametrize("has_extent", [True, False])
def test_where_nothing_is_known_nothing_was_seen(make_tile, tmp_path: Path, has_extent: bool) -> None:
    """As with a quality level of 0, for which the extent is the whole tile, blackfill included."""
    tile = make_tile()
    unknown = np.zeros(tile["probabilities"].shape, bool)
    unknown[:, 130:], unknown[60:100, 40:90] = True, True
    tile["extent"][:] = 1
    tile["probabilities"] = tile["probabilities"].where(~unknown)
    tile["binarized_segmentation"] = tile["binarized_segmentation"] & ~unknown
    tile = tile if has_extent else tile.drop_vars("extent")
    export_tile(tile, tmp_path / "tile", ["polygonized", "binarized", *["extent"] * has_extent])
    with rasterio.open(tmp_path / "tile/binarized.tif") as raster:
        seen = raster.read(1) != 255
        transform = raster.transform
    np.testing.assert_array_equal(seen, ~np.isnan(tile["probabilities"]))
    if has_extent:
        (row,) = gpd.read_parquet(tmp_path / "tile/prediction_extent.parquet").itertuples()
        assert row.npixel == seen.sum()
        np.testing.assert_array_equal(rasterize([row.geometry], seen.shape, transform=transform), seen)
    beyond = np.pad(~seen, 1, constant_values=True)
    beside = beyond[:-2, 1:-1] | beyond[2:, 1:-1] | beyond[1:-1, :-2] | beyond[1:-1, 2:]
    frame = gpd.read_parquet(tmp_path / "tile/prediction_segments.parquet")
    cut = [beside[rasterize([each], seen.shape, transform=transform) == 1].any() for each in frame.geometry]
    assert frame["touches_edge"].tolist() == cut
    border = np.pad(np.zeros(np.subtract(seen.shape, 2), bool), 1, constant_values=True)
    inner = [not border[rasterize([each], seen.shape, transform=transform) == 1].any() for each in frame.geometry]
    assert any(np.logical_and(cut, inner))
    assert not all(cut)


@pytest.mark.filterwarnings("ignore::darts_utils.ArealScaleWarning")
@pytest.mark.parametrize(("crs", "east", "north"), PLACES)
def test_areas_and_perimeters_are_those_on_the_ellipsoid(make_tile, tmp_path: Path, crs, east, north) -> None:
    """From 50° to 83° N, in the middle of a zone and beyond its edge."""
    tile = make_tile(shape=(160, 160), seed=4, crs=crs, affine=Affine(30, 0, east, 0, -30, north))
    export_tile(tile, tmp_path / "tile", ["polygonized", "extent"])
    frame = gpd.read_parquet(tmp_path / "tile/prediction_segments.parquet")
    assert len(frame) > 10
    points = gpd.points_from_xy(frame["lon"], frame["lat"], crs=4326).to_crs(crs)
    for row, point in zip(frame.itertuples(), points, strict=True):
        area, perimeter = on_ellipsoid(frame, row.geometry)
        assert row.area_m2 == pytest.approx(area, rel=1e-4)
        assert row.perimeter_m == pytest.approx(perimeter, rel=1e-4)
        assert row.geometry.contains(point)
    (extent,) = gpd.read_parquet(tmp_path / "tile/prediction_extent.parquet").itertuples()
    assert extent.area_m2 == pytest.approx(on_ellipsoid(frame, extent.geometry)[0], rel=1e-5)


def test_objects_keep_their_names_and_no_two_share_one(make_tile, tmp_path: Path) -> None:
    def names(**given: Any) -> list[str]:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        export_tile(make_tile(models=("a",), **given), place, ["polygonized"], ["a"], {"models": {"a": {}, "b": {}}})
        return [
            name
            for stem in ("", "-a")
            for name in gpd.read_parquet(place / f"prediction_segments{stem}.parquet")["object_uid"]
        ]

    first = names()
    assert names() == first
    assert all(uuid.UUID(name).version == 5 for name in first)
    others = [
        names(tile_id="tile-2"),
        names(time="2021-08-22T21:00:19Z"),
        names(affine=Affine(3, 0, 1_001, 0, -3, 7.5e6)),
    ]
    everything = [*first, *(name for some in others for name in some)]
    assert len(set(everything)) == len(everything) > 40


def test_objects_that_the_extent_cuts_say_so(make_tile, tmp_path: Path) -> None:
    from scipy.ndimage import binary_dilation

    tile = make_tile(seed=6)
    export_tile(tile, tmp_path / "tile", ["polygonized"])
    frame = gpd.read_parquet(tmp_path / "tile/prediction_segments.parquet")
    unseen = np.pad(tile["extent"].to_numpy() == 0, 1, constant_values=True)
    beside = binary_dilation(unseen)[1:-1, 1:-1]
    labels = label(tile["binarized_segmentation"].values, connectivity=2)
    expected = [bool(beside[labels == region].any()) for region in range(1, labels.max() + 1)]
    assert frame["touches_edge"].tolist() == expected
    assert 0 < sum(expected) < len(expected)
    whole = tile.drop_vars(["extent", "slope", "relative_elevation"]).assign(ndvi=tile["red"])
    export_tile(whole, tmp_path / "whole", ["polygonized"])
    frame = gpd.read_parquet(tmp_path / "whole/prediction_segments.parquet")
    assert [name for name in frame if name.startswith("mean_")] == ["mean_ndvi"]


def test_both_files_hold_the_same(folder: Path) -> None:
    for stem in ("prediction_segments", "prediction_extent"):
        geopackage, parquet = (pd.DataFrame(frame) for frame in read_both(folder, stem))
        assert_geometries_equal(geopackage.pop("geometry"), parquet.pop("geometry"))
        pd.testing.assert_frame_equal(geopackage, parquet, check_dtype=False)


def test_extent_is_one_row_over_the_reliable_area(make_tile, folder: Path) -> None:
    extent = make_tile(models=("a", "b"))["extent"].to_numpy()
    for frame in read_both(folder, "prediction_extent"):
        (row,) = frame.itertuples()
        assert row.npixel == extent.sum()
        assert row.geometry.area == 9 * extent.sum()
        assert row.area_m2 == pytest.approx(on_ellipsoid(frame, row.geometry)[0], rel=1e-4)
        assert row.geometry.is_valid
        assert shapely.get_num_interior_rings(row.geometry.geoms[0]) == 1


def test_no_object_keeps_the_schema(make_tile, folder: Path, tmp_path: Path) -> None:
    nothing = make_tile(mask=np.zeros((30, 40), np.bool_))
    nothing["extent"][:] = 0
    export_tile(nothing, tmp_path / "tile", ["polygonized", "extent"])
    for stem in ("prediction_segments", "prediction_extent"):
        for empty, full in zip(read_both(tmp_path / "tile", stem), read_both(folder, stem), strict=True):
            assert len(empty) == 0
            assert empty.crs == full.crs
            assert list(empty.columns) == list(full.columns)
        schemas = [pq.read_schema(place / f"{stem}.parquet") for place in (tmp_path / "tile", folder)]
        assert schemas[0].remove_metadata().equals(schemas[1].remove_metadata())
        with_rows, without = (_columns(place / f"{stem}.gpkg", stem) for place in (folder, tmp_path / "tile"))
        assert with_rows == without


def _columns(geopackage: Path, table: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(geopackage)) as connection:
        return [(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info('{table}')")]


def test_objects_of_one_pixel_with_holes_and_along_the_border(make_tile, tmp_path: Path) -> None:
    mask = np.zeros((40, 50), np.bool_)
    mask[0, 0] = mask[39, 49] = mask[20, 0] = True
    mask[0, 10:30] = True
    mask[5:15, 5:15] = True
    mask[8:11, 8:11] = False
    mask[30:40, 20:30] = True
    mask[25:30, 30:35] = True  # touches the one before at a corner
    tile = make_tile(mask=mask, probabilities=np.full(mask.shape, 0.6, np.float32))
    export_tile(tile, tmp_path / "tile", ["polygonized"])
    _, frame = read_both(tmp_path / "tile")
    assert frame["npixel"].tolist() == [1, 20, 91, 1, 125, 1]
    assert [len(shape.geoms) for shape in frame.geometry] == [1, 1, 1, 1, 2, 1]
    assert frame["touches_edge"].tolist() == [True, True, False, True, True, True]
    assert frame["std"].tolist() == pytest.approx([0] * 6, abs=1e-15)


def test_missing_pixels_in_an_object_do_not_count_in_its_figures(make_tile, tmp_path: Path) -> None:
    mask = np.zeros((10, 10), np.bool_)
    mask[2:4, 2:4] = mask[7, 7] = True
    probabilities = np.full(mask.shape, 0.5, np.float32)
    probabilities[2, 2:4] = [0.9, np.nan]
    probabilities[7, 7] = np.nan
    export_tile(make_tile(mask=mask, probabilities=probabilities), tmp_path / "tile", ["polygonized"])
    _, frame = read_both(tmp_path / "tile")
    assert frame["npixel"].tolist() == [4, 1]
    assert frame["max"][0] == pytest.approx(0.9)
    assert frame["median"][0] == 0.5
    assert np.isnan(frame[["min", "max", "mean", "median", "std"]].iloc[1]).all()


def test_duckdb_reads_geoparquet_by_bounding_box(folder: Path) -> None:
    _, frame = read_both(folder)
    offline = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    with duckdb.connect(config=offline) as connection:
        query = "SELECT count(*), sum(area_m2), min(bbox.xmin), max(bbox.ymax) FROM read_parquet(?) WHERE bbox.xmin > ?"
        path, west = str(folder / "prediction_segments.parquet"), 500_201
        count, area, left, top = connection.execute(query, [path, west]).fetchone()
    eastern = frame[frame.geometry.bounds["minx"] > west]
    assert 0 < count == len(eastern) < len(frame)
    assert area == pytest.approx(eastern["area_m2"].sum(), rel=1e-12)
    assert (left, top) == (eastern.total_bounds[0], eastern.total_bounds[3])


def test_geoparquet_says_its_version_and_covering(folder: Path) -> None:
    content = json.loads(pq.read_metadata(folder / "prediction_segments.parquet").metadata[b"geo"])
    assert content["version"] == "1.1.0"
    column = content["columns"]["geometry"]
    assert column["geometry_types"] == ["MultiPolygon"]
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]


@needs_gdal_bin
@pytest.mark.parametrize("stem", ["prediction_segments", "prediction_segments-a", "prediction_extent"])
def test_ogrinfo_reads_geopackages_without_a_warning(folder: Path, stem: str) -> None:
    run = subprocess.run(
        ["ogrinfo", "-ro", "-al", "-q", folder / f"{stem}.gpkg"], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    assert "warn" not in run.stdout.lower()
    assert run.stdout.count("OGRFeature") == len(read_both(folder, stem)[0]) + 1  # and one style


@pytest.mark.parametrize("stem", ["prediction_segments", "prediction_extent"])
def test_geopackages_bring_a_default_style(folder: Path, stem: str) -> None:
    with closing(sqlite3.connect(folder / f"{stem}.gpkg")) as connection:
        rows = connection.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML, styleSLD FROM layer_styles"
        ).fetchall()
        geometry = connection.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    ((table, column, is_default, qml, sld),) = rows
    assert (table, column, is_default) == ("tile-1", geometry, 1)
    assert ET.fromstring(qml).find("renderer-v2/symbols/symbol/layer").get("class") == "SimpleFill"
    field = {"prediction_segments": "object_uid", "prediction_extent": "tile_id"}[stem]
    assert ET.fromstring(qml).findtext("previewExpression") == f'"{field}"'
    assert ET.fromstring(sld).tag.endswith("StyledLayerDescriptor")


def test_unknown_time_and_source_stay_empty(make_tile, tmp_path: Path) -> None:
    tile = make_tile(time="")
    for name in tile.data_vars:
        tile[name].attrs.pop("data_source", None)
    export_tile(tile, tmp_path / "tile", ["polygonized"])
    for frame in read_both(tmp_path / "tile"):
        assert frame["acquisition_time"].isna().all()
        assert set(frame["source"]) == {""}


def test_a_table_in_parts_is_that_of_one_part(make_tile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups in GeoParquet, appended rows in GeoPackage; metadata, index and style are there once."""
    rng = np.random.default_rng(7)
    mask = rng.random((50, 50)) < 0.1
    tile = make_tile(mask=mask, probabilities=rng.random(mask.shape).astype(np.float32))
    count = int(label(mask, connectivity=2).max())
    manifests = {}
    for name, rows in {"one": count, "many": 30, "last alone": count - 1, "again": 30}.items():
        monkeypatch.setattr("darts_export.vectors._ROWS", rows)
        manifests[name] = export_tile(tile, tmp_path / name / "tile", ["polygonized"])
    assert manifests["again"]["files"] == manifests["many"]["files"]
    assert len({str(manifest["summary"]) for manifest in manifests.values()}) == 1
    whole = tmp_path / "one/tile"
    for name, groups in {"many": -(-count // 30), "last alone": 2}.items():
        parts = tmp_path / name / "tile"
        table = pq.read_table(parts / "prediction_segments.parquet")
        assert table.equals(pq.read_table(whole / "prediction_segments.parquet"), check_metadata=True)
        assert pq.read_metadata(parts / "prediction_segments.parquet").num_row_groups == groups
        assert contents(parts / "prediction_segments.gpkg") == contents(whole / "prediction_segments.gpkg")


def contents(path: Path) -> dict[str, Any]:
    """Return all rows of all tables of a GeoPackage, the index as what it finds."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        schema = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        names = [name for kind, name, _ in schema if kind == "table"]
        hidden = ("_node", "_parent", "_rowid")
        return {"schema": schema} | {
            name: connection.execute(f'SELECT * FROM "{name}" ORDER BY 1').fetchall()
            for name in names
            if not name.endswith(hidden)
        }
