"""How well outlines agree: boundary F1 and boundary IoU on pixels, and the distance between matched outlines."""

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from shapely.geometry.base import BaseGeometry

WIDTHS_PX = (1, 2, 3)
"""Distances within which boundaries are the same, pixels."""
_STRIP_ROWS = 1024


def boundary_counts(
    mapped: NDArray[np.bool_], truth: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> dict[str, dict[int, NDArray[np.bool_]]]:
    """Mark the pixels from which boundary F1 and boundary IoU are counted.

    The boundary of a mask are its pixels that touch, by an edge, one outside it. Boundary F1 (Csurka et al. 2013, "What
    is a good evaluation measure for semantic segmentation?") compares boundary pixels within a distance; boundary IoU
    (Cheng et al. 2021, "Boundary IoU") the parts of the two masks within a distance of their own boundaries. Distances
    are Euclidean, between pixel centres.

    Args:
        mapped: 2-D bool.
        truth: 2-D bool.
        valid: Pixels that count. Where a mask ends because the valid pixels do, there is no boundary.

    Returns:
        By kind and distance, masks of pixels: `mapped`, all boundary pixels of the map (the same for each distance),
        `mapped_right`, those near a boundary of the truth, `truth` and `truth_found` likewise, `inner_both` and
        `inner_either`, the pixels in both, and in one, of the strips within the masks.
    """
    names = ("mapped", "mapped_right", "truth", "truth_found", "inner_both", "inner_either")
    result = {name: {width: np.zeros(mapped.shape, bool) for width in WIDTHS_PX} for name in names}
    halo, height = max(WIDTHS_PX) + 1, mapped.shape[0]
    for top in range(0, height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, height)
        begin, end = max(top - halo, 0), min(bottom + halo, height)
        part = slice(begin, end)
        inside = slice(top - begin, bottom - begin)
        for name, masks in _strip(mapped[part], truth[part], valid[part]).items():
            for width, mask in masks.items():
                result[name][width][top:bottom] = mask[inside]
    return result


def _strip(mapped: NDArray, truth: NDArray, valid: NDArray) -> dict[str, dict[int, NDArray]]:
    one, other = mapped & valid, truth & valid
    one_edge, other_edge = _boundary(one, valid), _boundary(other, valid)
    to_one, to_other = _distance(one_edge), _distance(other_edge)
    result: dict[str, dict[int, NDArray]] = {}
    for width in WIDTHS_PX:
        inner_one, inner_other = one & (to_one < width), other & (to_other < width)
        for name, mask in (
            ("mapped", one_edge),
            ("mapped_right", one_edge & (to_other <= width)),
            ("truth", other_edge),
            ("truth_found", other_edge & (to_one <= width)),
            ("inner_both", inner_one & inner_other),
            ("inner_either", inner_one | inner_other),
        ):
            result.setdefault(name, {})[width] = mask
    return result


def _boundary(mask: NDArray[np.bool_], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that touch a valid pixel outside it by an edge."""
    outside = np.pad(valid & ~mask, 1)
    near = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    return mask & near


def _distance(edge: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not edge.any():
        return np.full(edge.shape, np.inf)
    return distance_transform_edt(~edge)


def outline_distances(
    objects: NDArray | list[BaseGeometry], labels: NDArray | list[BaseGeometry], spacing_m: float
) -> NDArray[np.float64]:
    """Return how far, in the median, the outline of each object lies from that of its label.

    Args:
        objects: Polygons in a projected CRS in metres.
        labels: The label of each.
        spacing_m: Distance of the points along the objects' outlines from which is measured.

    Returns:
        Metres, 1-D float64.
    """
    found = np.full(len(objects), np.nan)
    for index, (one, other) in enumerate(zip(objects, labels, strict=True)):
        points = shapely.points(shapely.get_coordinates(shapely.segmentize(shapely.boundary(one), spacing_m)))
        found[index] = np.median(shapely.distance(points, shapely.boundary(other)))
    return found
