"""Count tiles one after the other, so that one of them is in memory at a time."""

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes as polygonize
from shapely.geometry.base import BaseGeometry

from darts_evaluation.counts import BlockCounts, Key, count_ground
from darts_evaluation.fragments import Fragments
from darts_evaluation.ground import Ground, burn, frame_of
from darts_evaluation.labels import Labels
from darts_evaluation.objects import cut_to_ground
from darts_evaluation.predictions import TileMap
from darts_utils import check_areal_scale

_MARGIN_M = 1000.0
"""By how much more than a tile labels are looked at, since its edges bend in another CRS."""


class Collection:
    """What was counted in the tiles so far.

    Attributes:
        counts: Pixels by name of the tile.
        objects: Mapped objects on ground that counts; their owners are those of the tables of the tiles.
        labels: Labels likewise; their owners are places in the table of labels.
        ground_m2: Area of that ground.
        pixel_m: Edge of the largest pixel.
    """

    def __init__(self, labels: Labels, block_m: float) -> None:
        self.counts: dict[str, BlockCounts] = {}
        self.objects, self.labels = Fragments(), Fragments()
        self.ground_m2 = self.pixel_m = 0.0
        self._outlines = labels.outlines.geometry
        self._block_m = block_m
        # Where they lie is looked up in a plane without a seam at 180°, which reaches as far as labels do.
        self._plane = labels.equal_area_crs
        self._tree = shapely.STRtree(self._outlines.to_crs(self._plane).to_numpy())
        self._area: NDArray[np.object_] | None = None
        if labels.area is not None:
            area = gpd.GeoSeries([labels.area], crs=self._outlines.crs).to_crs(self._plane).make_valid()
            self._area = np.array(shapely.get_parts(area.to_numpy()), dtype=object)
        self._frames: list[BaseGeometry] = []  # of the tiles so far, in that plane
        self._seen: list[tuple[gpd.GeoSeries, gpd.GeoSeries]] = []  # in their CRS: the frame, and what was seen

    def add(self, tile: TileMap) -> None:
        """Count a tile.

        Raises:
            GridError: If a metre of its grid is none on the ground.
        """
        shape, transform = tile.mapped.shape, tile.transform
        x, y = transform @ (shape[1] / 2, shape[0] / 2)
        check_areal_scale(tile.crs, x, y, f"Tile {tile.name}")
        frame = gpd.GeoSeries([shapely.segmentize(frame_of(transform, shape), _MARGIN_M)], crs=tile.crs)
        outline = frame.to_crs(self._plane).iloc[0]
        held, covered = self._before(tile, outline)
        near = np.sort(self._tree.query(outline.buffer(_MARGIN_M), predicate="intersects"))
        outlines = self._outlines.iloc[near].to_crs(tile.crs)
        area = None
        if self._area is not None:
            parts = gpd.GeoSeries(shapely.intersection(self._area, outline.buffer(_MARGIN_M)), crs=self._plane)
            area = burn(parts[~parts.is_empty].to_crs(tile.crs), transform, shape)
        own = tile.seen & ~held
        ground = Ground(
            tile.name, tile.crs, transform, tile.mapped & own, burn(outlines, transform, shape), own, area,
            tile.probability, unseen=~tile.seen & ~covered, recovered=own & covered,
        )  # fmt: skip
        self.counts[tile.name] = count_ground(ground, self._block_m)
        self.ground_m2 += ground.valid.sum() * abs(transform.a * transform.e)
        self.pixel_m = max(self.pixel_m, abs(transform.a), abs(transform.e))
        means = tile.objects["mean"].to_numpy(float)
        for fragments, shapes, owners, values in (
            (self.objects, tile.objects.geometry, tile.objects.index.to_numpy(), means),
            (self.labels, outlines, near, np.full(len(near), np.nan)),
        ):
            index, cut = cut_to_ground(shapes, ground)
            whole = shapes.iloc[index].tolist()
            fragments.add(cut, whole, owners[index].tolist(), self._keys(tile, cut), tile.name, values[index].tolist())
        self._frames.append(outline)
        self._seen.append((frame, _outline_of(tile)))

    def _before(self, tile: TileMap, outline: BaseGeometry) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the pixels of a tile that earlier tiles have seen, and those that they hold, seen or not."""
        shape = tile.mapped.shape
        held, covered = np.zeros(shape, bool), np.zeros(shape, bool)
        for number in np.flatnonzero(shapely.intersects(self._frames, outline)):
            frame, seen = self._seen[number]
            covered |= burn(frame.to_crs(tile.crs), tile.transform, shape)
            held |= burn(seen.to_crs(tile.crs), tile.transform, shape)
        return held, covered | held

    def _keys(self, tile: TileMap, shapes: NDArray[np.object_]) -> list[Key]:
        points = shapely.get_coordinates(shapely.point_on_surface(shapes))
        blocks = np.floor(points / self._block_m).astype(int)
        return [(tile.crs, int(row), int(col)) for col, row in blocks.tolist()]


def _outline_of(tile: TileMap) -> gpd.GeoSeries:
    """Return the ground that a tile has seen."""
    parts = polygonize(tile.seen.astype("uint8"), tile.seen, transform=tile.transform)
    return gpd.GeoSeries([shapely.union_all([shapely.geometry.shape(part) for part, _ in parts])], crs=tile.crs)
