"""What cannot be an elevation is not written: it would be read as measured ground."""

import re

import numpy as np
import pytest

from darts_acquisition import create_arcticdem_cube
from darts_acquisition.cube.product import Chunk, Window
from darts_utils import ValueRangeError

WINDOW = Window.of(40_000, 40_009, 50_000, 50_011)


@pytest.fixture
def cube(tmp_path):
    return create_arcticdem_cube(tmp_path / "dem.icechunk", 32)


def arrays():
    dem = np.random.default_rng(2).uniform(-499, 8999, WINDOW.shape).astype("float32")
    return {"dem": dem, "arcticdem_data_mask": np.ones(WINDOW.shape, "uint8")}


@pytest.mark.parametrize("value", [-9999, -999, -32768, 3.4e38, -3.4e38, np.inf, -np.inf, 9999])
@pytest.mark.parametrize("measured", [0, 1])
def test_one_impossible_elevation_is_refused(cube, value, measured):
    given = arrays()
    given["dem"][3, 7], given["arcticdem_data_mask"][3, 7] = value, measured
    shown = re.escape(f"dem is {np.float32(value):g} at row 3, column 7")
    with pytest.raises(ValueRangeError, match=rf"^{shown} .* at 1 pixels in all; expected metres from -500"):
        cube.write(WINDOW, given, complete=True)
    assert cube.missing(WINDOW)


def test_unknown_elevations_are_those_that_the_mask_leaves_out(cube):
    given = arrays()
    given["dem"][2, 5] = np.nan
    with pytest.raises(ValueRangeError, match=r"dem is nan at row 2, column 5 .*, measured according to"):
        cube.write(WINDOW, given, complete=True)
    given["arcticdem_data_mask"][2, 5] = 0
    cube.write(WINDOW, given, complete=True)
    np.testing.assert_array_equal(cube.read(WINDOW).dem, given["dem"])


def test_a_mask_of_255_is_refused(cube):
    given = arrays()
    given["arcticdem_data_mask"] *= 255
    with pytest.raises(ValueRangeError, match="holds 255; expected 1"):
        cube.write(WINDOW, given)


@pytest.mark.parametrize(("name", "value"), [("dem", -9999), ("dem", np.inf), ("arcticdem_data_mask", 255)])
def test_whole_chunks_hold_elevations_too(cube, name, value):
    chunk = Chunk(20, 25)
    shape = cube.chunk_geobox(chunk).shape
    given = {"dem": np.full(shape, 9, "float32"), "arcticdem_data_mask": np.ones(shape, "uint8")}
    given["dem"][:9, 5] = np.nan, -700, 8999, *[np.nan] * 6  # what a provider may have
    good = {each: values.copy() for each, values in given.items()}
    given[name][3, 7] = value
    with pytest.raises(ValueRangeError, match=f"{name} .*{value}"):
        cube.complete({chunk: given})
    assert not cube.known()
    assert cube.complete({chunk: good}) == [chunk]
