"""darts-postprocessing alone: erosion by a disk, objects, and both together."""

import numpy as np
import xarray as xr

import darts_postprocessing

mask = xr.DataArray(np.ones((9, 9), np.uint8), dims=("y", "x"))
mask[4, 4] = 0
eroded = darts_postprocessing.erode_mask(mask, size=2, device="cpu", edge_size=1)
y, x = np.mgrid[:9, :9]
expected = ((y - 4) ** 2 + (x - 4) ** 2 > 4) & (np.minimum.reduce([y, x, 8 - y, 8 - x]) >= 1)
np.testing.assert_array_equal(eroded, expected)

probabilities = xr.DataArray(np.zeros((9, 9), np.float32), dims=("y", "x"))
probabilities[1:3, 1:3] = 0.9  # four pixels, kept
probabilities[3, 3] = 0.9  # a corner away: the same object
probabilities[6, 6] = 0.9  # one pixel, too small
probabilities[0:9, 8] = np.nan
everywhere = xr.ones_like(probabilities, dtype="uint8")
objects = darts_postprocessing.binarize(probabilities, 0.5, 5, everywhere, "cpu")
assert objects.dtype == bool
assert int(objects.sum()) == 5

tile = xr.Dataset({"quality_data_mask": mask * 2, "probabilities": probabilities})
result = darts_postprocessing.prepare_export(
    tile, mask_erosion_size=0, min_object_size=4, quality_level=1, device="cpu", edge_erosion_size=0
)
np.testing.assert_array_equal(result["extent"], mask)
assert int(result["binarized_segmentation"].sum()) == 5
assert np.isnan(result["probabilities"][4, 4])
