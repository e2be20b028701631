"""What holds for an export as a whole: nothing changed, no order, no side effects, the debug file."""

import errno
import json
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from darts_export import EXPORT_BANDS, ExportError, export_tile
from darts_utils import GridError, ParameterError, Stopwatch

METADATA = {
    "source": "PlanetScope",
    "models": {"m": {"sha256": "00"}},
    "configuration": {"sizes": [1, 2], "dir": Path("a")},
}


def contents(folder: Path) -> dict[str, object]:
    """What is in a folder, file by file: bytes, or arrays where the format stamps the time."""
    found: dict[str, object] = {}
    for path in folder.iterdir():
        if path.suffix == ".nc":
            with xr.open_dataset(path, engine="h5netcdf", decode_cf=False) as ds:
                arrays = {
                    name: (each.dims, each.dtype, each.to_numpy().tobytes()) for name, each in ds.variables.items()
                }
                found[path.name] = arrays | {"attrs": json.dumps(ds.to_dict(data=False), default=str)}
        elif path.name != "manifest.json":
            found[path.name] = path.read_bytes()
    return found


@pytest.mark.slow
def test_order_and_choice_of_bands_change_no_file(make_tile, tmp_path: Path) -> None:
    tile = make_tile(models=("m",))
    bands = [*EXPORT_BANDS, "slope", "extent_mask"]
    tile["extent_mask"] = tile["extent"]
    chance = random.Random(1)
    export_tile(tile, tmp_path / "all" / "tile", bands, ["m"], METADATA)
    everything = contents(tmp_path / "all" / "tile")
    for turn in range(8):
        some = chance.sample(bands, len(bands) if turn < 2 else chance.randrange(1, len(bands)))
        folder = tmp_path / str(turn) / "tile"
        export_tile(tile, folder, some, ["m"], METADATA)
        found = contents(folder)
        item = found.pop("item.json")
        if turn < 2:
            assert item == everything["item.json"]
        assert found == {name: everything[name] for name in found}
        assets = json.loads(everything["item.json"])["assets"]
        assert json.loads(item)["assets"] == {name: assets[name] for name in json.loads(item)["assets"]}


def test_tile_and_metadata_are_unchanged(make_tile, tmp_path: Path) -> None:
    tile = make_tile(models=("m",))
    tile["slope"].encoding["_FillValue"] = -1
    metadata = {**METADATA, "list": [1, {"a": (2, 3)}]}
    copy, metadata_copy = tile.copy(deep=True), json.loads(json.dumps(metadata, default=str))
    bytes_before = {name: tile[name].to_numpy().tobytes() for name in tile.variables}
    encodings = {name: dict(tile[name].encoding) for name in tile.variables}
    names, models = list(EXPORT_BANDS), ["m"]
    export_tile(tile, tmp_path / "tile", names, models, metadata, debug=True)
    xr.testing.assert_identical(tile, copy)
    assert {name: tile[name].to_numpy().tobytes() for name in tile.variables} == bytes_before
    assert {name: dict(tile[name].encoding) for name in tile.variables} == encodings
    assert json.loads(json.dumps(metadata, default=str)) == metadata_copy
    assert (names, models) == (list(EXPORT_BANDS), ["m"])


def test_a_read_only_tile_can_be_exported(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    export_tile(tile, tmp_path / "1" / "tile", EXPORT_BANDS, debug=True)
    for name in tile.data_vars:
        tile[name].to_numpy().flags.writeable = False
    export_tile(tile, tmp_path / "2" / "tile", EXPORT_BANDS, debug=True)
    assert contents(tmp_path / "2" / "tile") == contents(tmp_path / "1" / "tile")


def test_lazy_and_loaded_tiles_give_the_same(make_tile, tmp_path: Path) -> None:
    tile = make_tile()
    lazy = tile.chunk({"y": 64, "x": 50})
    export_tile(tile, tmp_path / "1" / "tile", EXPORT_BANDS)
    export_tile(lazy, tmp_path / "2" / "tile", EXPORT_BANDS)
    assert contents(tmp_path / "1" / "tile") == contents(tmp_path / "2" / "tile")
    assert all(lazy[name].chunks for name in lazy.data_vars)


def test_bands_may_be_any_iterable(make_tile, tmp_path: Path) -> None:
    manifest = export_tile(make_tile(), tmp_path / "tile", (name for name in ("extent", "slope", "slope")), iter(()))
    assert manifest["bands"] == ["extent", "slope"]
    with pytest.raises(ParameterError, match="expected a list"):
        export_tile(make_tile(), tmp_path / "tile", "slope")


def test_debug_holds_the_whole_tile(make_tile, tmp_path: Path) -> None:
    tile = make_tile(models=("m",), flags={"a": [1, 2]}, valid=True, nothing=None, sizes=np.array([1.5, 2]))
    tile["s2_scl"] = tile["extent"] * np.uint8(3)
    tile["s2_scl"].encoding["dtype"] = "int16"
    tile["red"].encoding = {"scale_factor": 0.5, "dtype": "uint8", "_FillValue": 0}
    manifest = export_tile(tile, tmp_path / "tile", ["extent"], debug=True)
    assert "darts_inference_debug.nc" in manifest["files"]
    with xr.open_dataset(tmp_path / "tile/darts_inference_debug.nc", engine="h5netcdf", decode_coords="all") as found:
        assert set(found.data_vars) == set(tile.data_vars)
        for name, array in tile.data_vars.items():
            np.testing.assert_array_equal(found[name].values, array.values)
            assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found["x"], tile["x"])
        assert found.odc.geobox == tile.odc.geobox
        assert found.attrs["tile_id"] == "tile-1"
        assert json.loads(found.attrs["flags"]) == {"a": [1, 2]}
        assert found.attrs["sizes"].tolist() == [1.5, 2]


