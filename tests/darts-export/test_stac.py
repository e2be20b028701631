"""The STAC Item, validated by pystac with the schemas that it brings, and against the fields of the extensions."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from darts_export import EXPORT_BANDS, export_tile
from darts_utils import ParameterError

CARD = {
    "mlm:name": "demo",
    "mlm:architecture": "unet",
    "mlm:framework": "PyTorch",
    "mlm:tasks": ["semantic-segmentation"],
    "mlm:input": [
        {
            "name": "tile",
            "bands": ["red", "ndvi"],
            "input": {
                "shape": [-1, 2, 256, 256],
                "dim_order": ["batch", "channel", "height", "width"],
                "data_type": "float32",
            },
        }
    ],
    "mlm:output": [
        {
            "name": "logits",
            "tasks": ["semantic-segmentation"],
            "result": {
                "shape": [-1, 1, 256, 256],
                "dim_order": ["batch", "channel", "height", "width"],
                "data_type": "float32",
            },
        }
    ],
    "mlm:hyperparameters": {"encoder_name": "resnet18"},
}
METADATA = {
    "source": "PlanetScope",
    "source_scene": {"id": "20210821_210019_08_2405", "href": "https://example.org/scene.json"},
    "models": {"demo": {"sha256": "ab" * 32, "file": "/data/models/demo.safetensors", "card": CARD}},
    "configuration": {"binarization_threshold": 0.5},
    "versions": {"darts-segmentation": "0.1.0"},
}


def item_of(tile, folder: Path, bands: Any = EXPORT_BANDS, metadata: Any = None) -> dict[str, Any]:
    export_tile(tile, folder / "tile", bands, metadata=metadata, fingerprint="f1")
    item = json.loads((folder / "tile/item.json").read_text(encoding="utf-8"))
    # Without extensions, pystac validates against the core schemas in its own package and needs no network.
    pystac.Item.from_dict(item | {"stac_extensions": []}).validate()
    return item


def test_the_item_says_where_when_and_from_what(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    item = item_of(tile, tmp_path, metadata=METADATA)
    properties = item["properties"]
    assert item["id"] == "tile-1"
    assert properties["datetime"] == "2021-08-21T21:00:19Z"
    assert properties["proj:code"] == "EPSG:32608"
    assert properties["proj:bbox"] == list(tile.odc.geobox.boundingbox.bbox)
    assert properties["processing:level"] == "L4"
    assert properties["processing:software"]["darts-segmentation"] == "0.1.0"
    assert properties["processing:software"]["darts-export"]
    assert properties["darts:configuration"] == {"binarization_threshold": 0.5}
    assert properties["darts:fingerprint"] == "f1"
    assert properties["gsd"] == 3
    assert properties["platform"] == "planetscope"
    assert (properties["view:sun_azimuth"], "view:sun_elevation" in properties) == (132.8, False)  # the other is NaN
    assert {link["rel"]: link["href"] for link in item["links"]} == {
        "collection": "./collection.json",
        "derived_from": "https://example.org/scene.json",
    }

    to_lonlat = Transformer.from_crs(32608, 4326, always_xy=True)
    left, bottom, right, top = tile.odc.geobox.boundingbox.bbox
    wanted = shapely.Polygon(
        [to_lonlat.transform(*p) for p in ((left, bottom), (right, bottom), (right, top), (left, top))]
    )
    footprint = shapely.geometry.shape(item["geometry"])
    assert footprint.symmetric_difference(wanted).area < 1e-4 * wanted.area
    assert footprint.exterior.is_ccw
    assert item["bbox"] == pytest.approx(footprint.bounds)


def test_every_file_is_an_asset_with_type_and_role(make_tile, tmp_path: Path) -> None:
    item = item_of(make_tile(), tmp_path)
    files = {path.name for path in (tmp_path / "tile").iterdir()} - {"item.json"}
    assert set(item["assets"]) == files
    types = {
        ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
        ".gpkg": "application/geopackage+sqlite3",
        ".parquet": "application/vnd.apache.parquet",
        ".jpg": "image/jpeg",
        ".json": "application/json",
        ".qml": "application/xml",
        ".xml": "application/xml",
    }
    for name, asset in item["assets"].items():
        assert asset["href"] == f"./{name}"
        assert asset["type"] == types[Path(name).suffix]
    assert item["assets"]["thumbnail.jpg"]["roles"] == ["thumbnail"]
    assert item["assets"]["manifest.json"]["roles"] == ["metadata"]


def test_raster_assets_describe_grid_and_bands(make_tile, tmp_path: Path) -> None:
    item = item_of(make_tile(), tmp_path)
    for name in ("probabilities.tif", "optical.tif", "binarized.tif", "dem.tif"):
        asset = item["assets"][name]
        with rasterio.open(tmp_path / "tile" / name) as raster:
            assert asset["proj:shape"] == list(raster.shape)
            assert asset["proj:transform"] == list(raster.transform)[:6]
            assert asset["raster:spatial_resolution"] == 3
            assert [band["name"] for band in asset["bands"]] == list(raster.descriptions)
            for index, band in enumerate(asset["bands"], start=1):
                values = raster.read(index, masked=True).astype(np.float64)
                assert band["data_type"] == raster.dtypes[index - 1]
                assert band["statistics"]["mean"] == pytest.approx(values.mean(), rel=1e-6)
                assert band["statistics"]["maximum"] == pytest.approx(values.max())
    assert item["assets"]["probabilities.tif"]["bands"][0]["nodata"] == 255
    assert item["assets"]["optical.tif"]["bands"][0]["nodata"] == "nan"
    assert item["assets"]["binarized.tif"]["bands"][0]["nodata"] == 255


def assert_mlm(item: dict[str, Any]) -> None:
    """Check what version 1.4.0 of the Machine Learning Model extension requires of an Item."""
    properties = item["properties"]
    assert "https://stac-extensions.github.io/mlm/v1.4.0/schema.json" in item["stac_extensions"]
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", properties["mlm:name"])
    assert isinstance(properties["mlm:architecture"], str)
    assert properties["mlm:tasks"] == ["semantic-segmentation"]
    bands = [band for entry in properties["mlm:input"] for band in entry["bands"]]
    for entry in properties["mlm:input"]:
        assert entry["name"]
        assert {"shape", "dim_order", "data_type"} <= set(entry["input"])
    for entry in properties["mlm:output"]:
        assert {"name", "tasks", "result"} <= set(entry)
    if bands:
        assert {band["name"] for band in properties["bands"]} == set(bands)
    models = [asset for asset in item["assets"].values() if "mlm:model" in asset["roles"]]
    assert models
    assert all(asset["mlm:artifact_type"] for asset in models)


def test_one_model_is_described_by_its_card(make_tile, tmp_path: Path) -> None:
    model = METADATA["models"]["demo"] | {"href": "https://example.org/demo.safetensors"}
    item = item_of(make_tile(), tmp_path, metadata=METADATA | {"models": {"demo": model}})
    assert_mlm(item)
    properties = item["properties"]
    for field in ("mlm:architecture", "mlm:input", "mlm:output", "mlm:hyperparameters"):
        assert properties[field] == CARD[field]
    assert properties["darts:models"]["demo"]["file"] == "demo.safetensors"
    asset = item["assets"]["model-demo"]
    assert (asset["href"], asset["darts:sha256"]) == ("https://example.org/demo.safetensors", "ab" * 32)


def test_a_model_that_nobody_else_can_get_is_named_by_its_hash_and_not_linked(make_tile, tmp_path: Path) -> None:
    """Of the extension's fields it has none, for that wants the model as an asset."""
    item = item_of(make_tile(), tmp_path, metadata=METADATA)
    assert item["properties"]["darts:models"]["demo"] == {"sha256": "ab" * 32, "file": "demo.safetensors", "card": CARD}
    assert not [name for name in item["properties"] if name.startswith("mlm:")]
    assert not any("mlm" in name for name in item["stac_extensions"])
    assert not [name for name in item["assets"] if name.startswith("model")]


