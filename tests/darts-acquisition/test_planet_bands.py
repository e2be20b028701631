"""What an image says of its own bands: names and colours, under every product name, in every order."""

import itertools
import logging

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from darts_acquisition import SceneError, load_planet_masks, load_planet_scene

FOUR = {"blue": 300, "green": 600, "red": 900, "nir": 2500}
EIGHT = {"coastal_blue": 100, "green_i": 400, "yellow": 700, "rededge": 1500} | FOUR
SUPERDOVE = ("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir")
UDM = ("clear", "snow", "shadow", "haze_light", "haze_heavy", "cloud", "confidence", "udm1")


def pixels(names, shape=(6, 5)):
    return np.stack([np.full(shape, EIGHT[name], "uint16") for name in names])


def loaded(made):
    scene = load_planet_scene(made.folder)
    return {name: round(float(scene[name][0, 0]) * 10000) for name in FOUR}


@pytest.mark.parametrize("clip", ["", "_clip", "_clip_reproject", "_clip_file_format"])
@pytest.mark.parametrize("harmonized", ["", "_harmonized"])
@pytest.mark.parametrize("bands", ["", "_8b"])
def test_bands_under_every_name_that_planet_gives(delivery, bands, harmonized, clip):
    made = delivery()
    names = SUPERDOVE if bands else tuple(FOUR)
    made.image(pixels(names), f"_3B_AnalyticMS_SR{bands}{harmonized}{clip}.tif", names=names)
    made.metadata()
    assert loaded(made) == FOUR
    made.image(pixels(names), f"_3B_AnalyticMS_SR{bands}{harmonized}{clip}.tif")  # without names
    assert loaded(made) == FOUR


@pytest.mark.parametrize(
    "ending", ["_BGRN_SR.tif", "_BGRN_SR_clip.tif", "_BGRN_SR_harmonized_clip.tif", "_BGRN_SR.TIF"]
)
def test_bands_of_orthotiles_under_their_names(delivery, ending):
    made = delivery("5790392_4372514_2022-07-16_2459")
    made.image(pixels(FOUR), f"_BGRN{ending}")
    made.metadata()
    assert loaded(made) == FOUR


def test_bands_are_taken_by_name_in_every_order(delivery):
    made = delivery()
    made.metadata()
    for names in itertools.permutations(FOUR):
        made.image(pixels(names), names=names)
        assert loaded(made) == FOUR
    rng = np.random.default_rng(0)
    for _ in range(10):
        names = tuple(rng.permutation(SUPERDOVE))
        made.image(pixels(names), names=names)  # under a name for four bands
        assert loaded(made) == FOUR


@pytest.mark.parametrize(
    "names",
    [
        ("Blue", "Green", "Red", "NIR"),
        ("BLUE", "GREEN", "RED", "Near-Infrared"),
        (" blue", "Green II", "red ", "near infrared"),
    ],
)
def test_bands_may_be_spelt_in_other_ways(delivery, names):
    made = delivery()
    made.metadata()
    made.image(pixels(FOUR)[::-1], names=names[::-1])
    assert loaded(made) == FOUR


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (("blau", "grün", "rot", "nir"), "1 blau, 2 grün, 3 rot, 4 nir"),
        (("bleu", "vert", "rouge", "pir"), "1 bleu, 2 vert, 3 rouge, 4 pir"),
        (("синий", "зелёный", "красный", "ИК"), "1 синий, 2 зелёный, 3 красный, 4 ик"),
        (("Band 1", "Band 2", "Band 3", "Band 4"), "1 band_1, 2 band_2"),
        (("blue", "green", "red", None), "1 blue, 2 green, 3 red, 4 without a name"),
        ((None, None, "red", None), "3 red, 4 without a name"),
        (("blue", "green", "red", "rededge"), "4 rededge"),
        (("blue", "green", "red", "red"), "3 red, 4 red"),
        (("yellow", "green", "red", "nir"), "1 yellow"),
    ],
)
def test_bands_whose_names_do_not_fit_are_never_taken_by_position(delivery, names, listed):
    made = delivery()
    made.metadata()
    image = made.image(names=names)
    with pytest.raises(SceneError, match=f"names its bands: .*{listed}.*; expected blue, green, red, nir") as caught:
        load_planet_scene(made.folder)
    assert str(image) in str(caught.value)


