"""Rasters: what is read back, where it lies, how it is stored; judged by rasterio, rio-cogeo and gdalinfo."""

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from darts_export import EXPORT_BANDS, ExportError, export_tile
from darts_export.layers import to_percent
from darts_utils import ParameterError
from support.gdal import needs_gdal_bin

RASTERS = {
    "probabilities.tif": ["probabilities"],
    "binarized.tif": ["binarized_segmentation"],
    "optical.tif": ["red", "green", "blue", "nir"],
    "dem.tif": ["slope", "relative_elevation"],
    "tcvis.tif": ["tc_brightness", "tc_greenness", "tc_wetness"],
    "extent_mask.tif": ["extent_mask"],
}


@pytest.fixture(scope="module")
def exported(make_tile, tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.Dataset, Path]:
    tile = make_tile(shape=(700, 1100), models=("a",))
    tile["extent_mask"] = tile["extent"]
    folder = tmp_path_factory.mktemp("rasters") / "tile"
    metadata = {"models": {"a": {}, "b": {}}}
    export_tile(tile, folder, [*EXPORT_BANDS, "extent_mask"], ["a"], metadata, fingerprint="f1")
    return tile, folder


@pytest.mark.parametrize(("file", "variables"), RASTERS.items())
def test_rasters_hold_what_the_tile_holds(exported, file: str, variables: list[str]) -> None:
    tile, folder = exported
    with rasterio.open(folder / file) as raster:
        found = raster.read()
        assert raster.crs == rasterio.CRS.from_epsg(32608)
        assert raster.transform == tile.odc.geobox.affine
        assert raster.descriptions == tuple(variables)
    for name, values in zip(variables, found, strict=True):
        wanted = tile[name].values
        if name == "probabilities":
            unknown = np.isnan(wanted)
            assert values.dtype == np.uint8
            np.testing.assert_array_equal(values == 255, unknown)
            assert np.abs(values[~unknown] / 100 - wanted[~unknown].astype(np.float64)).max() <= 0.005 + 1e-7
        elif name == "binarized_segmentation":
            unseen = (tile["extent"].values == 0) | np.isnan(tile["probabilities"].values)
            assert 0 < unseen.sum() < unseen.size / 2
            np.testing.assert_array_equal(values, np.where(unseen, 255, wanted))
            assert values.dtype == np.uint8
        else:
            np.testing.assert_array_equal(values, wanted)
            assert values.dtype == (np.uint8 if wanted.dtype == np.bool_ else wanted.dtype)


@pytest.mark.parametrize("file", RASTERS)
def test_rasters_are_cloud_optimized(exported, file: str) -> None:
    _, folder = exported
    is_valid, errors, warnings = cog_validate(folder / file, strict=True)
    assert (is_valid, errors, warnings) == (True, [], [])
    with rasterio.open(folder / file) as raster:
        assert raster.profile["compress"] == "zstd"
        assert raster.profile["tiled"]
        assert raster.overviews(1) == [2, 4]


