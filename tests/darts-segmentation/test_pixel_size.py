"""Images whose pixels are of another size than those that a network has learned from."""

import contextlib
import json

import pytest

from darts_segmentation import EnsembleV1, ModelCard, ModelCardError, PixelSizeWarning
from support.segmentation import PixelNetwork, card, random_tile, segmenter


def tile_of(pixel_m, units="metre", shape=(40, 50)):
    tile = random_tile(shape)
    for dim in ("y", "x"):
        tile = tile.assign_coords({dim: tile[dim] * (pixel_m / 3.0)})
        tile[dim].attrs["units"] = units
    return tile


@pytest.mark.parametrize(
    ("trained", "pixel_m", "units", "warned"),
    [
        (10.0, 3.0, "metre", True),
        (3.0, 10.0, "m", True),
        (3.0, 4.6, "metre", True),
        (3.0, 4.4, "metre", False),
        (3.0, 2.1, "metre", False),
        (3.0, 1.9, "metre", True),
        (None, 30.0, "metre", False),
        (3.0, 1e-4, "degrees_east", False),
        (3.0, 10.0, None, False),
    ],
)
def test_pixels_of_another_size_are_told(trained, pixel_m, units, warned):
    model = segmenter(PixelNetwork([1.0, 1.0, 1.0]), pixel_size=trained)
    expected = (
        pytest.warns(PixelSizeWarning, match=rf"'test' was trained on pixels of {trained:g} m.*of {pixel_m:g} m")
        if warned
        else contextlib.nullcontext()
    )
    tile = tile_of(pixel_m, units)
    with expected:
        found = model.segment_tile(tile, patch_size=32, overlap=0)
    plain = segmenter(PixelNetwork([1.0, 1.0, 1.0])).segment_tile(tile, patch_size=32, overlap=0)
    assert found["probabilities"].identical(plain["probabilities"])


def test_pixels_that_are_not_square_count_by_their_area():
    tile = tile_of(2.0)
    tile = tile.assign_coords(y=("y", tile["y"].values * 4, tile["y"].attrs))
    segmenter(PixelNetwork([1.0, 1.0, 1.0]), pixel_size=4.0).segment_tile(tile, patch_size=32, overlap=0)
    with pytest.warns(PixelSizeWarning, match="has pixels of 4 m"):
        segmenter(PixelNetwork([1.0, 1.0, 1.0]), pixel_size=2.0).segment_tile(tile, patch_size=32, overlap=0)


def test_each_member_is_compared_and_a_line_of_pixels_too():
    members = {name: segmenter(PixelNetwork([1.0, 1.0, 1.0]), pixel_size=size) for name, size in (("a", 3), ("b", 10))}
    ensemble = EnsembleV1.from_segmenters(members)
    with pytest.warns(PixelSizeWarning, match="'b'") as caught:
        ensemble.segment_tile(tile_of(3.0, shape=(1, 50)), patch_size=32, overlap=0)
    assert len(caught) == 1
    ensemble.segment_tile(tile_of(3.0, shape=(1, 1)), patch_size=32, overlap=0)


def test_a_card_keeps_the_size_of_pixels_and_its_identity():
    plain, sized = card(), card(pixel_size=10)
    assert "darts:pixel_size" not in plain.to_dict()
    assert sized.to_dict()["darts:pixel_size"] == 10.0
    assert ModelCard.from_json(sized.to_json()) == sized
    assert sized.identity() == plain.identity()


@pytest.mark.parametrize("size", [0, -3.0, float("nan"), float("inf"), "3 m", True, [3.0]])
def test_a_size_that_no_pixel_has_is_refused(size):
    content = json.loads(json.dumps(card().to_dict())) | {"darts:pixel_size": size}
    with pytest.raises(ModelCardError, match="The pixel size of a model card"):
        ModelCard.from_dict(content)
