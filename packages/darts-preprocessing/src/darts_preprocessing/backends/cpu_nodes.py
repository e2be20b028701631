"""Interpolation between nodes on the CPU."""

from numpy.typing import NDArray

from darts_preprocessing.backends.jit import FLOAT, INT, array_in, array_out, helper_without_fusing, kernel


@kernel(array_in(FLOAT, 3), INT, INT, INT, array_out(FLOAT, 3))
def interpolate_block(nodes: NDArray, step: int, top: int, left: int, points: NDArray) -> None:
    """Interpolate bilinearly between nodes for a block of a grid.

    Args:
        nodes: (nodes in y, nodes in x, 2) float64, at cell (0, 0) and every `step` cells, on all sides of every cell.
        step: Cells from node to node.
        top: First row of the block.
        left: First column of the block.
        points: (2, y, x) float64, written to.
    """
    size = points.shape[2]
    for part in range(2):
        for row in range(points.shape[1]):
            i, v = (top + row) // step, ((top + row) % step) / step
            upper, lower, line = nodes[i], nodes[i + 1], points[part, row]
            begin = 0
            while begin < size:  # from node to node
                j, offset = (left + begin) // step, (left + begin) % step
                end = min(begin + step - offset, size)
                west = _add_products(upper[j, part], 1 - v, lower[j, part], v)
                east = _add_products(upper[j + 1, part], 1 - v, lower[j + 1, part], v)
                slant = (east - west) / step
                west = _add_products(west, 1.0, slant, float(offset - begin))
                for k in range(begin, end):
                    line[k] = west + slant * k
                begin = end


@helper_without_fusing
def _add_products(a: float, weight_a: float, b: float, weight_b: float) -> float:
    return a * weight_a + b * weight_b
