"""The features that a run computes: which of the bands that are wanted they are, and what they need."""

from collections.abc import Collection, Iterable
from math import ceil

from darts.run.task import Pipeline
from darts_preprocessing import FEATURES, Feature, Request, needs_of
from darts_utils import BANDS


def find_feature(name: str) -> Feature | None:
    """Return the feature that a band is; None where it is none, and for variables of other stages."""
    if name not in FEATURES and (name in BANDS.data_model or not name.isidentifier()):
        return None
    return FEATURES.get(name)


def features_among(names: Collection[str]) -> tuple[str, ...]:
    """Return the names that are features: the listed ones in their order, then spectral indices."""
    listed = [name for name in FEATURES if name in names]
    others = [name for name in sorted(set(names).difference(listed)) if find_feature(name) is not None]
    return (*listed, *others)


def is_produced(name: str, pipeline: Pipeline) -> bool:
    """Tell whether preprocessing can make a band of what the pipeline loads."""
    feature = find_feature(name)
    return feature is not None and set(needs_of([feature]).bands) <= set(pipeline._variables())


def auxiliary_of(names: Iterable[str]) -> set[str]:
    """Return the auxiliary data that features need: "arcticdem", "tcvis"."""
    return needs_of(FEATURES[name] for name in names).auxiliary


def dem_margin_px(radius_m: float, resolution: int) -> int:
    """Return how many pixels of ArcticDEM are needed around a tile whose features look so far.

    The corner of the margin lies √2 radii away from that of the tile, since the grids are rotated; lengths
    in EPSG:3413 are up to 1.1 times those on the ground down to 50° N (Snyder 1987, eq. 21-32); rounding the radius up
    to cells of the tile and the kernel of the resampling take some pixels more.

    Args:
        radius_m: How far in metres.
        resolution: Pixel size of the DEM in metres.

    Returns:
        Pixels of the DEM.

    Examples:
        >>> dem_margin_px(100, 2)
        88
    """
    return ceil(2**0.5 * 1.1 * radius_m / resolution) + 10


def feature_margin_px(pipeline: Pipeline, names: Iterable[str] | None = None) -> int:
    """Return how many pixels of ArcticDEM are needed around a tile for its features."""
    cell = pipeline._arcticdem_resolution()
    radii = {"outer_radius": pipeline.tpi_outer_radius, "inner_radius": pipeline.tpi_inner_radius}
    needs = needs_of(FEATURES[name] for name in (FEATURES if names is None else names))
    return dem_margin_px(max(pipeline.tpi_outer_radius, cell * needs.margin(Request(options=radii, cell=cell))), cell)