def test_every_link_resolves_and_the_collection_is_valid(make_tile, tmp_path: Path) -> None:
    item_of(make_tile(), tmp_path / "before", metadata=METADATA)
    moved = (tmp_path / "before" / "tile").rename(tmp_path / "moved")
    item = pystac.Item.from_file(moved / "item.json")
    collection = item.get_collection()
    collection.validate()
    assert item.collection_id == collection.id
    assert [each.id for each in collection.get_items()] == [item.id]
    assert collection.extent.spatial.bboxes == [item.bbox]
    assert collection.extent.temporal.intervals == [[item.datetime, item.datetime]]
    hrefs = [asset.get_absolute_href() for asset in item.assets.values()]
    assert {Path(href).name for href in hrefs} == {path.name for path in moved.iterdir()} - {"item.json"}
    assert all(Path(href).is_file() for href in hrefs)
    for name in ("item.json", "collection.json"):
        for link in json.loads((moved / name).read_text("utf-8"))["links"]:
            assert link["href"].startswith("https://") or (moved / link["href"]).is_file()


def assert_extensions(item: dict[str, Any]) -> None:
    """Check field by field what the declared extensions require: their schemas are not to be had offline."""
    declared = {re.search(r"io/([a-z]+)/", name)[1] for name in item["stac_extensions"]}
    properties = item["properties"]
    fields = [asset | band for asset in item["assets"].values() for band in asset.get("bands", [{}])]
    used = {name.partition(":")[0] for each in (properties, *fields) for name in each if ":" in name}
    assert {{"proj": "projection"}.get(name, name) for name in used} == {*declared, "darts"}
    assert "proj:code" in properties  # projection 2.0.0: a code, or null beside a description
    assert properties["proj:code"] is None or re.fullmatch(r"[A-Z]+:\d+", properties["proj:code"])
    assert len(properties["proj:bbox"]) == 4
    limits = {"sun_azimuth": (0, 360), "sun_elevation": (-90, 90), "off_nadir": (0, 90)}
    for name in (name for name in properties if name.startswith("view:")):
        low, high = limits[name.removeprefix("view:")]
        assert low <= properties[name] <= high
    assert re.fullmatch(r"L[0-4]", properties["processing:level"])
    assert all(isinstance(version, str) for version in properties["processing:software"].values())
    for asset in item["assets"].values():
        if "proj:shape" in asset:
            assert len(asset["proj:shape"]) == 2
            assert len(asset["proj:transform"]) in (6, 9)
            assert asset["raster:sampling"] in ("area", "point")
            assert asset["raster:spatial_resolution"] > 0
        for band in asset.get("bands", []):
            assert {"name", "data_type"} <= set(band)
            assert isinstance(band.get("raster:scale", 1.0), float)


