"""Sunlight, clouds and the slanted edge of the image."""

import numpy as np
import pytest

from darts_demo.sky import Sky, image_edge, make_sky, through, usable_data_mask
from darts_demo.surface import _light


def plane(slope: float, towards: float) -> np.ndarray:
    """A plane that falls by `slope` degrees towards a direction, degrees clockwise from north; cells of 2 m."""
    rows, columns = np.mgrid[:20, :20] * 2.0
    down = columns * np.sin(np.radians(towards)) - rows * np.cos(np.radians(towards))
    return (-np.tan(np.radians(slope)) * down).astype(np.float32)


@pytest.mark.parametrize(("slope", "towards"), [(0, 0), (20, 180), (20, 0), (35, 90), (35, 270), (10, 215)])
def test_light_follows_the_angle_between_sun_and_ground(slope, towards):
    azimuth, elevation = 170.0, 33.0
    sun = np.radians(90 - elevation)
    incidence = np.cos(np.radians(slope)) * np.cos(sun) + np.sin(np.radians(slope)) * np.sin(sun) * np.cos(
        np.radians(azimuth - towards)
    )
    light = _light(plane(slope, towards), 2.0, azimuth, elevation)
    np.testing.assert_allclose(light, 0.3 + 0.7 * max(incidence, 0) / np.cos(sun), rtol=1e-4)


@pytest.mark.parametrize("azimuth", [165.0, 200.0])
def test_clouds_are_few_and_throw_their_shadows_away_from_the_sun(azimuth):
    skies = (make_sky(np.random.default_rng(seed), (900, 1000), 3.0, azimuth, 32.0) for seed in range(20))
    sky = next(sky for sky in skies if (sky.shadow > 0.5).mean() > 0.02)
    assert (sky.cloud > 0.5).mean() < 0.2
    for part in (sky.cloud, sky.shadow):
        assert 0 <= part.min() <= part.max() <= 1
    padded = [np.fft.rfft2(part, (1800, 2000)) for part in (sky.shadow, sky.cloud)]
    likeness = np.fft.irfft2(padded[0] * padded[1].conj(), (1800, 2000))
    down, right = np.unravel_index(likeness.argmax(), likeness.shape)
    down, right = (down + 900) % 1800 - 900, (right + 1000) % 2000 - 1000
    assert np.degrees(np.arctan2(right, -down)) % 360 == pytest.approx((azimuth + 180) % 360, abs=3)
    height = 3.0 * np.hypot(down, right) * np.tan(np.radians(32.0))
    assert 430 < height < 820


def test_clouds_whiten_and_shadows_darken():
    cloud, shadow = np.array([[0.0, 1.0, 0.0, 0.5]]), np.array([[0.0, 0.0, 1.0, 0.0]])
    ground = np.full((4, 1, 4), 0.1, dtype=np.float32)
    seen = through(Sky(cloud.astype(np.float32), shadow.astype(np.float32)), ground)
    np.testing.assert_allclose(seen[:, 0, 0], 0.1)
    np.testing.assert_allclose(seen[:, 0, 1], [0.52, 0.52, 0.53, 0.58], rtol=1e-6)
    np.testing.assert_allclose(seen[:, 0, 2], [0.042, 0.036, 0.032, 0.028], rtol=1e-6)
    np.testing.assert_allclose(seen[:, 0, 3], (seen[:, 0, 0] + seen[:, 0, 1]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(ground, np.float32(0.1))


def test_the_mask_names_what_hides_the_ground():
    cloud = np.array([[0.0, 0.1, 0.3, 0.9, 0.0, 0.0, 0.9]], dtype=np.float32)
    shadow = np.array([[0.0, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0]], dtype=np.float32)
    snow = np.array([[False, False, False, False, False, True, False]])
    data = np.array([[True] * 6 + [False]])
    udm = usable_data_mask(Sky(cloud, shadow), snow, data)
    assert udm.dtype == np.uint8
    # clear, light haze, heavy haze, cloud, shadow, snow, and nothing at all where there is no data
    assert udm[:6, 0].argmax(axis=0)[:6].tolist() == [0, 3, 4, 5, 2, 1]
    assert udm[:6, 0].sum(axis=0).tolist() == [1] * 6 + [0]
    assert udm[7, 0].tolist() == [0] * 6 + [1]
    assert udm[6, 0].tolist()[0] == 97
    assert udm[6, 0].tolist()[-1] == 0


@pytest.mark.parametrize("seed", range(8))
def test_the_edge_is_a_straight_slanted_wedge_along_one_side(seed):
    data = image_edge(np.random.default_rng(seed), (200, 300))
    assert 0.03 < 1 - data.mean() < 0.1
    sides = {
        "top": (~data[0]).mean(),
        "bottom": (~data[-1]).mean(),
        "left": (~data[:, 0]).mean(),
        "right": (~data[:, -1]).mean(),
    }
    assert sum(share > 0.75 for share in sides.values()) == 1
    # A half plane: what lies between two pixels without data has none either.
    empty = np.argwhere(~data)
    middle = (empty[:-1:7] + empty[1::7][: len(empty[:-1:7])]) // 2
    assert not data[tuple(middle.T)].any()
