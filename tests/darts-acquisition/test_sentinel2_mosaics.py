"""Quarterly mosaics: what is found, and that a tile holds what rasterio reads from the files."""

import itertools
import math

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import shape

from darts_acquisition import (
    CDSEMosaicSource,
    EmptySceneError,
    SceneError,
    SceneGridError,
    SceneNameError,
    SceneNotFoundError,
    SceneNotStoredError,
    ServiceError,
    download_cdse_s2_mosaic,
    load_cdse_s2_mosaic,
    search_cdse_s2_mosaics,
)
from darts_acquisition.sentinel2_mosaics.mosaics import check_mosaic_id, quality_from_observations, quarter_intervals
from darts_utils import ParameterError
from support.lanes import mostly_slow
from support.mosaics import AUTUMN, CRS, GRID, HOLE, SUMMER, Mosaics


@pytest.fixture
def mosaics(tmp_path):
    (tmp_path / "files").mkdir()
    return Mosaics(tmp_path / "files")


def assert_equal(tile, truth):
    assert list(tile) == [*truth]
    for name, expected in truth.items():
        np.testing.assert_array_equal(tile[name].values, expected, err_msg=name)
        assert tile[name].dtype == expected.dtype


@pytest.mark.parametrize(
    ("tag", "looks", "looks_tag"),
    mostly_slow(
        [(HOLE, "int16", None), (None, "uint8", 255), (-9999, "uint16", 65_535), (0, "int16", HOLE)],
        lambda case: case[0] in (HOLE, -9999),
    ),
)
def test_a_tile_holds_what_an_independent_reading_gives(mosaics, tmp_path, tag, looks, looks_tag) -> None:
    mosaics.add(tag=tag, looks=looks, looks_tag=looks_tag)
    with mosaics.serving() as (files, _):
        in_memory = load_cdse_s2_mosaic(SUMMER)
        stored = load_cdse_s2_mosaic(SUMMER, tmp_path / "raw")
        asked = len(files.requests)
        again = load_cdse_s2_mosaic(SUMMER, tmp_path / "raw")
        assert len(files.requests) == asked, "what is in the store is not fetched again"
    offline = load_cdse_s2_mosaic(SUMMER, tmp_path / "raw", offline=True)
    truth = mosaics.truth()
    assert {int(level) for level in np.unique(truth["quality_data_mask"])} == {0, 1, 2}
    for tile in (in_memory, stored, again, offline):
        assert_equal(tile, truth)
        assert min(float(tile[name].min()) for name in ("blue", "green", "red", "nir")) >= -0.02
        assert (tile.odc.geobox.crs, tile.odc.geobox.affine) == (CRS, GRID)
        assert (tile.attrs["tile_id"], tile.attrs["time"]) == (SUMMER, "2023-07-01T00:00:00Z")
        assert math.isnan(tile.attrs["azimuth"])
        assert math.isnan(tile.attrs["elevation"])


def test_a_mosaic_is_stored_as_a_whole(mosaics, tmp_path) -> None:
    mosaics.add()
    with mosaics.serving():
        source = CDSEMosaicSource()
        assert not source.is_stored(SUMMER, tmp_path / "raw")
        source.download(SUMMER, tmp_path / "raw")
        for ask in (source.is_stored, source.stored_files, source.download, source.load):
            with pytest.raises(ParameterError, match="stored whole"):
                ask(SUMMER, tmp_path / "raw", ["blue"])
    files = source.stored_files(SUMMER, tmp_path / "raw")
    assert source.is_stored(SUMMER, tmp_path / "raw")
    assert files == sorted(files)
    assert len(files) == 1 + 2 * 5
    assert_equal(source.load(SUMMER, tmp_path / "raw", offline=True), mosaics.truth())


