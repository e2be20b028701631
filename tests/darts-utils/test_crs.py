"""Whether a metre of a grid is a metre on the ground, against areas of small squares by geodesy."""

import math
import warnings

import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_utils import ArealScaleWarning, GridError, check_areal_scale
from support.lanes import cases

ADVICE = r"expected a projected CRS in metres that keeps areas within 25%\. Reproject it first, for example to "


def place(crs, lon, lat):
    return pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)


def geodesic_scale(crs, x, y, side=200.0):
    """Area of a small square of the grid over its area on the ellipsoid."""
    corners = [(x - side, y - side), (x + side, y - side), (x + side, y + side), (x - side, y + side)]
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(*zip(*corners, strict=True))
    return (2 * side) ** 2 / abs(pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])


def judged(crs, x, y):
    """Return what is said of a place: the areal scale, and whether it is warned of or refused."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            scale = check_areal_scale(crs, x, y, "The tile")
        except GridError as error:
            return None, str(error)
    assert [each.category for each in caught] in ([], [ArealScaleWarning])
    return scale, "warned" if caught else ""


CENTRES = {"UTM": -135, "polar": -135, "LAEA": -135, "Mercator": -135, "Albers": -150, "UPS": 30, "plate": -135}
CODES = {
    "UTM": "EPSG:32608",
    "polar": "EPSG:3413",
    "LAEA": "EPSG:3573",
    "Mercator": "EPSG:3857",
    "Albers": "EPSG:3338",
    "UPS": "EPSG:32661",
    "plate": "ESRI:54001",
}


@pytest.mark.parametrize("name", CODES)
@settings(max_examples=cases(12))
@given(lat=st.floats(41, 84), east=st.floats(-3, 3))
def test_areal_scale_is_that_of_geodesic_areas(name, lat, east):
    crs = CODES[name]
    x, y = place(crs, CENTRES[name] + east, lat)
    expected = geodesic_scale(crs, x, y)
    if min(abs(abs(expected - 1) - edge) for edge in (0.03, 0.25)) < 0.01:
        return  # where small differences of the two ways decide
    scale, said = judged(crs, x, y)
    if abs(expected - 1) > 0.25:
        assert scale is None
        assert "times those on the ground" in said
    else:
        assert scale == pytest.approx(expected, rel=0.006)  # Web Mercator takes the ellipsoid for a sphere
        assert (said == "warned") == (abs(expected - 1) > 0.03)


@pytest.mark.parametrize(
    ("crs", "lon", "lat", "said"),
    [
        ("EPSG:32608", -135, 69, ""),
        ("EPSG:32719", -71.5, -50, ""),
        ("EPSG:3413", -45, 70, ""),
        ("EPSG:3413", -45, 58, "warned"),
        ("EPSG:3413", 18, 78, "warned"),
        ("EPSG:3413", -135, 46, "refused"),
        ("EPSG:3857", 10, 2, ""),
        ("EPSG:3857", 10, 15, "warned"),
        ("EPSG:3857", 10, 30, "refused"),
        ("EPSG:3857", -135, 69, "refused"),
        ("EPSG:3573", -100, 65, ""),
        ("EPSG:3995", 100, 72, ""),
        ("EPSG:32608+5773", -135, 69, ""),
        ("+proj=utm +zone=33 +ellps=bessel +towgs84=1,2,3 +units=m +type=crs", 15, 60, ""),
    ],
)
def test_areal_scale_decides_at_the_place_and_not_by_the_name(crs, lon, lat, said):
    scale, found = judged(crs, *place(crs, lon, lat))
    assert ("refused" if scale is None else found) == said


def test_areal_scale_that_is_refused_is_told_with_the_zone_to_take():
    with pytest.raises(
        GridError, match=rf"The tile is in .*Mercator, where areas are 7\.79 times .*; {ADVICE}EPSG:32608"
    ):
        check_areal_scale("EPSG:3857", *place("EPSG:3857", -135.5, 69), "The tile")
    with pytest.raises(GridError, match=rf"{ADVICE}EPSG:32719 \(UTM\)"):
        check_areal_scale("EPSG:3857", *place("EPSG:3857", -71.5, -50), "The tile")
    with pytest.warns(
        ArealScaleWarning, match=r"are 1\.10 times those on the ground at 58° N; reproject to EPSG:32623"
    ):
        check_areal_scale("EPSG:3413", *place("EPSG:3413", -45, 58), "The tile")


def test_degrees_are_no_metres():
    with pytest.raises(GridError, match=rf"The tile is in WGS 84; {ADVICE}EPSG:32601"):
        check_areal_scale("EPSG:4326", -179.5, 68, "The tile")
    for lon, zone in ((-174.01, 1), (-173.99, 2), (5.99, 31), (6.01, 32), (179.99, 60), (180, 1)):
        with pytest.raises(GridError, match=rf"{ADVICE}EPSG:326{zone:02} "):
            check_areal_scale("EPSG:4326", lon, 68, "The tile")
    with pytest.raises(GridError, match=rf"The tile is in WGS 84; {ADVICE}a UTM zone"):
        check_areal_scale("EPSG:4978", 3e6, 1e6, "The tile")


@pytest.mark.parametrize(
    ("crs", "unit"),
    [("EPSG:2225", "US survey foot"), ("EPSG:2222", "foot"), ("+proj=utm +zone=8 +units=km", "kilometre")],
)
def test_other_units_are_no_metres(crs, unit):
    lon, lat = (-135, 60) if "utm" in crs else (-122, 40)
    with pytest.raises(GridError, match=rf"counted in {unit}; {ADVICE}EPSG:326"):
        check_areal_scale(crs, *place(crs, lon, lat), "The tile")


def test_a_place_that_a_projection_does_not_reach_is_refused():
    with pytest.raises(GridError, match=r"which does not reach \(1e\+12, 1e\+12\)"):
        check_areal_scale("EPSG:32608", 1e12, 1e12, "The tile")
    with pytest.raises(GridError):
        check_areal_scale("EPSG:32608", math.inf, 0, "The tile")
