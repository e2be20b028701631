"""The areal scale between nodes, against scipy."""

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from darts_export.places import interpolate


@pytest.mark.parametrize("seed", range(30))
def test_interpolation_is_scipys_bit_by_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.uniform(1, 9000, 2)
    count = int(random.integers(2, 40))
    nodes = np.linspace(0, height, count), np.linspace(0, width, count + 3)
    values = random.uniform(0.9, 1.1, (count, count + 3))
    y, x = random.uniform(0, height, 200), random.uniform(0, width, 200)
    y[:4], x[:4] = (0, height, nodes[0][1], height / 2), (width, 0, nodes[1][-2], 0)
    expected = RegularGridInterpolator(nodes, values)(np.stack([y, x], axis=-1))
    np.testing.assert_array_equal(interpolate(values, nodes, (y, x)), expected)