@needs_gdal_bin
@pytest.mark.parametrize("file", RASTERS)
def test_gdalinfo_reads_rasters_without_a_warning(exported, file: str) -> None:
    _, folder = exported
    run = subprocess.run(["gdalinfo", "-checksum", folder / file], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert "warn" not in run.stdout.lower()


def test_statistics_in_the_file_are_those_of_the_values(exported) -> None:
    tile, folder = exported
    wanted = tile["slope"].values.astype(np.float64)
    with rasterio.open(folder / "dem.tif") as raster:
        tags = raster.tags(1)
    assert float(tags["STATISTICS_MINIMUM"]) == pytest.approx(wanted.min())
    assert float(tags["STATISTICS_MAXIMUM"]) == pytest.approx(wanted.max())
    assert float(tags["STATISTICS_MEAN"]) == pytest.approx(wanted.mean())
    assert float(tags["STATISTICS_STDDEV"]) == pytest.approx(wanted.std(), rel=1e-6)


def test_statistics_leave_missing_pixels_out(exported) -> None:
    tile, folder = exported
    percent = np.rint(tile["probabilities"].values * 100)
    with rasterio.open(folder / "probabilities.tif") as raster:
        tags = raster.tags(1)
    assert float(tags["STATISTICS_MEAN"]) == pytest.approx(np.nanmean(percent))
    assert float(tags["STATISTICS_VALID_PERCENT"]) == pytest.approx(100 * np.isfinite(percent).mean(), abs=0.01)


def test_tags_say_where_a_raster_comes_from(exported) -> None:
    _, folder = exported
    with rasterio.open(folder / "probabilities.tif") as raster:
        tags = raster.tags()
        assert raster.nodata == 255
        assert raster.units == ("percent",)
    assert tags["DARTS_TILE_ID"] == "tile-1"
    assert tags["DARTS_TIME"] == "2021-08-21T21:00:19Z"
    assert tags["DARTS_SOURCE"] == "PlanetScope"
    assert tags["DARTS_MODELS"] == "a,b"
    assert tags["DARTS_FINGERPRINT"] == "f1"
    with rasterio.open(folder / "probabilities-a.tif") as raster:
        assert raster.tags()["DARTS_MODELS"] == "a"


def test_overviews_average_values_and_take_the_majority_of_classes(make_tile, tmp_path: Path) -> None:
    tile = make_tile(shape=(1024, 1024))
    probabilities = np.tile(np.array([[0.0, 1.0], [np.nan, 0.5]], np.float32), (512, 512))
    tile["probabilities"] = tile["probabilities"].copy(data=probabilities)
    mask = np.tile(np.array([[True, True], [True, False]]), (512, 512))
    tile["binarized_segmentation"] = tile["binarized_segmentation"].copy(data=mask)
    tile["extent"][:] = 1
    export_tile(tile, tmp_path / "tile", ["probabilities", "binarized"])
    with rasterio.open(tmp_path / "tile/probabilities.tif", overview_level=0) as raster:
        assert np.unique(raster.read()) == 50
    with rasterio.open(tmp_path / "tile/binarized.tif", overview_level=0) as raster:
        assert np.unique(raster.read(masked=True).compressed()) == 1


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("int16", None), ("uint16", 0), ("int32", None), ("int8", -1), ("float32", None), ("float64", None)],
)
def test_any_variable_keeps_its_dtype(make_tile, tmp_path: Path, dtype: str, nodata: float | None) -> None:
    tile = make_tile()
    values = np.random.default_rng(5).integers(-100 if dtype[0] != "u" else 0, 100, tile["red"].shape).astype(dtype)
    attrs = {} if nodata is None else {"_FillValue": nodata}
    tile["mine"] = tile["red"].copy(data=values).assign_attrs(attrs)
    export_tile(tile, tmp_path / "tile", ["mine"])
    with rasterio.open(tmp_path / "tile/mine.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), values)
        assert raster.dtypes == (dtype,)
        if dtype[0] == "f":
            assert np.isnan(raster.nodata)
        else:
            assert raster.nodata == nodata


def test_the_deviation_over_an_ensemble_keeps_its_digits(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    tile["probabilities-std"] = tile["probabilities"] * np.float32(0.01)
    export_tile(tile, tmp_path / "tile", ["probabilities-std", "probabilities"])
    with rasterio.open(tmp_path / "tile/probabilities-std.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), tile["probabilities-std"])
        assert raster.dtypes == ("float32",)


@pytest.mark.parametrize("name", ["lake", "active-layer-detachment", "std"])
def test_probabilities_of_a_class_are_written_as_those_of_slumps(make_tile, tmp_path: Path, name: str) -> None:
    tile, layer = make_tile(), f"probabilities_{name}"
    tile[layer] = 1 - tile["probabilities"]
    tile[layer].values[60, 60] = -1  # declared to be none
    tile[layer].attrs = {"_FillValue": -1.0}
    manifest = export_tile(tile, tmp_path / "tile", [layer])
    assert {f"{layer}.tif", f"{layer}.qml"} <= set(manifest["files"])
    wanted = tile[layer].where(tile[layer] >= 0)
    with rasterio.open(tmp_path / f"tile/{layer}.tif") as raster:
        assert (raster.dtypes, raster.nodata) == (("uint8",), 255)
        assert (raster.units, raster.descriptions) == (("percent",), (layer,))
        found = raster.read(1, masked=True)
    np.testing.assert_array_equal(found.mask, wanted.isnull())
    assert np.abs(found / 100 - wanted.values.astype(np.float64)).max() <= 0.005 + 1e-7
    with pytest.raises(ParameterError, match=f"{layer} reach from"):
        export_tile(tile.assign({layer: tile[layer] + 1}), tmp_path / "other", [layer])


@pytest.mark.parametrize("dtype", ["int64", "complex64", "datetime64[ns]"])
def test_a_dtype_that_no_raster_holds_is_named(make_tile, tmp_path: Path, dtype: str) -> None:
    tile = make_tile()
    tile["mine"] = tile["extent"].astype(dtype)
    with pytest.raises(ParameterError, match=f"mine has the dtype {re.escape(dtype)}"):
        export_tile(tile, tmp_path / "tile", ["mine"])


def test_what_the_source_stored_does_not_become_no_data(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    tile["slope"].encoding["_FillValue"] = 0
    export_tile(tile, tmp_path / "tile", ["slope"])
    with rasterio.open(tmp_path / "tile/slope.tif") as raster:
        assert np.isnan(raster.nodata)


def test_a_variable_with_a_leading_dimension_becomes_bands(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    planes = np.random.default_rng(6).integers(0, 2, (3, *tile["red"].shape), dtype=np.uint8)
    tile["planet_udm"] = (("udm_band", "y", "x"), planes)
    tile = tile.assign_coords(udm_band=[1, 2, 3])
    export_tile(tile, tmp_path / "tile", ["planet_udm"])
    with rasterio.open(tmp_path / "tile/planet_udm.tif") as raster:
        np.testing.assert_array_equal(raster.read(), planes)
        assert raster.descriptions == ("planet_udm 1", "planet_udm 2", "planet_udm 3")


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (513, 1), (512, 512)])
def test_tiles_of_any_size(make_tile, tmp_path: Path, shape: tuple[int, int]) -> None:
    tile = make_tile(mask=np.ones(shape, np.bool_), probabilities=np.full(shape, 0.75, np.float32))
    manifest = export_tile(tile, tmp_path / "tile")
    with rasterio.open(tmp_path / "tile/probabilities.tif") as raster:
        assert (raster.read(1) == 75).all()
        assert raster.shape == shape
    assert set(manifest["files"]) > {"probabilities.tif", "binarized.tif", "thumbnail.jpg"}


def test_a_raster_without_a_valid_pixel(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    tile["probabilities"] = tile["probabilities"] * np.nan
    export_tile(tile, tmp_path / "tile", ["probabilities"])
    with rasterio.open(tmp_path / "tile/probabilities.tif") as raster:
        assert (raster.read(1) == 255).all()


def test_a_grid_without_an_epsg_code_keeps_its_crs(make_tile, tmp_path: Path) -> None:
    crs = "+proj=laea +lat_0=71 +lon_0=-140 +datum=WGS84 +units=m +no_defs"
    tile = make_tile(crs=crs, affine=Affine(10.5, 0, -1234.25, 0, -10.5, 777.125))
    export_tile(tile, tmp_path / "tile", ["probabilities"])
    with rasterio.open(tmp_path / "tile/probabilities.tif") as raster:
        assert raster.crs == rasterio.CRS.from_string(crs)
        assert raster.transform == Affine(10.5, 0, -1234.25, 0, -10.5, 777.125)


def test_any_order_of_dimensions_is_written_upright(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    turned = tile.assign(probabilities=tile["probabilities"].transpose("x", "y"))
    export_tile(turned, tmp_path / "tile", ["probabilities"])
    with rasterio.open(tmp_path / "tile/probabilities.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), to_percent(tile["probabilities"].values))


@pytest.mark.parametrize("damage", ["cut short", "zeros at the end", "zeros in an overview"])
def test_what_is_on_disk_is_compared_with_what_was_written(
    make_tile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """A disk that is broken need not show in what the system reports."""
    write = Path.write_bytes

    def write_badly(path: Path, given: bytes) -> int:
        content = bytearray(given)
        size = len(content)
        if path.suffix != ".tif":
            return write(path, content)
        if damage == "cut short":
            del content[-1000:]
        elif damage == "zeros at the end":
            content[-1000:] = bytes(1000)
        else:
            content[size // 10 : size // 10 + 500] = bytes(500)
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_badly)
    rng = np.random.default_rng(7)
    tile = make_tile(mask=np.zeros((1100, 1100), np.bool_), probabilities=rng.random((1100, 1100)).astype(np.float32))
    with pytest.raises(ExportError, match="read back"):
        export_tile(tile, tmp_path / "tile", ["probabilities"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [1.2, -0.1, np.inf])
def test_no_probability_is_an_error(make_tile, tmp_path: Path, value: float) -> None:
    tile = make_tile()
    tile["probabilities"][80, 80] = value
    with pytest.raises(ParameterError, match="expected probabilities in 0…1"):
        export_tile(tile, tmp_path / "tile", ["probabilities"])
    assert list(tmp_path.iterdir()) == []


def test_percent_rounds_to_the_nearest() -> None:
    values = np.arange(0, 1.0001, 1e-4, dtype=np.float32).reshape(1, -1)
    exact = values.astype(np.float64) * 100
    assert np.abs(to_percent(values) - exact).max() <= 0.5 + 1e-5
    assert to_percent(np.array([[0.004, 0.006, 1.0, np.nan]], np.float32)).tolist() == [[0, 1, 100, 255]]


def of_integers(tile: xr.Dataset, lowest: int) -> xr.Dataset:
    """Reflectance as it comes from integers, float64 arithmetic rounded once, missing in a corner."""
    rng = np.random.default_rng(8)
    for name in ("red", "green", "blue", "nir"):
        numbers = rng.integers(lowest, 12_000, tile["red"].shape)
        values = (numbers * 1e-4).astype(np.float32)
        values[:9, :20] = np.nan
        tile[name] = tile[name].copy(data=values)
    return tile


@pytest.mark.parametrize(("lowest", "offset"), [(1, 0.0), (0, -0.1), (-999, -0.1)])
def test_optical_of_integers_is_integers_again(make_tile, tmp_path: Path, lowest: int, offset: float) -> None:
    tile = of_integers(make_tile(shape=(200, 300)), lowest)
    export_tile(tile, tmp_path / "tile", ["optical", "red"])
    with rasterio.open(tmp_path / "tile/optical.tif") as raster:
        assert set(raster.dtypes) == {"uint16"}
        assert raster.nodata == 0
        assert (set(raster.scales), set(raster.offsets)) == ({1e-4}, {offset})
        assert [colour.name for colour in raster.colorinterp] == ["red", "green", "blue", "undefined"]
        for index, name in enumerate(raster.descriptions, start=1):
            found = raster.read(index, masked=True).astype(np.float64) * 1e-4 + offset
            np.testing.assert_allclose(found.filled(np.nan), tile[name].values, atol=1e-7)
    with rasterio.open(tmp_path / "tile/red.tif") as raster:  # a variable by its name keeps its dtype
        assert raster.dtypes == ("float32",)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v + np.float32(3e-5),
        lambda v: v - np.float32(0.2),
        lambda v: np.where(v > 1, np.float32(9), v),
        lambda v: np.where(v < 0.1, np.float32(np.inf), v),
        lambda v: np.where(v < 0.1, np.float32(-np.inf), v),
    ],
    ids=["not a step", "too low", "too high", "infinite", "minus infinite"],
)
def test_optical_that_no_integer_holds_stays_float(make_tile, tmp_path: Path, change) -> None:
    tile = of_integers(make_tile(shape=(40, 50)), 1)
    tile["nir"] = tile["nir"].copy(data=change(tile["nir"].values))
    export_tile(tile, tmp_path / "tile", ["optical"])
    with rasterio.open(tmp_path / "tile/optical.tif") as raster:
        assert set(raster.dtypes) == {"float32"}
        np.testing.assert_array_equal(raster.read(4), tile["nir"])
        assert raster.colorinterp[0].name == "red"


def test_classes_have_names_and_colours_beside_them(exported) -> None:
    _, folder = exported
    entry = ET.fromstring((folder / "binarized.tif.aux.xml").read_text("utf-8")).find("PAMRasterBand")
    assert [each.text for each in entry.find("CategoryNames")] == ["no slump", "slump"]
    rows = [[cell.text for cell in row] for row in entry.iter("Row")]
    assert [(row[0], row[1], row[-1]) for row in rows] == [("0", "no slump", "0"), ("1", "slump", "255")]


@needs_gdal_bin
def test_gdalinfo_reads_the_names_of_classes(exported) -> None:
    _, folder = exported
    said = subprocess.run(["gdalinfo", folder / "binarized-a.tif"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"0: no slump\s+1: slump", said)
    assert "<GDALRasterAttributeTable" in said


def test_styles_show_nothing_where_nothing_is(exported) -> None:
    _, folder = exported
    percent = ET.fromstring((folder / "probabilities.qml").read_text("utf-8"))
    alphas = {float(item.get("value")): int(item.get("alpha")) for item in percent.iter("item")}
    assert (alphas[0], min(alphas), max(alphas)) == (0, 0, 100)
    assert sorted(alphas.values()) == [alphas[value] for value in sorted(alphas)]
    classes = ET.fromstring((folder / "binarized.qml").read_text("utf-8"))
    assert {entry.get("value"): entry.get("alpha") for entry in classes.iter("paletteEntry")} == {"0": "0", "1": "255"}
    assert (folder / "binarized-a.qml").read_bytes() == (folder / "binarized.qml").read_bytes()


def test_the_preview_is_a_small_image_in_place_and_transparent_without_data(make_tile, tmp_path: Path) -> None:
    tile = make_tile(shape=(1500, 2300))
    for name in ("red", "green", "blue"):
        tile[name][:600] = np.nan
    export_tile(tile, tmp_path / "tile", ["extent"])
    with rasterio.open(tmp_path / "tile/preview.tif") as raster:
        assert raster.shape == (500, 767)
        assert raster.profile["compress"] == "jpeg"
        assert raster.crs == rasterio.CRS.from_epsg(32608)
        assert raster.transform == tile.odc.geobox.affine * Affine.scale(3)
        assert [colour.name for colour in raster.colorinterp] == ["red", "green", "blue"]
        mask, picture = raster.dataset_mask(), raster.read()
        assert raster.tags()["DARTS_TILE_ID"] == "tile-1"
    assert (mask[:200] == 0).all()
    assert (mask[200:] == 255).all()
    red = tile["red"].values[600:].reshape(300, 3, -1)[:, :, :2298].reshape(300, 3, 766, 3).mean(axis=(1, 3))
    assert np.corrcoef(picture[0, 200:, :766].reshape(-1), red.reshape(-1))[0, 1] > 0.9
    assert cog_validate(tmp_path / "tile/preview.tif", strict=True)[0]


def test_a_tile_without_colours_has_no_preview(make_tile, tmp_path: Path) -> None:
    tile = make_tile()[["probabilities", "binarized_segmentation"]]
    manifest = export_tile(tile, tmp_path / "tile", ["probabilities", "binarized"])
    assert "preview.tif" not in manifest["files"]
    with rasterio.open(tmp_path / "tile/binarized.tif") as raster:
        unseen = np.isnan(tile["probabilities"].values)
        np.testing.assert_array_equal(raster.read(1) == 255, unseen)