def test_what_is_not_there_is_an_error_that_names_it(mosaics, tmp_path) -> None:
    mosaics.add()
    with pytest.raises(SceneNotStoredError, match=f"Scene {SUMMER} is not in"):
        load_cdse_s2_mosaic(SUMMER, tmp_path / "raw", offline=True)
    with mosaics.serving() as (files, _):
        with pytest.raises(SceneNotFoundError, match=f"no quarterly mosaic {AUTUMN}"):
            download_cdse_s2_mosaic(AUTUMN, tmp_path / "raw")
        (mosaics.folder / f"{SUMMER}_B08.tif").unlink()
        with pytest.raises(ServiceError, match="404"):
            download_cdse_s2_mosaic(SUMMER, tmp_path / "raw")
    assert not list((tmp_path / "raw").glob("*.zarr"))
    assert files.requests


def test_assets_are_found_by_the_names_that_the_item_gives(mosaics) -> None:
    item, truth = mosaics.add(), mosaics.truth()
    with mosaics.serving():
        whole = item["assets"]
        item["assets"] = {f"{name}_10m": asset for name, asset in whole.items()} | {"B0": {}, "thumbnail": {}}
        assert_equal(load_cdse_s2_mosaic(SUMMER), truth)
        item["assets"] = {f"{n}": asset | {"bands": [{"name": name}]} for n, (name, asset) in enumerate(whole.items())}
        assert_equal(load_cdse_s2_mosaic(SUMMER), truth)
        item["assets"] = {"B02": whole["B02"], "thumbnail": {"href": "https://localhost/x.png"}}
        with pytest.raises(SceneError, match=r"expected one asset B03 with an address; it has B02, thumbnail\."):
            load_cdse_s2_mosaic(SUMMER)


def test_a_grid_that_the_item_does_not_say_or_the_files_do_not_have_is_refused(mosaics) -> None:
    item = mosaics.add()
    with mosaics.serving():
        properties, nir = item["properties"], item["assets"]["B08"]
        nir["proj:shape"] = [8, 8]
        with pytest.raises(SceneGridError, match="its bands lie on different grids"):
            load_cdse_s2_mosaic(SUMMER)
        del nir["proj:shape"]
        good = properties["proj:transform"]
        properties["proj:transform"] = [10, 0, good[2] + 50_000, 0, -10, good[5]]
        with pytest.raises(SceneGridError, match="its files lie elsewhere than its item says"):
            load_cdse_s2_mosaic(SUMMER)
        properties["proj:transform"] = [60, 0, good[2], 0, -60, good[5]]
        with pytest.raises(SceneGridError, match="expected 10 m"):
            load_cdse_s2_mosaic(SUMMER)
        del properties["proj:transform"]
        with pytest.raises(SceneError, match="lacks proj:code, proj:transform or proj:shape"):
            load_cdse_s2_mosaic(SUMMER)


def test_a_mosaic_without_data_and_files_of_another_type_are_errors(mosaics) -> None:
    empty, other = mosaics.add(AUTUMN), mosaics.add(SUMMER)
    for band in ("B02", "B03", "B04", "B08"):
        mosaics.write(f"{AUTUMN}_{band}.tif", np.full((64, 64), HOLE, "int16"), None)
    mosaics.write(f"{SUMMER}_B04.tif", np.ones((64, 64), "float32"), None)
    with mosaics.serving():
        with pytest.raises(EmptySceneError, match=f"Scene {empty['id']} holds no data: all .* nir are -32768"):
            load_cdse_s2_mosaic(AUTUMN)
        with pytest.raises(
            ServiceError, match=rf"{other['id']}_B04\.tif holds 1 × float32; expected one band of int16"
        ):
            load_cdse_s2_mosaic(SUMMER)


@given(st.lists(st.integers(-32768, 32767), min_size=1))
def test_quality_counts_looks(looks) -> None:
    expected = [0 if look <= 0 else 1 if look <= 3 else 2 for look in looks]
    assert quality_from_observations(np.array(looks, "int16")).tolist() == expected


