"""Objects judged by their run-length segments, without the pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from darts_utils import connect_segments, find_segments, segment_pixels, touching_segments

Positions = NDArray[np.int64]


class SegmentFinder:
    """Collects the segments of some rows, block by block from top to bottom.

    Attributes:
        starts: Positions of the first pixels of segments (:func:`darts_utils.find_segments`), an array per block.
        ends: Positions just after the last pixels of the same segments.
        outside: Positions of object pixels outside the mask, one or more for each segment that has any.
    """

    def __init__(self) -> None:
        self.starts: list[Positions] = []
        self.ends: list[Positions] = []
        self.outside: list[Positions] = []

    def add(self, top: int, objects: NDArray[np.bool_], usable: NDArray[np.bool_] | None) -> None:
        """Find the segments of a block.

        Args:
            top: Row of the image at which the block starts.
            objects: Bool of shape (rows, columns), True in objects.
            usable: Bool of the same shape, True inside the mask; None if all is inside.
        """
        starts, ends = find_segments(objects, top)
        self.starts.append(starts)
        self.ends.append(ends)
        if usable is not None:
            beyond = np.greater(objects, usable)
            if beyond.any():
                self.outside.append(find_segments(beyond, top)[0])


def clear_objects(image: NDArray[np.bool_], finders: Sequence[SegmentFinder], min_object_size: int) -> None:
    """Clear the objects of an image that are too small or reach outside, in place.

    Args:
        image: Bool of shape (y, x), C-contiguous, True in objects.
        finders: The segments of the image, from top to bottom.
        min_object_size: Fewest pixels of an object that stays.
    """
    outside = [part for finder in finders for part in finder.outside]
    if image.size == 0 or (min_object_size <= 1 and not outside):
        return
    starts = np.concatenate([part for finder in finders for part in finder.starts])
    ends = np.concatenate([part for finder in finders for part in finder.ends])
    if starts.size == 0:
        return
    objects, _ = connect_segments(touching_segments(starts, ends, image.shape[1] + 1), starts.size)
    # The weights are whole numbers, so their float64 sums are exact.
    goes = np.bincount(objects, weights=ends - starts) < min_object_size
    if outside:
        segments_outside = np.searchsorted(starts, np.concatenate(outside), "right") - 1
        goes[objects[segments_outside]] = True
    gone = np.flatnonzero(goes[objects])
    image.reshape(-1)[segment_pixels(starts[gone], ends[gone], image.shape[1])] = False
