"""Compare maps with labels: per tile, and in all over the union of the tiles."""

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_evaluation.agreement import Agreement, majority, measure_agreement
from darts_evaluation.blocks import enlarge
from darts_evaluation.counts import BlockCounts, Key, count_ground
from darts_evaluation.errors import FewBlocksWarning, LabelsError
from darts_evaluation.figures import Objects, figures_of
from darts_evaluation.ground import Ground, burn
from darts_evaluation.intervals import FEWEST_BLOCKS, Figure
from darts_evaluation.labels import Labels
from darts_evaluation.matching import Overlaps
from darts_evaluation.objects import LEAST_SHARE, count_shapes
from darts_evaluation.predictions import TileMap, find_results, read_tile_map

if TYPE_CHECKING:
    import geopandas as gpd

SMALL_AREA_M2 = 1e9
"""Evaluated ground up to which blocks of 1 km are taken, beyond it blocks of 10 km."""
BLOCKS_M = (1_000, 10_000)
_MOST_DOUBLINGS = 4
HEADLINE = (0.3, 0.5)
"""Overlaps at which objects are hits in the outlines that are written."""


@dataclass(frozen=True)
class TileFigures:
    """Figures of one tile.

    Attributes:
        name: Name of the tile.
        figures: By group and name.
    """

    name: str
    figures: dict[str, dict[str, Figure]]


@dataclass(frozen=True)
class Evaluation:
    """How good a map is.

    Attributes:
        figures: By group ("pixels", "objects", "outlines", "size", "probability") and name, over all tiles.
        tiles: The same for each tile; its ground that an earlier tile holds too counts only there.
        block_m: Edge of the blocks behind the intervals, metres.
        blocks: Non-empty blocks.
        has_area: Whether it is known where the labels are complete; without it there are no figures about false alarms.
        agreement: How far several experts agree with one another, None for one.
        outlines: Hits, false alarms, misses and what was never seen, with `kind`, `iou`, `tile` and `area_m2`; in the
            CRS of the tiles, or EPSG:6931 (6932 in the south) where they have several.
        tables: Curves and tables to draw: by name, each a dict of columns.
        notes: Sentences that a reader of the figures must know.
    """

    figures: dict[str, dict[str, Figure]]
    tiles: list[TileFigures]
    block_m: float
    blocks: int
    has_area: bool
    agreement: Agreement | None
    outlines: "gpd.GeoDataFrame"
    tables: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def evaluate(
    predictions: "str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Sequence[TileMap]",
    labels: Labels,
    *,
    model: str | None = None,
    block_m: float | None = None,
    min_object_m2: float = 0.0,
    seed: int = 0,
) -> Evaluation:
    """Say how good maps are.

    A pixel counts where the tile is reliable (its extent, with a probability) and the labels are complete; an object or
    a label counts if at least half of it lies there, and is cut to it. What lies elsewhere is neither right nor wrong,
    nor is an object on a label of which less was seen. Ground that several tiles hold counts for the first of them by
    name.

    Args:
        predictions: Folders of results, of single tiles or of folders that hold them; or the maps themselves.
        labels: The labels, see `read_labels`. Of several experts, ground counts as slump that at least half of them
            marked.
        model: Member of the ensemble, None for the ensemble as a whole.
        block_m: Edge of the blocks that the intervals come from, metres; None for 1 km, or 10 km where more than
            1,000 km² are evaluated, doubled as long as neighbouring blocks resemble one another.
        min_object_m2: Mapped objects and labels of less area, square metres, do not count as objects; their pixels do.
        seed: Seed of the resampling.

    Returns:
        The figures, with 95 % intervals.

    Raises:
        PredictionsError: If there are no results, or a file is absent or damaged.
        LabelsError: If no label and no labelled ground lies in any tile.
    """
    agreement = measure_agreement(labels, min_object_m2) if len(labels.experts) > 1 else None
    truth = majority(labels) if agreement is not None else labels
    work = _Work(truth, block_m, min_object_m2)
    for tile in _tiles(predictions, model):
        work.add(tile)
    return work.result(agreement, seed)