def test_bands_that_are_named_need_no_names_of_others(delivery):
    made = delivery()
    made.metadata()
    made.image(pixels(SUPERDOVE), names=tuple(name if name in FOUR else None for name in SUPERDOVE))
    assert loaded(made) == FOUR


def test_eight_bands_without_names_are_superdove_only_where_the_file_is_called_so(delivery):
    made = delivery()
    made.metadata()
    image = made.image(pixels(SUPERDOVE), "_3B_AnalyticMS_SR.tif")
    with pytest.raises(SceneError, match="expected 4 bands of uint16, found 8 of uint16"):
        load_planet_scene(made.folder)
    image.unlink()
    made.image(pixels(FOUR), "_3B_AnalyticMS_SR_8b.tif")
    with pytest.raises(SceneError, match="expected 8 bands of uint16, found 4 of uint16"):
        load_planet_scene(made.folder)


@pytest.mark.parametrize("count", [1, 3, 5, 7, 9])
def test_other_counts_of_bands_are_an_error_whatever_their_names(delivery, count):
    made = delivery()
    made.metadata()
    names = (*FOUR, *(f"more_{number}" for number in range(5)))[:count]
    made.image(np.ones((count, 6, 5), "uint16"), names=names)
    with pytest.raises(SceneError, match=f"expected 4 bands of uint16, found {count} of uint16"):
        load_planet_scene(made.folder)


def _colours(made, colours, values):
    made.image(values, photometric="minisblack", colours=colours)


def test_colours_name_bands_where_they_name_all_four(delivery):
    made = delivery()
    made.metadata()
    for names in itertools.permutations(FOUR):
        _colours(made, names, pixels(names))
        with rasterio.open(made.file("_3B_AnalyticMS_SR.tif")) as source:
            assert [each.name for each in source.colorinterp] == list(names)
        assert loaded(made) == FOUR


def test_colours_that_tiff_gives_every_image_are_no_names(delivery):
    """The first bands of Planet's own files are blue, green and red, and called red, green and blue there."""
    made = delivery()
    made.metadata()
    _colours(made, ("red", "green", "blue", "undefined"), pixels(FOUR))
    assert loaded(made) == FOUR


@pytest.mark.parametrize("colours", [("gray", *["undefined"] * 3), ("blue", "green", "red", "undefined")])
def test_colours_that_fit_the_order_leave_it(delivery, colours):
    made = delivery()
    made.metadata()
    _colours(made, colours, pixels(FOUR))
    assert loaded(made) == FOUR


@pytest.mark.parametrize("colours", [("green", "blue", "red", "undefined"), ("nir", "red", "green", "undefined")])
def test_colours_of_another_order_are_an_error_where_one_is_missing(delivery, colours):
    made = delivery()
    made.metadata()
    _colours(made, colours, pixels(FOUR))
    with pytest.raises(SceneError, match=f"names its bands: 1 {colours[0]}, .*4 without a name"):
        load_planet_scene(made.folder)


def test_names_count_more_than_colours(delivery):
    made = delivery()
    made.metadata()
    made.image(pixels(FOUR), names=tuple(FOUR), colours=("red", "green", "blue", "alpha"))
    assert loaded(made) == FOUR


