"""Objects as runs: stretches of object pixels along a row, found once, then joined and judged without the pixels.

Places are counted along a line that has one pixel more per row than the image. That pixel belongs to no object, so a
run ends within its row, and the last pixel of a row is no neighbour of the first one of the next.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


class RunFinder:
    """Collects the runs of a band, block by block from top to bottom.

    Attributes:
        starts: Places of the first pixels of runs, ascending, an array per block.
        ends: Places just behind the last pixels of the same runs.
        outside: Places of object pixels outside the mask, one or more for each run that has any.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self.starts: list[Places] = []
        self.ends: list[Places] = []
        self.outside: list[Places] = []

    def add(self, top: int, objects: NDArray[np.bool_], usable: NDArray[np.bool_] | None) -> None:
        """Find the runs of a block.

        Args:
            top: Row of the image at which the block starts.
            objects: Bool of shape (rows, columns), True in objects.
            usable: Bool of the same shape, True inside the mask; None if all is inside.
        """
        starts, ends = self._runs(top, objects)
        self.starts.append(starts)
        self.ends.append(ends)
        if usable is not None:
            beyond = np.greater(objects, usable)
            if beyond.any():
                self.outside.append(self._runs(top, beyond)[0])

    def _runs(self, top: int, objects: NDArray[np.bool_]) -> tuple[Places, Places]:
        line = np.zeros((objects.shape[0], self._columns + 2), np.bool_)
        line[:, 1:-1] = objects
        changes = np.flatnonzero(line[:, 1:] != line[:, :-1])
        changes += top * (self._columns + 1)
        return changes[::2], changes[1::2]


def clear_objects(image: NDArray[np.bool_], finders: Sequence[RunFinder], min_object_size: int) -> None:
    """Clear the objects of an image that are too small or reach outside, in place.

    Args:
        image: Bool of shape (y, x), C-contiguous, True in objects.
        finders: The runs of the image, band after band.
        min_object_size: Fewest pixels of an object that stays.
    """
    outside = [part for finder in finders for part in finder.outside]
    if image.size == 0 or (min_object_size <= 1 and not outside):
        return
    starts = np.concatenate([part for finder in finders for part in finder.starts])
    ends = np.concatenate([part for finder in finders for part in finder.ends])
    if starts.size == 0:
        return
    objects = _join(starts, ends, image.shape[1] + 1)
    # The weights are whole numbers, so their float64 sums are exact.
    goes = np.bincount(objects, weights=ends - starts) < min_object_size
    if outside:
        runs_outside = np.searchsorted(starts, np.concatenate(outside), "right") - 1
        goes[objects[runs_outside]] = True
    gone = np.flatnonzero(goes[objects])
    _clear(image, starts[gone], ends[gone])


def _join(starts: Places, ends: Places, stride: int) -> NDArray[np.int32]:
    """Return the number of each run's object: runs join those of the row above that they touch, at corners too."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    # The runs above that touch run i are those from first[i] on and before last[i]: they are not over before the pixel
    # up left of its start, and have begun at the pixel up right of its end.
    first = np.searchsorted(ends, starts - stride, "left")
    last = np.searchsorted(starts, ends - stride, "right")
    pointers = np.concatenate([[0], np.cumsum(last - first)])
    touching = np.arange(pointers[-1]) + np.repeat(first - pointers[:-1], last - first)
    graph = csr_array((np.ones(touching.size, np.int8), touching, pointers), shape=(starts.size, starts.size))
    return connected_components(graph, directed=False)[1]


def _clear(image: NDArray[np.bool_], starts: Places, ends: Places) -> None:
    """Set the pixels of some runs to False."""
    lengths = ends - starts
    in_image = starts - starts // (image.shape[1] + 1)
    offsets = in_image - (np.cumsum(lengths) - lengths)
    image.reshape(-1)[np.arange(lengths.sum()) + np.repeat(offsets, lengths)] = False