def _tiles(predictions: Any, model: str | None) -> Iterable[TileMap]:
    if not isinstance(predictions, str | os.PathLike):
        predictions = list(predictions)
        if predictions and all(isinstance(each, TileMap) for each in predictions):
            yield from sorted(predictions, key=lambda tile: tile.name)
            return
    for folder in find_results(predictions):
        yield read_tile_map(folder, model)


@dataclass
class _Shapes:
    """Shapes of all tiles, each in the CRS of its tile, with the block and tile of each."""

    shapes: list[Any] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    tiles: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def to_crs(self, crs: str) -> "_Shapes":
        """Return the shapes in one CRS; a block's CRS is that of its shape."""
        import geopandas as gpd

        made = list(self.shapes)
        for source in {key[0] for key in self.keys} - {crs}:
            places = [place for place, key in enumerate(self.keys) if key[0] == source]
            there = gpd.GeoSeries([made[place] for place in places], crs=source).to_crs(crs)
            for place, shape in zip(places, there, strict=True):
                made[place] = shape
        return replace(self, shapes=made)


class _Work:
    """Collects what is counted in each tile, one after the other."""

    def __init__(self, labels: Labels, block_m: float | None, min_object_m2: float) -> None:
        self._labels = labels
        self._least_m2 = min_object_m2
        self._block_m = block_m
        self._base = block_m or float(min(BLOCKS_M))
        self._counts: dict[str, BlockCounts] = {}
        self._seen: list[tuple[Any, Any]] = []  # of each tile so far: its frame, and what it has seen
        self._objects = _Shapes()
        self._barely_seen = _Shapes()
        count = len(labels.outlines)
        self._label_best: list[tuple[float, Any, Key, str] | None] = [None] * count
        self._label_seen = np.zeros(count)
        self._ground_m2 = 0.0
        self._touched = np.zeros(count, bool)

    def add(self, tile: TileMap) -> None:
        """Count a tile."""
        labels = self._labels.to_crs(tile.crs)
        shape = tile.mapped.shape
        held, covered = self._before(tile)
        own = tile.seen & ~held
        area = None if labels.area is None else burn([labels.area], tile.transform, shape)
        truth = burn(labels.outlines.geometry, tile.transform, shape)
        ground = Ground(
            tile.name, tile.crs, tile.transform, tile.mapped & own, truth, own, area, tile.probability,
            unseen=~tile.seen & ~covered, recovered=own & covered,
        )  # fmt: skip
        self._counts[tile.name] = count_ground(ground, self._base)
        self._ground_m2 += ground.valid.sum() * abs(tile.transform.a * tile.transform.e)
        objects = count_shapes(tile.objects.geometry, ground, ground.valid)
        means = tile.objects["mean"].to_numpy()[objects.index]
        for made_shape, key, mean in zip(
            objects.shapes, self._keys(ground, objects.shapes), means.tolist(), strict=True
        ):
            if made_shape.area >= self._least_m2:
                self._objects.shapes.append(made_shape)
                self._objects.keys.append(key)
                self._objects.tiles.append(tile.name)
                self._objects.values.append(mean)
        found = count_shapes(labels.outlines.geometry, ground, ground.valid)
        self._touched |= found.pixels > 0
        for place in np.flatnonzero((found.pixels > 0) & (found.share < LEAST_SHARE)):
            self._barely_seen.shapes.append(labels.outlines.geometry.iloc[place])
            self._barely_seen.keys.append((tile.crs, 0, 0))
        for place, key, made_shape in zip(found.index, self._keys(ground, found.shapes), found.shapes, strict=True):
            best = self._label_best[place]
            if best is None or made_shape.area > best[0]:
                self._label_best[place] = (made_shape.area, made_shape, key, tile.name)

    def result(self, agreement: Agreement | None, seed: int) -> Evaluation:
        """Make figures out of what was counted."""
        together = BlockCounts.together(list(self._counts.values()))
        for name in ("unseen", "unseen_slump"):  # What one tile has not seen a later one may have.
            together.sums[name] = together.sums[name] - together.sums[name.replace("unseen", "recovered")]
        labelled = together.sums["hit"] + together.sums["miss"] + together.sums["unseen"]
        if not labelled.any() and not (self._labels.area is not None and self._ground_m2):
            raise LabelsError("No label and no labelled ground lies in any of the tiles; see whether they overlap.")
        factor, resembling = self._block_factor(together)
        counts = together.merged(factor)
        filled = counts.non_empty()
        block_m = self._base * factor
        crs = self._matching_crs()
        labels = self._counted_labels(crs)
        objects = _without(self._objects.to_crs(crs), self._barely_seen.to_crs(crs), labels)
        overlaps = Overlaps.of(objects.shapes, labels.shapes)
        has_area = self._labels.area is not None
        whole = Objects(
            overlaps,
            np.array(objects.values),
            np.array([shape.area for shape in objects.shapes]),
            np.array([shape.area for shape in labels.shapes]),
            _wide(objects.keys, factor),
            _wide(labels.keys, factor),
            objects.shapes,
            labels.shapes,
        )
        figures, tables = figures_of(counts, whole, has_area=has_area, resembling=resembling, seed=seed)
        if len(self._counts) == 1:
            tiles = [TileFigures(name, figures) for name in self._counts]
        else:
            tiles = [self._of_tile(name, whole, objects, labels, factor, resembling, seed) for name in self._counts]
        notes = self._notes(filled, has_area, agreement, len(labels.shapes), resembling)
        return Evaluation(
            figures, tiles, block_m, len(filled.keys), has_area, agreement,
            self._outlines(whole, objects, labels, crs), tables, notes,
        )  # fmt: skip

    def _before(self, tile: TileMap) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the pixels of a tile that earlier tiles have seen, and those that they hold, seen or not.

        Keeps where this one lies, and where it has seen the ground.
        """
        import geopandas as gpd
        import shapely
        from rasterio.features import shapes as polygonize

        parts = polygonize(tile.seen.astype("uint8"), tile.seen, transform=tile.transform)
        seen = gpd.GeoSeries([shapely.union_all([shapely.geometry.shape(part) for part, _ in parts])], crs=tile.crs)
        shape = tile.mapped.shape
        height, width = shape
        corners = [tile.transform * corner for corner in ((0, 0), (width, height))]
        frame = shapely.box(corners[0][0], corners[1][1], corners[1][0], corners[0][1])
        held, covered = np.zeros(shape, bool), np.zeros(shape, bool)
        for earlier_frame, earlier_seen in self._seen:
            there = earlier_frame.to_crs(tile.crs)
            if frame.intersects(there.iloc[0]):
                covered |= burn(there, tile.transform, shape)
                held |= burn(earlier_seen.to_crs(tile.crs), tile.transform, shape)
        # Points along its edges, since a straight edge is none in another CRS.
        self._seen.append((gpd.GeoSeries([shapely.segmentize(frame, 1000)], crs=tile.crs), seen))
        return held, covered | held

    def _keys(self, ground: Ground, shapes: NDArray[Any]) -> list[Key]:
        import shapely

        points = shapely.get_coordinates(shapely.point_on_surface(shapes)) if len(shapes) else np.zeros((0, 2))
        return [(ground.crs, int(np.floor(y / self._base)), int(np.floor(x / self._base))) for x, y in points.tolist()]

    def _matching_crs(self) -> str:
        """Return the CRS in which shapes are matched: that of the tiles, where all have one, else an equal-area one."""
        found = {crs for part in self._counts.values() for crs, _, _ in part.keys}
        return found.pop() if len(found) == 1 else _equal_area(self._labels)

    def _counted_labels(self, crs: str) -> _Shapes:
        result = _Shapes()
        for best in self._label_best:
            if best is not None and best[0] >= self._least_m2:
                result.shapes.append(best[1])
                result.keys.append(best[2])
                result.tiles.append(best[3])
        return result.to_crs(crs)

    def _block_factor(self, together: BlockCounts) -> tuple[int, bool]:
        """Return by how much blocks are enlarged, and whether neighbours resembled one another before."""
        if self._block_m is not None:
            return enlarge(together, fixed=True)
        return enlarge(together, round(max(BLOCKS_M) / min(BLOCKS_M)) if self._ground_m2 > SMALL_AREA_M2 else 1)

    def _of_tile(
        self, name: str, whole: Objects, objects: _Shapes, labels: _Shapes, factor: int, resembling: bool, seed: int
    ) -> TileFigures:
        counts = self._counts[name].merged(factor)
        part = whole.part(
            np.array([each == name for each in objects.tiles], bool),
            np.array([each == name for each in labels.tiles], bool),
        )
        figures, _ = figures_of(counts, part, has_area=self._labels.area is not None, resembling=resembling, seed=seed)
        return TileFigures(name, figures)

    def _outlines(self, whole: Objects, objects: _Shapes, labels: _Shapes, crs: str) -> "gpd.GeoDataFrame":
        import geopandas as gpd
        import pandas as pd

        pairs = whole.pairs(HEADLINE[0])
        iou = whole.best_iou(pairs)
        matched = np.zeros(len(labels.shapes), bool)
        matched[pairs[pairs >= 0]] = True
        hit = pairs >= 0
        missed = np.flatnonzero(~matched)
        unseen = [place for place, best in enumerate(self._label_best) if best is None]
        never = self._labels.outlines.geometry.iloc[unseen].to_crs(crs)
        shapes = [*objects.shapes, *(labels.shapes[place] for place in missed), *never]
        kinds = [*np.where(hit, "hit", "false alarm").tolist(), *["miss"] * len(missed), *["not seen"] * len(never)]
        tiles = [*objects.tiles, *(labels.tiles[place] for place in missed), *[""] * len(never)]
        table = {"kind": kinds, "tile": tiles, "iou": [*iou.tolist(), *[np.nan] * (len(missed) + len(never))]}
        result = gpd.GeoDataFrame(pd.DataFrame(table), geometry=gpd.GeoSeries(shapes, crs=crs), crs=crs)
        result["area_m2"] = result.area
        if self._labels.area is None:
            result = result[result["kind"] != "false alarm"].reset_index(drop=True)
        return result

    def _notes(
        self, counts: BlockCounts, has_area: bool, agreement: Agreement | None, label_count: int, resembling: bool
    ) -> list[str]:
        notes = []
        if not has_area:
            notes.append(
                "Nothing says where the labels are complete, so nothing is said about false alarms: there is no "
                "precision, no F1 and no IoU."
            )
        if len(counts.keys) < FEWEST_BLOCKS:
            notes.append(
                f"Only {len(counts.keys)} blocks of ground hold something; below {FEWEST_BLOCKS} the intervals are "
                "too narrow."
            )
            warnings.warn(notes[-1], FewBlocksWarning, stacklevel=4)
        if resembling:
            notes.append("Neighbouring blocks resemble one another; the intervals are widened by what they share.")
        partly = int(self._touched.sum()) - label_count
        if partly > 0:
            notes.append(
                f"{partly} labels lie with less than {LEAST_SHARE:.0%} on ground that was seen and are not counted."
            )
        if agreement is not None and not agreement.is_agreed:
            notes.append("The experts do not agree on what is a slump here; there is no agreed truth, and no verdict.")
        return notes


def _without(objects: _Shapes, ignored: _Shapes, labels: _Shapes) -> _Shapes:
    """Leave out objects of which half lies on labels that do not count, and that touch none that does."""
    import shapely

    if not ignored.shapes or not objects.shapes:
        return objects
    shapes = np.asarray(objects.shapes, dtype=object)
    tree, union = shapely.STRtree(labels.shapes), shapely.union_all(ignored.shapes)
    candidates = np.flatnonzero(shapely.intersects(shapes, union))
    inside = shapely.area(shapely.intersection(shapes[candidates], union)) >= LEAST_SHARE * shapely.area(
        shapes[candidates]
    )
    touching = np.unique(tree.query(shapes[candidates], predicate="intersects")[0])
    dropped = set(np.delete(candidates, touching)[np.delete(inside, touching)].tolist())
    kept = [place for place in range(len(shapes)) if place not in dropped]
    return _Shapes(*([values[place] for place in kept] for values in vars(objects).values()))


def _equal_area(labels: Labels) -> str:
    """Return the equal-area CRS of the hemisphere that labels lie in (NSIDC's EASE-Grid 2.0)."""
    if not len(labels.outlines):
        return "EPSG:6931"
    return "EPSG:6931" if labels.outlines.to_crs("EPSG:4326").total_bounds[3] >= 0 else "EPSG:6932"


def _wide(keys: Iterable[Key], factor: int) -> list[Key]:
    return [(crs, row // factor, col // factor) for crs, row, col in keys]