def test_real_bands_are_named_and_coloured_in_two_ways(shared_data):
    """What the tests above say of colours holds for real files."""
    image = next((shared_data / "planet_order").glob("*_SR_*.tif"))
    with rasterio.open(image) as source:
        assert source.descriptions == tuple(FOUR)
        assert source.colorinterp[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def test_scale_in_the_file_that_is_another_is_an_error(delivery):
    made = delivery()
    made.metadata()
    image = made.image()
    for scales, fine in (
        ((1.0,) * 4, True),
        ((1e-4,) * 4, True),
        ((1.0, 1e-4, 1.0, 1e-4), True),
        ((1e-4, 1e-4, 2e-4, 1e-4), False),
    ):
        with rasterio.open(image, "r+") as target:
            target.scales = scales
        if fine:
            assert load_planet_scene(made.folder).blue.values[0, 0] == np.float32(1e-4)
        else:
            with pytest.raises(SceneError, match=r"_SR\.tif says scale and offset .*0\.0002"):
                load_planet_scene(made.folder)


# Several products of one scene.


def test_harmonised_image_is_preferred_and_the_log_says_so(delivery, caplog):
    made = delivery()
    made.metadata()
    endings = ["_SR_harmonized", "_SR_harmonized_clip", "_SR_8b_harmonized", "_SR", "_SR_clip", "_SR_8b", "_SR_8b_clip"]
    for number, ending in enumerate(endings):
        names = SUPERDOVE if "8b" in ending else tuple(FOUR)
        made.image(np.full((len(names), 6, 5), number + 1, "uint16"), f"_3B_AnalyticMS{ending}.tif")
    caplog.set_level(logging.INFO)
    for number, ending in enumerate(endings):
        assert load_planet_scene(made.folder).red.values[0, 0] == np.float32((number + 1) / 10000), ending
        image = made.file(f"_3B_AnalyticMS{ending}.tif")
        assert (f"of its products {image.name} is used, and not " in caplog.text) == (number < len(endings) - 1)
        image.unlink()


def test_image_that_is_there_twice_is_an_error(delivery):
    made = delivery()
    made.metadata()
    for ending in ("_3B_AnalyticMS_SR_harmonized_clip.tif", "_SR_harmonized_clip.tif"):
        made.image(ending=ending)
    with pytest.raises(SceneError, match=r"2 files where one surface reflectance image \(\*_SR_harmonized_clip\.tif\)"):
        load_planet_scene(made.folder)


def test_mask_is_the_one_that_belongs_to_the_image(delivery):
    made = delivery()
    made.metadata()
    made.mask(np.ones((8, 3, 3), "uint8"), "_3B_udm2.tif")
    made.mask(np.zeros((8, 6, 5), "uint8"), "_3B_udm2_clip.tif")
    made.image(ending="_3B_AnalyticMS_SR_harmonized_clip.tif")
    assert load_planet_masks(made.folder).sizes["y"] == 6
    made.file("_3B_AnalyticMS_SR_harmonized_clip.tif").unlink()
    assert load_planet_masks(made.folder).sizes["y"] == 3
    made.file("_3B_udm2.tif").unlink()
    assert load_planet_masks(made.folder).sizes["y"] == 6


# The mask's bands.


def test_mask_bands_are_taken_by_name(delivery):
    made = delivery()
    rng = np.random.default_rng(0)
    udm = rng.integers(0, 2, (8, 6, 5)).astype("uint8")
    made.mask(udm)
    expected = load_planet_masks(made.folder)
    for names in (UDM, (*UDM[:7], "unusable"), (*UDM[:3], "light_haze", "heavy_haze", "cloud", "confidence", "UDM1")):
        order = rng.permutation(8)
        made.mask(udm[order], names=tuple(names[place] for place in order))
        assert load_planet_masks(made.folder).identical(expected)


def test_mask_bands_with_other_names_are_an_error(delivery):
    made = delivery()
    made.mask(names=(*UDM[:5], "clouds", *UDM[6:]))
    with pytest.raises(SceneError, match=r"names its bands: .*6 clouds.*expected clear, snow"):
        load_planet_masks(made.folder)
