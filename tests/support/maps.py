"""Made-up maps and labels of thaw slumps, for tests of what compares them."""

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj import Geod
from rasterio.features import rasterize, shapes
from scipy.ndimage import gaussian_filter, label

from darts_evaluation import Labels, TileMap, make_labels

CRS = "EPSG:32608"
PIXEL_M = 10.0
GROUND = 1 / 0.9996**2
"""Square metres of ground in one of the grid, in the middle of a UTM zone."""
GRID = Affine(PIXEL_M, 0, 500_000, 0, -PIXEL_M, 7_600_000)
SIZE = 120


def ground_m2(shape: shapely.Polygon, crs: str) -> float:
    """Return the area of a shape on the ellipsoid, by geodesics between points that lie close together."""
    dense = gpd.GeoSeries([shapely.segmentize(shape, 20)], crs=crs).to_crs(4326).iloc[0]
    return abs(Geod(ellps="WGS84").geometry_area_perimeter(dense)[0])


def shapes_of(mask: np.ndarray, transform: Affine = GRID) -> list:
    """Return the 8-connected areas of a mask, by scipy's labelling and GDAL's outlines."""
    numbers, _ = label(mask, np.ones((3, 3)))
    parts: dict[int, list] = {}
    for shape, number in shapes(numbers.astype("int32"), mask=mask, transform=transform, connectivity=4):
        parts.setdefault(int(number), []).append(shapely.geometry.shape(shape))
    return [shapely.MultiPolygon(each) for each in parts.values()]


def blobs(rng: np.random.Generator, size: int = SIZE, share: float = 0.1) -> np.ndarray:
    """Return smooth areas that cover a share of the ground, 2-D bool."""
    field = gaussian_filter(rng.normal(size=(size, size)), 3)
    return field > np.quantile(field, 1 - share)


def seen_but_a_corner(size: int = SIZE) -> np.ndarray:
    seen = np.ones((size, size), bool)
    seen[: size // 4, : size // 5] = False
    return seen


def make_tile(seed: int = 0, size: int = SIZE, name: str = "a", seen: np.ndarray | None = None) -> tuple:
    """Make a tile and the truth on its grid: a map that errs in places, seen but for a corner."""
    rng = np.random.default_rng(seed)
    truth, wrong = blobs(rng, size), blobs(rng, size, 0.06)
    seen = seen_but_a_corner(size) if seen is None else seen
    mapped = (truth ^ wrong) & seen
    probability = np.clip(np.where(mapped, 70, 20) + rng.normal(0, 10, mapped.shape), 0, 100).round().astype(np.uint8)
    return tile_of(name, mapped, seen, probability), truth


def tile_of(
    name: str, mapped: np.ndarray, seen: np.ndarray, probability: np.ndarray | None, transform: Affine = GRID
) -> TileMap:
    """Make a tile out of masks; the confidence of its objects is their mean probability."""
    made = shapes_of(mapped, transform)
    means = np.full(len(made), np.nan)
    if probability is not None:
        for place, each in enumerate(made):
            inside = rasterize([each], mapped.shape, transform=transform).astype(bool)
            means[place] = probability[inside].mean() / 100
    objects = gpd.GeoDataFrame({"mean": means}, geometry=made, crs=CRS)
    return TileMap(name, rasterio.crs.CRS.from_user_input(CRS).to_wkt(), transform, mapped, seen, objects, probability)


def view_of(tile: TileMap, name: str, rows: slice, cols: slice, seen: np.ndarray | None = None) -> TileMap:
    """Cut a part out of a tile; objects are those of the part."""
    transform = tile.transform * Affine.translation(cols.start, rows.start)
    seen = tile.seen[rows, cols] if seen is None else seen
    return tile_of(name, tile.mapped[rows, cols] & seen, seen, tile.probability[rows, cols], transform)


def labels_of(truth: np.ndarray, transform: Affine = GRID) -> Labels:
    """Return the areas of a mask as labels that are complete on its grid."""
    height, width = truth.shape
    (left, top), (right, bottom) = transform * (0, 0), transform * (width, height)
    outlines = gpd.GeoDataFrame(geometry=shapes_of(truth, transform), crs=CRS)
    return make_labels(outlines, gpd.GeoSeries([shapely.box(left, bottom, right, top)], crs=CRS))
