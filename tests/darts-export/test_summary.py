"""The figures of a tile in its manifest, against counting plainly."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label

from darts_export import export_tile, read_manifest
from darts_export.summary import Summary


def test_objects_and_area_are_those_of_the_table_whatever_is_exported(make_tile, tmp_path: Path) -> None:
    tile = make_tile(models=("m",))
    found = [
        export_tile(tile, tmp_path / str(number) / "tile", bands, ["m"])["summary"]
        for number, bands in enumerate((["polygonized"], ["extent"], ["thumbnail", "polygonized"]))
    ]
    assert found[0] == found[1] == found[2] == read_manifest(tmp_path / "0/tile")["summary"]
    frame = gpd.read_parquet(tmp_path / "0/tile/prediction_segments.parquet")
    mask = tile["binarized_segmentation"].to_numpy()
    assert found[0]["objects"] == len(frame) == label(mask, connectivity=2).max() > 3
    assert found[0]["area_m2"] == pytest.approx(frame["area_m2"].sum(), rel=1e-12)
    means = frame["mean"] * frame["npixel"]
    assert found[0]["mean_probability"] == pytest.approx(means.sum() / frame["npixel"].sum())
    assert found[0]["area_m2"] == pytest.approx(9 * np.count_nonzero(mask), rel=1e-3)  # UTM, away from the meridian


def test_no_object_is_0_and_no_layer_is_unknown(make_tile, tmp_path: Path) -> None:
    tile = make_tile(mask=np.zeros((20, 30), bool))
    summary = export_tile(tile, tmp_path / "a", ["probabilities"])["summary"]
    assert (summary["objects"], summary["area_m2"], summary["reliable_share"]) == (0, 0.0, 1.0)
    summary = export_tile(tile[["probabilities"]], tmp_path / "b", ["probabilities"])["summary"]
    assert set(summary.values()) == {None}


def test_lazy_layers_count_as_well(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    tile["quality_data_mask"] = tile["extent"] + np.uint8(1)
    loaded = export_tile(tile, tmp_path / "a", ["slope"])["summary"]
    assert export_tile(tile.chunk({"y": 40}), tmp_path / "b", ["slope"])["summary"] == loaded
    assert None not in loaded.values()


@given(st.integers(0, 2**32), st.booleans(), st.booleans(), st.integers(1, 40))
def test_shares_equal_plain_counting(seed: int, with_quality: bool, with_optical: bool, rows_at_once: int) -> None:
    import xarray as xr

    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, 2))
    extent, quality = (rng.integers(0, top, shape).astype(np.uint8) for top in (2, 3))
    red, nir = (np.where(rng.random(shape) < 0.3, np.nan, 0.1).astype(np.float32) for _ in range(2))
    tile = xr.Dataset({"extent": (("y", "x"), extent)})
    if with_quality:
        tile["quality_data_mask"] = (("y", "x"), quality)
    if with_optical:
        tile["red"], tile["nir"] = (("y", "x"), red), (("y", "x"), nir)
    summary = Summary()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts_export.summary._CHUNK_PIXELS", rows_at_once)
        summary.count_shares(tile)
    valid = reliable = cloudy = 0
    for place in np.ndindex(shape):
        if with_quality:
            has_data = quality[place] > 0
        else:
            has_data = not with_optical or not (np.isnan(red[place]) or np.isnan(nir[place]))
        valid += has_data
        reliable += has_data and extent[place] == 1
        cloudy += with_quality and quality[place] == 1
    assert summary.reliable_share == (reliable / valid if valid else None)
    assert summary.cloudy_share == (cloudy / valid if valid and with_quality else None)
