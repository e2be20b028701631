"""Labels on the grid of a tile: 1 slump, 0 none, 255 not labelled."""

import hashlib
from collections.abc import Iterable

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy.ndimage import distance_transform_edt
from shapely.geometry.base import BaseGeometry

from darts_evaluation import Labels, majority

SLUMP, OTHER, UNLABELLED = 1, 0, 255


def agreed(labels: Labels) -> Labels:
    """Return the labels to train on: of several experts, what at least half of them drew.

    Args:
        labels: The labels, with the experts' names.

    Returns:
        Labels of one kind.
    """
    return majority(labels) if len(labels.experts) > 1 else labels


def digest_labels(labels: Labels) -> str:
    """Tell labels apart, whatever the order of their outlines.

    Args:
        labels: The labels.

    Returns:
        SHA-256 of outlines, area and CRS, as 64 hexadecimal digits.
    """
    shapes = shapely.to_wkb(shapely.normalize(labels.outlines.geometry.to_numpy()))
    area = b"" if labels.area is None else shapely.to_wkb(shapely.normalize(labels.area))
    parts = [labels.outlines.crs.to_wkt().encode(), area, *sorted(shapes)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def count_outside(labels: Labels) -> int:
    """Count the outlines that do not touch the area in which labels are complete.

    Args:
        labels: Outlines and area.

    Returns:
        Their number; 0 where there is no area.
    """
    if labels.area is None:
        return 0
    projected = labels.to_crs(labels.equal_area_crs)  # where 180° is no seam
    return int((~projected.outlines.intersects(projected.area)).sum())


def burn_labels(
    labels: Labels, crs: object, transform: Affine, usable: NDArray[np.bool_], ignore_border: int = 0
) -> NDArray[np.uint8]:
    """Burn labels onto a grid.

    Args:
        labels: Outlines, and the area in which they are complete.
        crs: CRS of the grid.
        transform: From column and row to coordinates.
        usable: bool (y, x), False where the image shows nothing to learn from.
        ignore_border: Width in pixels of the border outside slumps that is not labelled, since outlines are not exact.

    Returns:
        uint8 (y, x): 1 where a pixel's centre lies in an outline, 255 outside the area, where not usable, and in the
        border, else 0.
    """
    projected = labels.to_crs(crs)

    def burn(shapes: Iterable[BaseGeometry], beyond: int = 0) -> NDArray[np.bool_]:
        shape = (usable.shape[0] + 2 * beyond, usable.shape[1] + 2 * beyond)
        given = [each for each in shapes if not each.is_empty]
        if not given:
            return np.zeros(shape, bool)
        placed = transform @ transform.translation(-beyond, -beyond)
        return rasterize(given, shape, transform=placed, dtype="uint8").astype(bool)

    # Slumps just beyond the grid have a border on it, too.
    slump = burn(list(projected.outlines.geometry), ignore_border)
    result = np.where(slump, SLUMP, OTHER).astype(np.uint8)
    if ignore_border and slump.any():
        result[~slump & (distance_transform_edt(~slump) <= ignore_border)] = UNLABELLED
    result = result[ignore_border : ignore_border + usable.shape[0], ignore_border : ignore_border + usable.shape[1]]
    complete = np.ones(usable.shape, bool) if projected.area is None else burn([projected.area])
    result[~(usable & complete)] = UNLABELLED
    return result