def test_searches_find_quarters_of_tiles_and_areas(mosaics, tmp_path) -> None:
    names = [f"Sentinel-2_mosaic_{year}_Q{quarter}_08WMA_0_0" for year in (2022, 2023) for quarter in (1, 2, 3, 4)]
    item = mosaics.add(SUMMER)
    mosaics.items[:] = [
        item | {"id": name, "properties": item["properties"] | {"datetime": f"{name[18:22]}-{begin}-01T00:00:00Z"}}
        for name, begin in zip(names, 2 * ["01", "04", "07", "10"], strict=True)
    ]
    place = gpd.GeoDataFrame(geometry=[shape(item["geometry"]).centroid], crs="EPSG:4326")
    away = place.set_geometry(place.translate(3, 0))

    def found(**conditions):
        return list(search_cdse_s2_mosaics(**conditions).index)

    with mosaics.serving():
        for where in ({"tile_ids": ["08WMA"]}, {"aoi": place}, {"scene_ids": names}):
            assert found(**where) == names
            assert found(**where, years=[2023], quarters=[4, 2]) == [names[5], names[7]]
            assert found(**where, quarters=[3]) == [names[2], names[6]]
            assert found(**where, years=[2022]) == names[:4]
            assert found(**where, years=[2021]) == []
        short = names[3].replace("08WMA", "8WMA")  # Catalogues differ in whether they write the leading zero.
        mosaics.items[3]["id"] = short
        mosaics.items[3]["properties"].pop("grid:code", None)
        assert found(tile_ids=["08WMA"], years=[2022]) == [*names[:3], short]
        assert found(scene_ids=[names[1], "Sentinel-2_mosaic_2030_Q1_08WMA_0_0"]) == [names[1]]
        assert found(scene_ids=[]) == found(tile_ids=["08WMB"]) == found(aoi=away) == []
        table = search_cdse_s2_mosaics(scene_ids=[SUMMER])
        sizes = sum(asset["file:size"] for asset in item["assets"].values())
        assert table.loc[SUMMER, ["tile_id", "download_bytes"]].tolist() == ["08WMA", sizes]
        assert table["cloud_cover"].isna().all()
        with pytest.raises(ParameterError, match="Nothing says which mosaics"):
            search_cdse_s2_mosaics(years=[2023])


@pytest.mark.parametrize(
    ("quarters", "years", "message"),
    [
        ([5], None, "quarters holds 5"),
        ([0], [2020], "quarters holds 0"),
        ([], None, "quarters is empty"),
        ((), [2020], "quarters is empty"),
        (3, [2020], "quarters is 3; expected a list"),
        ([3.0], [2020], r"quarters is \[3.0\]; expected a list of whole numbers"),
        ([True], [2020], r"quarters is \[True\]"),
        (None, [2014], "years holds 2014"),
        ([1], [], "years is empty"),
    ],
)
def test_quarters_and_years_that_cannot_be_are_refused(quarters, years, message) -> None:
    with pytest.raises(ParameterError, match=message):
        quarter_intervals(quarters, years)


def test_quarters_and_years_may_be_arrays() -> None:
    assert quarter_intervals(np.array([4, 2]), np.array([2023])) == quarter_intervals([2, 4], [2023])


def test_quarters_cover_a_year_without_gap_or_overlap() -> None:
    spans = quarter_intervals(None, [2023])
    assert [span.to_stac()[:10] for span in spans] == ["2023-01-01", "2023-04-01", "2023-07-01", "2023-10-01"]
    for one, after in itertools.pairwise((*spans, *quarter_intervals([1], [2024]))):
        assert (after.start - one.end).total_seconds() == 0.001


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("S2A_MSIL2A_20220217T183431_N0510_R027_T13VEK_20240516T022440", "is a scene .*raw_data_source 'cdse'"),
        ("20220217T183431_20220217T183428_T13VEK", "is a scene .*raw_data_source 'gee'"),
        ("../elsewhere", "is no name of a quarterly mosaic"),
        ("", "is no name of a quarterly mosaic"),
    ],
)
def test_names_of_scenes_and_paths_are_no_mosaics(name, message) -> None:
    with pytest.raises(SceneNameError, match=message):
        check_mosaic_id(name)
    assert check_mosaic_id(f" {SUMMER}\n") == SUMMER
