"""Validity and bounds of geometries, found in threads without a trace in the process."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import shapely

from darts_dataset.geometry import are_valid, bounds_around, multipolygons
from darts_dataset.looks import footprint_of


def test_validity_and_bounds_are_those_of_shapely():
    rng = np.random.default_rng(0)
    shapes = [shapely.Polygon(rng.random((number, 2))) for number in rng.integers(3, 9, 300)]
    shapes = np.array([*shapes, shapely.MultiPolygon(), shapely.Point(9, -9)], object)
    np.testing.assert_array_equal(are_valid(shapes), shapely.is_valid(shapes))
    for some in (shapes, shapes[:1], shapes[-2:-1]):
        np.testing.assert_array_equal(bounds_around(some), shapely.total_bounds(some))
    assert np.isnan(bounds_around(shapes[:0])).all()


def test_threads_leave_the_filters_of_warnings_alone():
    squares = shapely.box(np.arange(3000), 0, np.arange(3000) + 1, 1)
    extents = np.array([shapely.MultiPolygon([shapely.box(0, 70, 1, 71)])], object)
    interval = sys.getswitchinterval()
    with warnings.catch_warnings():  # which puts back what this test is to find changed
        before = list(warnings.filters)
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: (multipolygons(squares), footprint_of(extents)), range(40)))
        finally:
            sys.setswitchinterval(interval)
        assert warnings.filters == before
