"""What tests of the Copernicus Data Space share."""

from contextlib import contextmanager

import numpy as np

from darts_acquisition.scenes.raw import REFLECTANCE_BANDS, quality_from_scl
from support.s3_server import environment_of
from support.sentinel2 import cdse_settings, expected_reflectance
from support.stac_server import serve_stac

FOUR = ("B02", "B03", "B04", "B08")


@contextmanager
def catalogue(s3, items, page_size=10):
    with serve_stac(items, page_size) as stac, environment_of(s3):
        yield stac, cdse_settings(stac.url, s3.url)


def check_tile(tile, scene, numbers=FOUR):
    for band in REFLECTANCE_BANDS:
        if band.number in numbers:
            expected = expected_reflectance(scene.raw[band.number], scene.offset, band.factor).astype("float32")
            np.testing.assert_array_equal(tile[band.name], expected)
    np.testing.assert_array_equal(tile.s2_scl, np.kron(scene.raw["SCL"], np.ones((2, 2), "uint8")))
    empty = np.any([scene.raw[number] == 0 for number in set(FOUR) & set(numbers)], axis=0)
    np.testing.assert_array_equal(tile.quality_data_mask, np.where(empty, 0, quality_from_scl(tile.s2_scl.values)))
