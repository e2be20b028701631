"""Segments and what they make up, against scipy's labelling; rows, each worked on once."""

import threading
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darts_utils import (
    connect_segments,
    find_segments,
    row_blocks,
    rows,
    segment_pixels,
    share_rows,
    touching_segments,
)

pytest.importorskip("scipy")
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


@given(mask=MASKS, cut=st.integers(0, 9))
def test_objects_are_those_of_scipy_in_the_order_of_the_raster(mask, cut):
    from scipy.ndimage import label

    parts = [find_segments(mask[:cut]), find_segments(mask[cut:], min(cut, len(mask)))]
    starts, ends = (np.concatenate(places) for places in zip(*parts, strict=True))
    columns = mask.shape[1]
    objects, count = connect_segments(touching_segments(starts, ends, columns + 1), starts.size)
    image = np.zeros(mask.size, int)
    image[segment_pixels(starts, ends, columns)] = np.repeat(objects + 1, ends - starts)
    expected, number = label(mask, np.ones((3, 3)))
    np.testing.assert_array_equal(image.reshape(mask.shape), expected)
    assert count == number
    assert (np.diff(starts) > 0).all()


def test_objects_are_numbered_in_order_whatever_scipy_does():
    from scipy.sparse import csgraph

    pairs = np.array([[0, 2], [1, 3]])
    with mock.patch.object(csgraph, "connected_components", return_value=(3, np.int32([2, 0, 2, 0, 1]))):
        objects, count = connect_segments(pairs, 5)
    assert (objects.tolist(), count) == ([0, 1, 0, 1, 2], 3)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (7, 4), (50, 3), (9, 0)])
def test_each_row_is_worked_on_once(monkeypatch, threads, shape):
    monkeypatch.setattr(rows, "BLOCK_PIXELS", 8)
    monkeypatch.setattr(rows, "usable_cpus", lambda: threads)
    names = set()

    def work(first, end):
        names.add(threading.current_thread().name)
        return [row for top, bottom in row_blocks(first, end, shape[1], least=2) for row in range(top, bottom)]

    assert [row for part in share_rows(work, shape) for row in part] == list(range(shape[0]))
    if threads == 1:
        assert names == {threading.current_thread().name}


def test_blocks_have_so_many_pixels_and_rows():
    assert list(row_blocks(3, 9, 1 << 19)) == [(3, 5), (5, 7), (7, 9)]
    assert list(row_blocks(0, 7, 1 << 22, least=3)) == [(0, 3), (3, 6), (6, 7)]


def test_scipy_gets_arrays_without_gaps(monkeypatch):
    """From 1.18 on it takes no others; those before it take both."""
    from scipy.sparse import csgraph

    seen, connect = [], csgraph.connected_components

    def look(graph, **options):
        seen.extend(part.flags.c_contiguous for part in (graph.data, graph.indices, graph.indptr))
        return connect(graph, **options)

    monkeypatch.setattr(csgraph, "connected_components", look)
    found, count = connect_segments(np.array([[0, 2], [1, 3], [2, 4]]), 5)
    assert (found.tolist(), count) == ([0, 1, 0, 1, 0], 2)
    assert seen == [True] * 3
