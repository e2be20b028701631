"""Where an MGRS tile lies, against an item of the Data Space and against points that are put into squares."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from darts_acquisition import Sentinel2Source
from darts_acquisition.scenes.names import mgrs_tile_geobox
from darts_utils import ParameterError
from support.lanes import cases
from support.peel_scenes import GEE_JULY, JULY, no_network

BANDS = "CDEFGHJKLMNPQRSTUVWX"


def square_of(lon: float, lat: float) -> tuple[str, float, float]:
    """Name the MGRS square of a point, as a table of letters has it; with the point's UTM coordinates in metres."""
    zone = int((lon + 180) // 6) + 1
    band = BANDS[min(int((lat + 80) // 8), len(BANDS) - 1)]
    epsg = (32600 if lat >= 0 else 32700) + zone
    east, north = Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True).transform(lon, lat)
    column = "ABCDEFGHJKLMNPQRSTUVWXYZ"[8 * ((zone - 1) % 3) + int(east // 100_000) - 1]
    letters = "ABCDEFGHJKLMNPQRSTUV" if zone % 2 else "FGHJKLMNPQRSTUVABCDE"
    return f"{zone:02}{band}{column}{letters[int(north // 100_000) % 20]}", east, north


@settings(max_examples=cases(100))
@given(thousandths=st.tuples(st.integers(-180_000, 179_999), st.integers(-80_000, 83_999)))
def test_a_tile_holds_the_square_of_its_name(thousandths):
    lon, lat = ((each + 0.5) / 1000 for each in thousandths)  # never between two zones or bands
    name, east, north = square_of(lon, lat)
    geobox = mgrs_tile_geobox(name)
    assert geobox.crs.epsg == (32600 if lat >= 0 else 32700) + int(name[:2])
    assert geobox.shape == (10_980, 10_980)
    left, bottom, right, top = geobox.boundingbox.bbox
    corner = np.floor(np.array([east, north]) / 100_000) * 100_000
    assert 0 <= corner[0] - left < 60
    assert 0 <= top - (corner[1] + 100_000) < 60
    assert (left % 60, top % 60) == (0, 0)
    assert left <= east < right
    assert bottom < north <= top


def test_a_tile_lies_where_the_catalogue_has_it(shared_data):
    (file,) = (shared_data / "cdse_stac").glob("*.json")
    asset = json.loads(file.read_text())["assets"]["B02_10m"]
    geobox = Sentinel2Source("cdse").geobox(file.stem, offline=True)
    assert str(geobox.crs) == asset["proj:code"]
    assert list(geobox.shape) == asset["proj:shape"]
    assert list(geobox.affine)[:6] == asset["proj:transform"]


@pytest.mark.parametrize(("source", "name"), [("cdse", JULY), ("gee", GEE_JULY)])
def test_no_service_is_asked_for_a_place_offline(source, name, tmp_path):
    with no_network():
        geobox = Sentinel2Source(source).geobox(name, tmp_path, offline=True)
    assert geobox == mgrs_tile_geobox("08WMA")


def test_a_name_of_no_tile_is_refused():
    with pytest.raises(ParameterError, match="'08WMI' is no MGRS tile"):
        mgrs_tile_geobox("08WMI")
