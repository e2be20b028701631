"""Where water runs: a flow tree over a coarse surface, the area it drains, and the profile that rivers cut."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True)
class FlowTree:
    """Every cell's way to an outlet.

    Attributes:
        order: Cells (flat index) from the outlets upstream, int64; a cell never stands before the one it drains to.
        receiver: For each cell the cell that it drains to, int64; outlets point at themselves.
        distance: For each cell the distance to its receiver, in metres, float64; 0 at outlets.
        area: For each cell the area that drains through it, itself included, in square metres, float64.
        levels: Start of each generation in `order`, with the end as the last entry, int64.
    """

    order: NDArray[np.int64]
    receiver: NDArray[np.int64]
    distance: NDArray[np.float64]
    area: NDArray[np.float64]
    levels: NDArray[np.int64]


def _edges(height: NDArray[np.float64], cell: float) -> tuple[NDArray, NDArray, NDArray]:
    """Neighbouring cells and the height at which water passes between them, steeper ways preferred where equal."""
    index = np.arange(height.size).reshape(height.shape)
    rows, columns = height.shape
    first, second, weight = [], [], []
    for down, right in _NEIGHBOURS:
        here = (slice(0, rows - down), slice(max(0, -right), columns - max(0, right)))
        neighbour = (slice(down, rows), slice(max(0, right), columns + min(0, right)))
        a, b = height[here], height[neighbour]
        first.append(index[here].ravel())
        second.append(index[neighbour].ravel())
        weight.append((np.maximum(a, b) - 1e-3 * np.abs(a - b) / (cell * np.hypot(down, right))).ravel())
    return np.concatenate(first), np.concatenate(second), np.concatenate(weight)


def flow_tree(height: NDArray[np.float64], outlets: NDArray[np.bool_], cell: float) -> FlowTree:
    """Route water from every cell to an outlet over the lowest passes.

    The tree of lowest passes is part of the minimum spanning tree of the grid whose edges weigh the higher of their
    two ends (Hu 1961); pits are crossed where they would overflow, so every cell drains.

    Args:
        height: (rows, columns) float64, metres.
        outlets: (rows, columns) bool, True where water leaves; at least one cell.
        cell: Cell size in metres.

    Returns:
        The flow tree; cells are numbered row by row.
    """
    root, columns = height.size, height.shape[1]
    first, second, weight = _edges(height, cell)
    exits = np.flatnonzero(outlets)
    first = np.concatenate([first, exits])
    second = np.concatenate([second, np.full(exits.size, root)])
    weight = np.concatenate([weight - weight.min() + 2.0, np.ones(exits.size)])
    tree = minimum_spanning_tree(coo_matrix((weight, (first, second)), shape=(root + 1, root + 1)).tocsr())
    order, parent = breadth_first_order(tree, root, directed=False)
    order, parent = order.astype(np.int64), parent.astype(np.int64)
    position = np.empty(root + 1, dtype=np.int64)
    position[order] = np.arange(order.size)
    of_parent = position[parent[order[1:]]]
    levels = [1]
    while levels[-1] < order.size:
        levels.append(int(np.searchsorted(of_parent, levels[-1], "left")) + 1)
    receiver = np.where(parent[:root] == root, np.arange(root), parent[:root])
    steps = [np.arange(root) // columns - receiver // columns, np.arange(root) % columns - receiver % columns]
    area = np.full(root, cell * cell)
    for start, end in zip(levels[-2:0:-1], levels[:1:-1], strict=True):
        cells = order[start:end]
        np.add.at(area, receiver[cells], area[cells])
    return FlowTree(order[1:], receiver, cell * np.hypot(*steps), area, np.array(levels) - 1)


def river_profile(
    tree: FlowTree, base: NDArray[np.float64], cell: float, steepest: float, concavity: float
) -> NDArray[np.float64]:
    """Return the heights of a landscape in which every slope is what its drained area allows: ``S ∝ A ** −concavity``.

    Flint's law (Flint 1974), integrated upstream from the outlets.

    Args:
        tree: The flow tree.
        base: (cells,) float64, metres; read at the outlets.
        cell: Cell size in metres.
        steepest: Slope (rise over run) of a cell that drains only itself.
        concavity: Flint's exponent.

    Returns:
        (cells,) float64, metres.
    """
    rise = tree.distance * steepest * (tree.area / cell**2) ** -concavity
    height = base.copy()
    for start, end in zip(tree.levels[1:-1], tree.levels[2:], strict=True):
        cells = tree.order[start:end]
        height[cells] = height[tree.receiver[cells]] + rise[cells]
    return height
