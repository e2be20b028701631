"""Integers to reflectance: every value against float64 arithmetic, in blocks and threads as in one piece."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darts_acquisition.scenes.quality import Scaling, over_row_blocks, row_blocks

EVERY = np.arange(2**16, dtype="uint16").reshape(256, 256)


def reflectance_of(values, scale, offset, nodata):
    """Reflectance of integers by float64 arithmetic, rounded once."""
    found = (values.astype("float64") * scale + offset).astype("float32")
    found[np.isin(values, nodata)] = np.nan
    return found


def converted(scaling, values, invalid=None):
    out = np.full(values.shape, 7, "float32")
    return out, scaling.convert(values, out, invalid)


@pytest.mark.parametrize(
    ("scale", "offset", "nodata", "dtype"),
    [
        (1e-4, 0.0, (0,), "uint16"),  # PlanetScope
        (1e-4, 0.0, (0, 65535), "uint16"),
        (1e-4, -0.1, (0,), "uint16"),  # Sentinel-2
        (1e-4, 0.0, (-32768,), "int16"),  # mosaics of Sentinel-2
        (2.75e-5, -0.2, (0,), "uint16"),  # Landsat, by the table
        (1.5, 0.0, (), "uint16"),
        (3e-4, 1e-5, (5,), "int16"),
        (1e-2, 0.0, (255,), "uint8"),
    ],
)
def test_every_integer_becomes_its_reflectance_bit_by_bit(scale, offset, nodata, dtype):
    values = EVERY.view(dtype) if dtype != "uint8" else EVERY[:1].astype("uint8")
    out, missing = converted(Scaling(scale, offset, nodata, dtype), values)
    expected = reflectance_of(values, scale, offset, nodata)
    np.testing.assert_array_equal(out.view("uint32"), expected.view("uint32"))
    np.testing.assert_array_equal(np.zeros(values.shape) if missing is None else missing, np.isin(values, nodata))


@given(
    values=hnp.arrays(
        "uint16", st.tuples(st.integers(1, 50), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 900, 65535])
    ),
    nodata=st.sets(st.sampled_from([0, 2, 65535])),
    data=st.data(),
)
def test_no_data_is_what_the_integers_or_the_caller_say(values, nodata, data):
    invalid = data.draw(st.none() | hnp.arrays(bool, values.shape))
    before = None if invalid is None else invalid.copy()
    out, missing = converted(Scaling(1e-4, nodata=tuple(nodata)), values, invalid)
    expected = np.isin(values, list(nodata)) | (False if invalid is None else invalid)
    np.testing.assert_array_equal(np.isnan(out), expected)
    np.testing.assert_array_equal(out[~expected], (values[~expected] / np.float64(10_000)).astype("float32"))
    if missing is None:
        assert not expected.any()
    else:
        np.testing.assert_array_equal(missing, expected)
    if invalid is not None:
        np.testing.assert_array_equal(invalid, before)


@given(height=st.integers(0, 100), rows=st.integers(1, 30))
def test_row_blocks_cover_every_row_once(height, rows):
    blocks = list(row_blocks(height, rows))
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(height))
    assert all(block.stop - block.start == rows for block in blocks[:-1])


@pytest.mark.parametrize("workers", [None, 1, 2, 7])
def test_blocks_are_each_converted_once_by_workers_that_are_opened_and_closed(workers):
    seen, opened, closed = np.zeros(1000, int), [], []

    @contextmanager
    def open_worker():
        thread = threading.get_ident()
        opened.append(thread)

        def convert(rows):
            assert threading.get_ident() == thread
            seen[rows] += 1

        yield convert
        closed.append(thread)

    over_row_blocks(1000, 3, open_worker, workers)
    assert (seen == 1).all()
    assert sorted(opened) == sorted(closed)
    assert len(opened) <= (workers or 1000)


def test_blocks_of_a_single_one_need_no_thread():
    threads = []

    @contextmanager
    def open_worker():
        yield lambda rows: threads.append(threading.current_thread())

    over_row_blocks(5, 10, open_worker, workers=4)
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("workers", [1, 4])
def test_blocks_end_with_the_first_error(workers):
    begun = []

    @contextmanager
    def open_worker():
        def convert(rows):
            begun.append(rows.start)
            raise OSError(f"rows {rows.start} are damaged")

        yield convert

    with pytest.raises(OSError, match="are damaged"):
        over_row_blocks(100, 1, open_worker, workers)
    assert len(begun) <= workers
