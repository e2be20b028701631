"""The ground of a training in degrees, on both sides of 180° too."""

from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import Transformer

from darts_segmentation import ModelCard
from darts_training.result import _bounds, _shortest_arc, _times, make_item

CARD = ModelCard(name="slumps", architecture={"arch": "unet", "encoder_name": "resnet18"}, bands=["red"])


def length_from(start, west, east):
    """Length of the arc from a longitude to the last end, in degrees."""
    return max((low - start) % 360 + (high - low) % 360 for low, high in zip(west, east, strict=True))


@pytest.mark.parametrize("seed", range(30))
def test_the_shortest_arc_holds_all_and_none_is_shorter(seed):
    rng = np.random.default_rng(seed)
    middle, spread = rng.uniform(-180, 180), rng.choice([1, 20, 80])
    west = (middle + rng.uniform(-spread, spread, rng.integers(1, 7)) + 180) % 360 - 180
    east = (west + rng.uniform(0.01, 3, len(west)) + 180) % 360 - 180
    first, last = _shortest_arc(west, east)
    assert (last - first) % 360 == pytest.approx(min(length_from(start, west, east) for start in west))
    assert length_from(first - 1e-9, west, east) == pytest.approx((last - first) % 360)


@pytest.mark.parametrize("zones", [("EPSG:32601",), ("EPSG:32660", "EPSG:32601"), ("EPSG:32608",)])
def test_the_outline_of_an_item_holds_the_ground_and_not_the_rest_of_the_world(zones):
    tiles = []
    for zone in zones:
        to_plane = Transformer.from_crs("EPSG:4326", zone, always_xy=True)
        middle = {"EPSG:32601": -179.99, "EPSG:32660": 179.5}.get(zone, -135.0)
        x, y = to_plane.transform(middle, 69.0)
        tiles.append(SimpleNamespace(crs=zone, transform=Affine(3, 0, x - 3000, 0, -3, y + 3000), shape=(2000, 2000)))
    bounds = _bounds(SimpleNamespace(tiles=tiles))
    item = make_item(CARD, bounds, ("2021-01-01T00:00:00Z", "2021-02-01T00:00:00Z"))
    outline = shapely.geometry.shape(item["geometry"])
    assert outline.is_valid
    assert outline.area < 1
    assert (
        (item["bbox"][0] > item["bbox"][2]) == (len(item["geometry"]["coordinates"]) == 2) == (zones[0] != "EPSG:32608")
    )
    for tile in tiles:
        to_degrees = Transformer.from_crs(tile.crs, "EPSG:4326", always_xy=True)
        for corner in ((0, 0), (2000, 0), (0, 2000), (2000, 2000), (1000, 1000)):
            assert outline.buffer(1e-9).covers(shapely.Point(to_degrees.transform(*(tile.transform @ corner))))


def test_the_times_of_a_model_are_the_first_and_the_last_that_can_be_read():
    given = ["", "2021-08-02T00:30:00+05:00", "2021-08-01T20:00:00Z", "2021-08-01T19:45:00", "2021-08", "last summer"]
    given += ["0001-01-01T00:00:00+14:00"]
    found = _times(SimpleNamespace(tiles=[SimpleNamespace(time=time) for time in given]))
    assert found == ("2021-08-01T19:30:00Z", "2021-08-01T20:00:00Z")