def test_debug_file_without_room_is_a_full_disk(make_tile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    with pytest.raises(ExportError, match=r"debug\.nc may need .* 0 MB are free there") as raised:
        export_tile(make_tile(), tmp_path / "tile", ["extent"], debug=True)
    assert getattr(raised.value.__cause__, "errno", None) == errno.ENOSPC


def test_metadata_file_holds_everything(make_tile, tmp_path: Path) -> None:
    export_tile(make_tile(), tmp_path / "tile", ["metadata"], metadata=METADATA, fingerprint="f1")
    content = json.loads((tmp_path / "tile/darts_inference.json").read_text())
    assert content["metadata"]["configuration"] == {"sizes": [1, 2], "dir": "a"}
    assert content["attrs"]["azimuth"] == 132.8
    assert content["attrs"]["elevation"] is None
    assert content["fingerprint"] == "f1"
    assert content["grid"]["epsg"] == 32608
    assert content["variables"]["red"] == {"dtype": "float32", "attrs": {"data_source": "PlanetScope", "units": "1"}}


@pytest.mark.parametrize(
    "metadata",
    [{"a": object()}, {"a": [{"b": 1j}]}, {("a", "b"): 1}, [1, 2], {"models": ["a"]}, {"models": {"a": "b"}}],
)
def test_metadata_that_is_not_json_is_a_mistake(make_tile, tmp_path: Path, metadata) -> None:
    with pytest.raises(ParameterError, match="metadata"):
        export_tile(make_tile(), tmp_path / "tile", ["extent"], metadata=metadata)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tile: tile.drop_vars(["x", "y", "spatial_ref"]), "no readable grid"),
        (lambda tile: tile.isel(y=slice(None, None, -1)), "not north-up"),
        (lambda tile: tile.rename(y="lines"), r"expected \('y', 'x'\)"),
        (
            lambda tile: tile.expand_dims("time"),
            r"extent has the dimensions .*; take one of 'time' first, as `isel\(time=0\)",
        ),
        (lambda tile: tile.odc.assign_crs("EPSG:4326"), "The tile is in WGS 84; expected a projected CRS in metres"),
        (lambda tile: tile.odc.assign_crs("EPSG:2225"), "counted in US survey foot; expected"),
        (lambda tile: tile.odc.assign_crs("EPSG:3857"), r"where areas are 3\.\d+ times those on the ground"),
    ],
)
def test_grids_that_cannot_be_exported(make_tile, tmp_path: Path, change, message: str) -> None:
    with pytest.raises(GridError, match=message):
        export_tile(change(make_tile()[["extent"]]), tmp_path / "tile", ["extent"])


def test_steps_are_timed_and_no_thread_stays(make_tile, tmp_path: Path) -> None:
    watch = Stopwatch()
    before = set(threading.enumerate())
    with watch.recording():
        export_tile(make_tile(), tmp_path / "tile")
    assert set(threading.enumerate()) <= before
    wanted = {"writing probabilities.tif", "writing thumbnail.jpg", "outlines", "writing GeoPackage"}
    assert wanted <= set(watch.seconds)


def test_the_import_is_light() -> None:
    heavy = {"rasterio", "geopandas", "pandas", "xarray", "shapely", "scipy", "PIL", "pyogrio", "odc", "matplotlib"}
    code = f"import sys, darts_export; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_time_of_a_row_survives_a_zone(make_tile, tmp_path: Path) -> None:
    tile = make_tile(time="2021-08-21T23:00:19+02:00")
    scalar = make_tile(time="").assign_coords(time=np.datetime64("2021-08-21T21:00:19", "ns"))
    for given in (tile, scalar, tile.assign_coords(time=np.datetime64("2001-01-01", "ns"))):
        export_tile(given, tmp_path / "tile", ["extent"])
        frame = pd.read_parquet(tmp_path / "tile/prediction_extent.parquet")
        assert frame["acquisition_time"][0] == pd.Timestamp("2021-08-21T21:00:19Z")
