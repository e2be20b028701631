"""The true outlines of a landscape's slumps."""

import geopandas as gpd
import numpy as np
from rasterio.features import shapes
from shapely.geometry import shape
from shapely.ops import unary_union

from darts_demo.landscape import Landscape


def truth_polygons(landscape: Landscape) -> gpd.GeoDataFrame:
    """Return the true outlines of a landscape's slumps; their areas are those of the truth's pixels.

    Args:
        landscape: What the slumps lie in.

    Returns:
        One row per slump that reaches into the image, cut off at its edges, in the image's CRS (metres): ``slump_id``,
        ``kind`` ("valley" or "lake"), ``headwall_m``, ``npixel``, ``area_m2``.
    """
    geobox = landscape.geobox
    parts: dict[int, list] = {}
    for outline, number in shapes(landscape.label, landscape.label > 0, connectivity=4, transform=geobox.affine):
        parts.setdefault(int(number), []).append(shape(outline))
    pixels = np.bincount(landscape.label.ravel())
    area = abs(geobox.resolution.x * geobox.resolution.y)
    columns = {
        "slump_id": [slump.number for slump in landscape.slumps],
        "kind": [slump.kind for slump in landscape.slumps],
        "headwall_m": [round(slump.headwall, 2) for slump in landscape.slumps],
        "npixel": [int(pixels[slump.number]) for slump in landscape.slumps],
        "area_m2": [float(pixels[slump.number] * area) for slump in landscape.slumps],
    }
    outlines = [unary_union(parts[slump.number]) for slump in landscape.slumps]
    return gpd.GeoDataFrame(columns, geometry=outlines, crs=str(geobox.crs))