def test_extensions_are_declared_and_hold_what_they_require(make_tile, tmp_path: Path) -> None:
    tile = make_tile(azimuth=132.8, elevation=31.5, planet_view_angle=3.1, planet_satellite_id="2405")
    for name in ("red", "green", "blue", "nir"):
        tile[name][:] = np.rint(tile[name].values * 10_000 + 1).astype(np.float32) / np.float32(10_000)
    item = item_of(tile, tmp_path, metadata=METADATA)
    assert_extensions(item)
    assert item["properties"]["platform"] == "2405"
    assert [item["properties"][f"view:{name}"] for name in ("sun_elevation", "off_nadir")] == [31.5, 3.1]
    assert item["assets"]["optical.tif"]["bands"][0]["raster:scale"] == 1e-4


def test_an_ensemble_is_described_as_one_model(make_tile, tmp_path: Path) -> None:
    models = {"größe, 1": {"card": CARD, "href": "https://example.org/one.pt"}, "2": {}}
    item = item_of(make_tile(), tmp_path, metadata={"models": models})
    assert_mlm(item)
    assert [entry["name"] for entry in item["properties"]["mlm:input"]] == ["größe, 1: tile", "2: tile"]
    assert item["assets"]["model-größe, 1"]["mlm:artifact_type"] == "torch.save"
    assert set(item["properties"]["darts:models"]) == set(models)


