"""Say what a run would fetch before it begins: chunks of auxiliary data, and images that are not in a store.

Nothing is asked of a service here. Where tiles lie is taken from the heads of their files, of those only that would be
computed.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

import darts_acquisition
from darts.run.features import feature_margin_px
from darts.run.names import counted
from darts.run.planning import Plan, Planner, RunContext
from darts.run.progress import warnings_once
from darts.run.task import Pipeline, TileTask
from darts.run.trends import BY_YEAR, TrendCubes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedFetch:
    """What the tiles of a run that are to be computed lack; a run that is not offline fetches it.

    Attributes:
        tiles: How many tiles are to be computed.
        offline: Whether nothing may be fetched.
        auxiliary: Chunks by product ("ArcticDEM", "TCVIS"), of the products that models and export need. A chunk that
            several tiles touch counts once.
        images: Tiles whose image is not in the store, with the bytes to download, None where they are not known.
        unplaced: Tiles whose place is not known before they are loaded. Their chunks are not counted.
        fails: Tiles that would fail, since nothing may be fetched a product does not reach them, or they
            cannot be loaded, with the reason.
    """

    tiles: int = 0
    offline: bool = False
    auxiliary: "Mapping[str, darts_acquisition.Estimate]" = field(default_factory=dict)
    images: Mapping[str, int | None] = field(default_factory=dict)
    unplaced: tuple[str, ...] = ()
    fails: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Say it in plain words, a sentence each."""
        lacking = [f"{name}: {estimate}" for name, estimate in self.auxiliary.items() if estimate.missing_chunks]
        if self.images:
            lacking.insert(0, f"images of {counted(len(self.images), 'tile')}, {_size(list(self.images.values()))}")
        before = "Missing, and offline not fetched: " if self.offline else "To fetch: "
        said = [before + "; ".join(lacking) + "."] if lacking else ["Nothing is to be fetched."]
        if self.fails:
            reasons = Counter(self.fails.values())
            listed = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
            said.append(f"{len(self.fails)} of {self.tiles} tiles would fail: {listed}.")
        if self.unplaced:
            said.append(
                f"Of {counted(len(self.unplaced), 'tile')} the place is not known; what is around them is not counted."
            )
        return said


def plan_fetching(pipeline: Pipeline, plan: Plan) -> PlannedFetch:
    """Find out what a run would fetch. Nothing is fetched or created, and no service is asked."""
    fails = pipeline._broken_images(plan.todo)
    tasks = [task for task in plan.todo if task.tile_id not in fails]
    images = pipeline._images_to_fetch(tasks)
    fails |= dict.fromkeys(images, "the image is not in the store") if pipeline.offline else {}
    cubes = cubes_of(pipeline, tasks, plan.context.arcticdem, plan.context.tcvis)
    unplaced: dict[str, Exception] = {}
    auxiliary: dict[str, darts_acquisition.Estimate] = {}
    if cubes:
        found = _find_areas(pipeline, tasks, unplaced)
        for name, cube in cubes.items():
            names = [tile_id for tile_id in found if tile_id in cube.tiles]
            if names:
                areas = [found[tile_id] for tile_id in names]
                auxiliary[name] = estimate = _estimate(pipeline, plan.context, cube, areas)
                # The first reason for which each tile would fail, in the order of the stages.
                for number in estimate.outside:
                    fails.setdefault(names[number], f"it lies outside {name}")
                for number in estimate.incomplete if pipeline.offline else ():
                    fails.setdefault(names[number], f"chunks of {name} are missing")
    return PlannedFetch(len(plan.todo), pipeline.offline, auxiliary, images, tuple(unplaced), fails)


@dataclass(frozen=True)
class AuxiliaryCube:
    """A datacube that tiles read.

    Attributes:
        location: Folder of the datacube, or its address.
        tiles: Names of the tiles that read it.
        trend: Its period, of a TCVIS datacube; None for ArcticDEM.
    """

    location: str
    tiles: frozenset[str]
    trend: str | None = None


def cubes_of(
    pipeline: Pipeline, tasks: Sequence[TileTask], arcticdem: str | None, tcvis: TrendCubes | None
) -> dict[str, AuxiliaryCube]:
    """Return the datacubes that tiles read by name: "ArcticDEM"; "TCVIS", with its period where there are several."""
    cubes = {}
    if arcticdem is not None:
        cubes["ArcticDEM"] = AuxiliaryCube(arcticdem, frozenset(task.tile_id for task in tasks))
    if tcvis is not None:
        for trend, some in tcvis.needed(pipeline, tasks).items():
            name = "TCVIS" if tcvis.trend != BY_YEAR else f"TCVIS {trend}"
            cubes[name] = AuxiliaryCube(tcvis.cubes[trend], frozenset(task.tile_id for task in some), trend)
    return cubes


def estimate_auxiliary(
    cube: AuxiliaryCube, areas: Sequence[object], *, resolution: int, margin_px: int
) -> "darts_acquisition.Estimate":
    """Say how much there is to fetch of a product for the area of all tiles.

    Args:
        cube: The product's datacube; everything is missing where there is none.
        areas: Grids or footprints of the tiles (odc.geo), in any CRS.
        resolution: Pixel size of the DEM in metres.
        margin_px: Pixels of the DEM around each tile.

    Raises:
        OutsideExtentError: If all tiles lie outside the product.
        CubeError: If there is something else at the place of the cube.
    """
    if cube.trend is None:
        return darts_acquisition.estimate_arcticdem(areas, cube.location, resolution, buffer=margin_px)
    return darts_acquisition.estimate_tcvis(areas, cube.location, trend=cube.trend)


def _estimate(
    pipeline: Pipeline, context: RunContext, cube: AuxiliaryCube, areas: Sequence[object]
) -> "darts_acquisition.Estimate":
    resolution, margin_px = pipeline._arcticdem_resolution(), feature_margin_px(pipeline, context.features)
    try:
        return estimate_auxiliary(cube, areas, resolution=resolution, margin_px=margin_px)
    except darts_acquisition.OutsideExtentError:
        return darts_acquisition.Estimate(0, 0, 0, outside=tuple(range(len(areas))))


def _find_areas(pipeline: Pipeline, tasks: Sequence[TileTask], unplaced: dict[str, Exception]) -> dict[str, object]:
    """Return grid or footprint of each tile by name; add those without to `unplaced`."""
    try:
        return dict(pipeline._tile_areas(tasks, unplaced, offline=True))
    except Exception as error:  # noqa: BLE001 - a hook of somebody else, which a run does not call
        logger.warning("The places of the tiles are not known: %s: %s", type(error).__name__, error)
        unplaced |= dict.fromkeys((task.tile_id for task in tasks), error)
        return {}


def _size(sizes: Sequence[int | None]) -> str:
    known = [size for size in sizes if size is not None]
    if not known:
        return "of unknown size"
    return f"{'' if len(known) == len(sizes) else 'at least '}{ceil(sum(known) / 1e6)} MB to download"


def plan(pipeline: Pipeline) -> Plan:
    """Say what a run would do about each tile and why, and fetch, without computing or writing anything.

    Returns:
        One decision per tile, in the order of the run, and what the tiles lack that would be computed.

    Raises:
        ConfigurationError: As :func:`darts.run.run`.
    """
    with warnings_once():
        planned = Planner(pipeline, writes=False).plan()
        return replace(planned, fetch=plan_fetching(pipeline, planned))
