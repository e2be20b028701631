"""Shapes that lie in several tiles: cut to the ground that counts in each, and put together again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry.base import BaseGeometry

from darts_evaluation.counts import Key
from darts_evaluation.ground import ground_areas

JOIN_PX = 0.75
"""Fragments of mapped objects on either side of the border between tiles are one object within this distance: pixels of
different grids leave up to half a pixel open, and objects of one grid are at least a pixel apart."""


def join_touching(shapes: Sequence[BaseGeometry], tiles: Sequence[str], within_m: float) -> NDArray[np.int64]:
    """Number shapes such that those of different tiles that touch have one number; those of one tile are told apart.

    Args:
        shapes: The shapes, in one CRS.
        tiles: Name of the tile of each.
        within_m: Distance up to which they touch, in units of the CRS.

    Returns:
        Number of each, 1-D int64, from 0 without gaps.
    """
    count = len(shapes)
    if len(set(tiles)) < 2:
        return np.arange(count)
    array = np.array([*shapes, None], dtype=object)[:-1]
    one, other = shapely.STRtree(array).query(array, predicate="dwithin", distance=within_m)
    indices = np.unique(tiles, return_inverse=True)[1]
    apart = indices[one] != indices[other]
    graph = coo_array((np.ones(int(apart.sum()), bool), (one[apart], other[apart])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


@dataclass
class Fragments:
    """Fragments of shapes, each on the ground of one tile and in its CRS.

    Attributes:
        shapes: The fragments.
        whole: The shape that each was cut from.
        owners: Number of that shape, where shapes are known over all tiles.
        keys: Block of each fragment.
        tiles: Tile of each.
        values: A number of each, NaN where it is not known.
    """

    shapes: list[BaseGeometry] = field(default_factory=list)
    whole: list[BaseGeometry] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    tiles: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(
        self,
        shapes: Iterable[BaseGeometry],
        whole: Iterable[BaseGeometry],
        owners: Iterable[int],
        keys: Iterable[Key],
        tile: str,
        values: Iterable[float],
    ) -> None:
        """Add the fragments of one tile."""
        before = len(self.shapes)
        self.shapes.extend(shapes)
        self.whole.extend(whole)
        self.owners.extend(owners)
        self.keys.extend(keys)
        self.values.extend(values)
        self.tiles.extend([tile] * (len(self.shapes) - before))

    def to_crs(self, crs: str) -> "Fragments":
        """Return the fragments in one CRS; the blocks stay those of their tiles."""
        sources = [key[0] for key in self.keys]
        return replace(self, shapes=_to_crs(self.shapes, sources, crs), whole=_to_crs(self.whole, sources, crs))

    def by_owner(self) -> NDArray[np.int64]:
        """Number the fragments by the shape that they were cut from."""
        return np.unique(np.array(self.owners, np.int64), return_inverse=True)[1]

    def by_touch(self, within_m: float) -> NDArray[np.int64]:
        """Number the fragments such that those of different tiles that touch have one number.

        Args:
            within_m: Distance up to which they touch.
        """
        return join_touching(self.shapes, self.tiles, within_m)


@dataclass
class Shapes:
    """Shapes over all tiles, in one CRS.

    Attributes:
        crs: That CRS.
        shapes: What of them lies on ground that counts.
        whole: The whole shapes.
        owners: Numbers of the shapes, see `Fragments`.
        keys: Block of the largest fragment of each.
        tiles: Tile of that fragment.
        values: Mean of the values of the fragments by area, NaN where none is known.
    """

    crs: str
    shapes: list[BaseGeometry]
    whole: list[BaseGeometry]
    owners: NDArray[np.int64]
    keys: list[Key]
    tiles: list[str]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, fragments: Fragments, numbers: NDArray[np.int64], crs: str) -> "Shapes":
        """Put fragments together that have one number; the result does not depend on their order."""
        areas = shapely.area(fragments.shapes)
        values, known = np.array(fragments.values, float), np.isfinite(fragments.values)
        weights = np.bincount(numbers, areas * known) if len(numbers) else np.zeros(0)
        sums = np.bincount(numbers, np.where(known, values, 0) * areas) if len(numbers) else np.zeros(0)
        order = np.lexsort((-areas, numbers))
        first = np.concatenate([[True], np.diff(numbers[order]) > 0])[: len(order)]
        largest = order[first]
        shapes, whole = ([given[index] for index in largest] for given in (fragments.shapes, fragments.whole))
        for members in np.split(order, np.flatnonzero(first)[1:]):
            if len(members) > 1:
                number = numbers[members[0]]
                shapes[number] = shapely.union_all([fragments.shapes[index] for index in members])
                whole[number] = shapely.union_all([fragments.whole[index] for index in members])
        made = cls(
            crs,
            shapes,
            whole,
            np.array(fragments.owners, np.int64)[largest],
            [fragments.keys[index] for index in largest],
            [fragments.tiles[index] for index in largest],
            # Rounded, so that what was equal in all fragments stays so.
            np.divide(sums, weights, out=np.full(len(sums), np.nan), where=weights > 0).round(9),
        )
        left, bottom, right, top = shapely.bounds(shapes).reshape(-1, 4).T
        return made.take(np.lexsort((made.values, shapely.area(shapes), top, right, left, bottom)))

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of the area of each that lies on ground that counts, 1-D."""
        return shapely.area(self.shapes) / shapely.area(self.whole)

    @property
    def area_m2(self) -> NDArray[np.float64]:
        """Area of each on ground that counts, on the ellipsoid, 1-D."""
        return ground_areas(self.shapes, self.crs)

    def take(self, indices: NDArray[np.integer]) -> "Shapes":
        """Return some of the shapes."""
        chosen = indices.tolist()
        return Shapes(
            self.crs,
            [self.shapes[index] for index in chosen],
            [self.whole[index] for index in chosen],
            self.owners[indices],
            [self.keys[index] for index in chosen],
            [self.tiles[index] for index in chosen],
            self.values[indices],
        )


def _to_crs(shapes: Sequence[BaseGeometry], sources: Sequence[str], crs: str) -> list[BaseGeometry]:
    made = list(shapes)
    for source in sorted(set(sources) - {crs}):
        indices = [index for index, each in enumerate(sources) if each == source]
        projected = gpd.GeoSeries([made[index] for index in indices], crs=source).to_crs(crs)
        for index, shape in zip(indices, projected, strict=True):
            made[index] = shape
    return made