def test_without_models_nothing_is_said_of_them(make_tile, tmp_path: Path) -> None:
    item = item_of(make_tile(), tmp_path)
    assert not [name for name in item["properties"] if name.startswith("mlm:")]
    assert not any("mlm" in name for name in item["stac_extensions"])


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("2021-08-21T21:00:19.5+02:00", "2021-08-21T19:00:19.500000Z"),
        ("2021-08-21 21:00:19", "2021-08-21T21:00:19Z"),
        ("2021-08-21", "2021-08-21T00:00:00Z"),
        (np.datetime64("2021-08-21T21:00:19.123456789"), "2021-08-21T21:00:19.123456Z"),
    ],
)
def test_times_become_utc(make_tile, tmp_path: Path, given: Any, wanted: str) -> None:
    assert item_of(make_tile(time=given), tmp_path, [])["properties"]["datetime"] == wanted


def test_an_unknown_time_leaves_none_out(make_tile, tmp_path: Path) -> None:
    properties = item_of(make_tile(time=None), tmp_path, [])["properties"]
    assert properties["datetime"] is None
    assert (properties["start_datetime"][:4], properties["end_datetime"][:4]) == ("0001", "9999")


def test_a_time_that_is_none_is_a_mistake(make_tile, tmp_path: Path) -> None:
    for time in ("last summer", "2021-08", "2016-12-31T23:59:60Z", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(ParameterError, match="expected ISO 8601"):
            export_tile(make_tile(time=time), tmp_path / "tile", [])


def test_a_grid_without_an_epsg_code_is_given_as_wkt(make_tile, tmp_path: Path) -> None:
    tile = make_tile(crs="+proj=laea +lat_0=71 +lon_0=-140 +datum=WGS84 +units=m +no_defs")
    properties = item_of(tile, tmp_path, [])["properties"]
    assert properties["proj:code"] is None
    assert rasterio.CRS.from_wkt(properties["proj:wkt2"]) == rasterio.CRS.from_wkt(tile.odc.geobox.crs.to_wkt())


def test_a_footprint_across_the_antimeridian_is_cut_there(make_tile, tmp_path: Path) -> None:
    # Wrangel Island, in the last UTM zone, 6 km across the antimeridian.
    x, y = Transformer.from_crs(4326, 32660, always_xy=True).transform(180, 71)
    tile = make_tile(shape=(100, 100), crs="EPSG:32660", affine=Affine(60, 0, x - 3000, 0, -60, y))
    item = item_of(tile, tmp_path, [])
    footprint = shapely.geometry.shape(item["geometry"])
    assert footprint.geom_type == "MultiPolygon"
    assert footprint.is_valid
    west, south, east, north = item["bbox"]
    assert 179 < west < 180
    assert -180 < east < -179
    assert sorted(round(bound) for part in footprint.geoms for bound in part.bounds[::2]) == [-180, -180, 180, 180]
    outside = [part for part in footprint.geoms if -179.5 < part.centroid.x < 179.5]
    assert outside == []
    assert (south, north) == pytest.approx((70.946, 71.0), abs=5e-3)


@pytest.mark.filterwarnings("ignore::darts_utils.ArealScaleWarning")
def test_a_footprint_around_the_pole_reaches_it(make_tile, tmp_path: Path) -> None:
    tile = make_tile(shape=(20, 20), crs="EPSG:3413", affine=Affine(1000, 0, -10_000, 0, -1000, 10_000))
    item = item_of(tile, tmp_path, [])
    west, south, east, north = item["bbox"]
    assert (west, east, north) == (-180, 180, 90)
    assert 89.8 < south < 89.95
