"""The band table: what each variable of a tile means, and the range it is normalised with."""

import difflib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darts_utils.errors import BandDeclarationWarning, UnknownBandError
from darts_utils.values import check_range, range_sample


@dataclass(frozen=True)
class Band:
    """One variable of a tile.

    Attributes:
        name: Name of the variable in the tile's Dataset.
        dtype: Data type in memory.
        long_name: What the values are, for people.
        units: Unit of the values in CF notation, None where they have none (classes, masks).
        low: Lower end of the valid range, which normalisation maps to 0.
        high: Upper end of the valid range, which normalisation maps to 1.
        nodata: Value that marks missing pixels, None where there are none.
    """

    name: str
    dtype: str
    long_name: str
    units: str | None
    low: float
    high: float
    nodata: float | None = None

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes of the variable: ``long_name``, and ``units`` where it has one."""
        attrs = {"long_name": self.long_name}
        return attrs if self.units is None else attrs | {"units": self.units}


_NAN = float("nan")
OPTICAL_BANDS = ("blue", "green", "red", "nir")
"""The bands of reflectance that every tile has."""
TREND_BANDS = ("tc_brightness", "tc_greenness", "tc_wetness")
"""The Landsat trends of TCVIS."""


def _reflectance(colour: str) -> Band:
    return Band(colour, "float32", f"{colour} surface reflectance", "1", -0.1, 0.5, _NAN)


def _trend(name: str) -> Band:
    return Band(name, "uint8", f"Landsat tasselled-cap {name.removeprefix('tc_')} trend", None, 0, 255)


_TABLE = (
    *map(_reflectance, OPTICAL_BANDS),
    Band("quality_data_mask", "uint8", "data quality (0 invalid, 1 low, 2 high)", None, 0, 2),
    Band("planet_udm", "uint8", "PlanetScope usable data mask as delivered", None, 0, 255),
    Band("s2_scl", "uint8", "Sentinel-2 scene classification", None, 0, 11, 0),
    Band("ndvi", "float32", "normalized difference vegetation index", "1", -1, 1, _NAN),
    *map(_trend, TREND_BANDS),
    Band("dem", "float32", "elevation", "m", -100, 3000, _NAN),
    Band("arcticdem_data_mask", "uint8", "measured elevation (1) or none (0)", None, 0, 1),
    Band("relative_elevation", "float32", "topographic position index", "m", -50, 50, _NAN),
    Band("slope", "float32", "slope", "degree", 0, 90, _NAN),
    Band("aspect", "float32", "aspect, clockwise from true north, -1 where flat", "degree", 0, 360, _NAN),
    Band("hillshade", "float32", "hillshade (0 dark, 1 lit)", "1", 0, 1, _NAN),
    Band("curvature", "float32", "curvature", "0.01 m-1", -1, 1, _NAN),
    Band("probabilities", "float32", "probability of a thaw slump", "1", 0, 1, _NAN),
    Band("extent", "uint8", "reliable results (1) or none (0)", None, 0, 1),
    Band("binarized_segmentation", "bool", "thaw slump", None, 0, 1),
)


class BandTable(Mapping[str, Band]):
    """Every variable that DARTS knows, by name: those of the data model, and those that installed packages declare.

    Attributes:
        data_model: The variables that all stages share, whose ranges the published models were trained with.
    """

    def __init__(self) -> None:
        self.data_model: Mapping[str, Band] = MappingProxyType({band.name: band for band in _TABLE})

    def __getitem__(self, name: str) -> Band:
        if name in self.data_model:
            return self.data_model[name]
        for table in declared_bands():
            try:
                declared = table[name]
            except KeyError:
                continue
            return getattr(declared, "band", declared)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.data_model, *(name for table in declared_bands() for name in table)]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.data_model or any(name in table for table in declared_bands())


@cache
def declared_bands() -> "tuple[Mapping[str, Any], ...]":
    """Return what installed packages declare in the group ``darts.bands`` of their entry points.

    Returns:
        For each entry point the mapping that it names: bands by name, or anything with a `band`, such as the features
        of darts-preprocessing. A mapping may know names that it does not list. What the data model says goes first.

    Warns:
        BandDeclarationWarning: If one cannot be read; it is left out.
    """
    from importlib.metadata import entry_points

    tables = []
    for entry in sorted(entry_points(group="darts.bands")):
        try:
            table = entry.load()
        except Exception as error:  # noqa: BLE001  # whatever other packages raise when they are imported
            table = error
        if isinstance(table, Mapping):
            tables.append(table)
        else:
            message = f"The bands that {entry.value!r} declares cannot be read ({table!r}); expected a mapping by name."
            warnings.warn(message, BandDeclarationWarning, stacklevel=2)
    return tuple(tables)


BANDS = BandTable()
"""Every variable that DARTS knows, by name. Variables of ensemble members (``probabilities-{model}``) share the entry
of their base name, and those of classes (``probabilities_{class}``) that of ``probabilities``, see :func:`get_band`."""

_PER_MODEL = ("probabilities", "binarized_segmentation")
_PER_CLASS = "probabilities_"


def class_of(name: str) -> str | None:
    """Return the class whose probabilities a variable holds, one that networks tell from thaw slumps.

    Args:
        name: Name of a variable.

    Returns:
        The name of the class; None for every other variable.

    Examples:
        >>> class_of("probabilities_active-layer-detachment")
        'active-layer-detachment'
        >>> class_of("probabilities-tcvis") is None  # those of an ensemble's member
        True
    """
    return name.removeprefix(_PER_CLASS) or None if name.startswith(_PER_CLASS) else None


def get_band(name: str) -> Band:
    """Look a variable up in the band table.

    Args:
        name: Name of a variable; ``probabilities-{model}`` and ``binarized_segmentation-{model}`` stand for their
            base, and so does ``probabilities_{class}``, with a name and a ``long_name`` of its own.

    Returns:
        The entry of the table.

    Raises:
        UnknownBandError: If the table does not know the name. The message suggests the nearest known ones.

    Examples:
        >>> get_band("slope").units
        'degree'
        >>> get_band("probabilities-tcvis").high
        1
    """
    of_class = class_of(name)
    if of_class is not None:
        return replace(BANDS["probabilities"], name=name, long_name=f"probability of {of_class}")
    base = name.split("-", 1)[0]
    key = base if base in _PER_MODEL else name
    try:
        return BANDS[key]
    except KeyError:
        pass
    near = difflib.get_close_matches(name, BANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known bands: {', '.join(BANDS)}."
    if not declared_bands():
        hint += " The features of darts-preprocessing are known where that is installed."
    raise UnknownBandError(f"{name!r} is not in the band table; {hint}")


def band_attrs(name: str, **extra: object) -> dict[str, Any]:
    """Return the attributes that a variable of a tile carries: ``long_name``, ``units`` where it has one, and `extra`.

    Args:
        name: Name of the variable, see :func:`get_band`.
        **extra: More attributes, for example ``data_source``.

    Returns:
        A new dict.

    Raises:
        UnknownBandError: If the band table does not know the name.

    Examples:
        >>> band_attrs("dem", data_source="ArcticDEM v4.1")
        {'long_name': 'elevation', 'units': 'm', 'data_source': 'ArcticDEM v4.1'}
    """
    return get_band(name).attrs | extra


def normalize_band(values: ArrayLike, name: str) -> NDArray[np.float32]:
    """Scale a band to 0…1 as the models expect it: ``(value − low) / (high − low)``, clipped, NaN becomes 0.

    Args:
        values: Array of any shape and numeric dtype, in the unit of the band table. Not changed.
        name: Name of the band, which gives the range.

    Returns:
        A new float32 array of the same shape, 0…1, without NaN.

    Raises:
        UnknownBandError: If the band table does not know the name.
        ValueRangeError: If the values cannot be in that unit, see :func:`check_range`.

    Examples:
        >>> normalize_band([0.2, 9.0, float("nan")], "red")
        array([0.5, 1. , 0. ], dtype=float32)
    """
    band = get_band(name)
    given = np.asarray(values)
    if band.dtype == "float32":  # what has a unit; codes of a mask have none
        sample = range_sample(given)
        remedy = "bring the band into the unit of the band table"
        check_range(name, sample[np.isfinite(sample)], band.low, band.high, taker="normalize_band", remedy=remedy)
    with np.errstate(over="ignore"):  # what float32 cannot hold lies far outside the range, and is clipped
        scaled = given.astype(np.float32)
    scaled -= np.float32(band.low)
    scaled *= np.float32(1 / (band.high - band.low))
    np.clip(scaled, 0, 1, out=scaled)
    scaled[np.isnan(scaled)] = 0
    return scaled
