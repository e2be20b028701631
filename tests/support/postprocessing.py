"""What the tests of postprocessing compare with: scikit-image and scipy, plainly, and a scene of known objects."""

import warnings

import numpy as np


def erode_plainly(mask: np.ndarray, size: int, edge_size: int) -> np.ndarray:
    """Erode by the full disk, outside counting as set, then clear the border; uint8."""
    from scipy import ndimage
    from skimage.morphology import disk

    out = ndimage.binary_erosion(mask > 0, disk(size), border_value=1).astype(np.uint8)
    rows, columns = np.indices(out.shape)
    inside = np.minimum(rows, out.shape[0] - 1 - rows), np.minimum(columns, out.shape[1] - 1 - columns)
    out[np.minimum(*inside) < edge_size] = 0
    return out


def binarize_plainly(probs: np.ndarray, threshold: float, min_object_size: int, mask: np.ndarray) -> np.ndarray:
    """Label with 8 neighbours, drop labels with a pixel outside the mask, drop small objects; bool."""
    from skimage.measure import label

    labels = label(np.nan_to_num(probs) > threshold, connectivity=2)
    labels[np.isin(labels, labels[~(mask > 0)])] = 0
    return drop_small_plainly(labels, min_object_size) > 0


def drop_small_plainly(labels: np.ndarray, min_object_size: int) -> np.ndarray:
    """Set the labels of fewer than `min_object_size` pixels to 0, with scikit-image's own function."""
    from skimage.morphology import remove_small_objects

    with warnings.catch_warnings():
        # scikit-image says so where only one label is left, and before 0.26 `max_size` was `min_size`.
        warnings.filterwarnings("ignore", "Only one label was provided", UserWarning)
        try:
            return remove_small_objects(labels, max_size=min_object_size - 1, connectivity=2)
        except TypeError:
            return remove_small_objects(labels, min_size=min_object_size, connectivity=2)


def make_scene(size: int, objects: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make probabilities and a quality mask.

    Args:
        size: Rows and columns.
        objects: Number of objects, none touching another; missing pixels divide a few of them.
        seed: Of everything that is random.

    Returns:
        Probabilities, float32 of shape (size, size), above 0.5 in the objects, below elsewhere, partly NaN where the
        mask is 0; and the mask, uint8: 2 with a wedge, round holes and single pixels of 0 and 1.
    """
    rng = np.random.default_rng(seed)
    probs = rng.random((size, size), dtype=np.float32) * np.float32(0.4)
    side = int(np.ceil(np.sqrt(objects)))
    cell = size / side
    for index in range(objects):
        centre = (np.array(divmod(index, side)) + rng.uniform(0.3, 0.7, 2)) * cell
        radius = rng.uniform(1, cell / 4, 2)
        low, high = np.floor(centre - radius).astype(int), np.ceil(centre + radius).astype(int) + 1
        rows, columns = np.ogrid[low[0] : high[0], low[1] : high[1]]
        inside = ((rows - centre[0]) / radius[0]) ** 2 + ((columns - centre[1]) / radius[1]) ** 2 <= 1
        probs[low[0] : high[0], low[1] : high[1]][inside] += np.float32(0.55)
    quality = np.full((size, size), 2, np.uint8)
    rows, columns = np.ogrid[:size, :size]
    quality[columns + 0.3 * rows < size / 10] = 0
    for _ in range(size // 30):
        row, column, radius = *rng.integers(0, size, 2), rng.integers(1, max(size // 150, 3))
        top, left = max(row - radius, 0), max(column - radius, 0)
        hole = np.hypot(*np.ogrid[top - row : radius + 1, left - column : radius + 1]) <= radius
        view = quality[top : row + radius + 1, left : column + radius + 1]
        view[hole[: view.shape[0], : view.shape[1]]] = rng.integers(0, 2)
    quality[tuple(rng.integers(0, size, (2, size // 4)))] = 0
    probs[(quality == 0) & (rng.random((size, size)) < 0.5)] = np.nan
    return probs, quality
