"""What every file of a tile's export says about the tile: its name, time, source, models and grid."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 - makes tile.odc
import xarray as xr
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from darts_export.jsonable import to_json
from darts_export.products import OPTICAL
from darts_utils import GridError, ParameterError, check_areal_scale, check_north_up, spatial_dims, time_of, to_utc

_ANGLES = {"sun_azimuth": "azimuth", "sun_elevation": "elevation", "off_nadir": "planet_view_angle"}
"""Attributes of a tile by the names that STAC has for these angles."""


@dataclass(frozen=True)
class TileContext:
    """The metadata of a tile that its files carry.

    Attributes:
        tile_id: Name of the tile.
        time: Acquisition, in UTC; None where the tile does not say.
        source: Where the pixels come from ("PlanetScope", ...); empty where nothing says so.
        models: What the metadata says about each model, by name, in the metadata's order.
        geobox: The tile's grid.
        metadata: The caller's metadata, as JSON.
        fingerprint: The caller's fingerprint of the configuration.
        platform: Satellite, or what is known of it; empty where nothing is.
        view: Angles by the names that STAC has for them, degrees; None where unknown.
    """

    tile_id: str
    time: datetime | None
    source: str
    models: dict[str, dict[str, object]]
    geobox: GeoBox
    metadata: dict[str, object]
    fingerprint: str | None
    platform: str
    view: dict[str, float | None]

    @property
    def wkt(self) -> str:
        """The grid's CRS as WKT."""
        return str(self._crs.to_wkt())

    @property
    def epsg(self) -> int | None:
        """EPSG code of the grid's CRS, None where it has none."""
        code = self._crs.epsg
        return None if code is None else int(code)

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in m²."""
        _, dx, _, dy = self.transform
        return float(abs(dx * dy))

    @property
    def resolution(self) -> float | None:
        """Edge of a pixel in metres, None where pixels are not square."""
        _, dx, _, dy = self.transform
        return float(dx) if dx == -dy else None

    @property
    def _crs(self) -> CRS:
        crs = self.geobox.crs
        if crs is None:
            raise GridError("The tile's grid has no CRS.")
        return crs

    @property
    def time_text(self) -> str:
        """Acquisition as ISO 8601 with a Z, to the microsecond where it has one; empty where unknown."""
        return "" if self.time is None else self.time.isoformat().replace("+00:00", "Z")

    def model_names(self, model: str | None = None) -> str:
        """Name of one member, or of all models, separated by commas."""
        return ",".join(self.models) if model is None else model

    @property
    def transform(self) -> tuple[float, float, float, float]:
        """``(x0, dx, y0, dy)``: x = x0 + dx · column, y = y0 + dy · row, with dx > 0 > dy, in units of the CRS."""
        a = self.geobox.affine
        return a.c, a.a, a.f, a.e


def read_context(
    tile: xr.Dataset, name: str, metadata: Mapping[str, object] | None, fingerprint: str | None
) -> TileContext:
    """Collect the metadata of a tile.

    Args:
        tile: The tile. Its attributes `tile_id` and `time` (ISO 8601, UTC unless it says otherwise; or a scalar
            coordinate `time`), its angles and its satellite are used where they are there.
        name: Name of the tile where it has no `tile_id`.
        metadata: The caller's metadata; `models` and `source` are used where they are there. Not changed.
        fingerprint: The caller's fingerprint of the configuration.

    Returns:
        The metadata.

    Raises:
        GridError: If the tile has no north-up, projected grid.
        ParameterError: If the time or the metadata cannot be read.
    """
    geobox = _grid(tile)
    given = read_metadata(metadata)
    source = _source(tile, given)
    return TileContext(
        tile_id=str(tile.attrs.get("tile_id") or name),
        time=to_utc(time_of(tile)),
        source=source,
        models=_models(given),
        geobox=geobox,
        metadata=given,
        fingerprint=fingerprint,
        platform=_platform(tile.attrs, source),
        view={name: _angle(tile.attrs.get(attr)) for name, attr in _ANGLES.items()},
    )


def read_metadata(metadata: Mapping[str, object] | None) -> dict[str, object]:
    """Copy the caller's metadata into JSON.

    Raises:
        ParameterError: If something in them has no place in JSON, or they are no mapping.
    """
    given = to_json({} if metadata is None else metadata, "metadata")
    if not isinstance(given, dict):
        raise ParameterError(f"metadata is a {type(metadata).__name__}; expected a mapping.")
    return given


def _grid(tile: xr.Dataset) -> GeoBox:
    if not set(spatial_dims(tile)) <= set(tile.dims):
        raise GridError(f"The tile has the dimensions {tuple(map(str, tile.dims))}; expected ('y', 'x').")
    geobox = tile.odc.geobox
    if not isinstance(geobox, GeoBox) or geobox.crs is None:
        raise GridError(
            "The tile has no readable grid; expected evenly spaced coordinates x and y and a CRS in spatial_ref "
            "(tile.odc.assign_crs('EPSG:32608') writes one)."
        )
    check_north_up(tile, "The tile")
    a, (rows, cols) = geobox.affine, geobox.shape
    check_areal_scale(geobox.crs.proj, *(a @ (cols / 2, rows / 2)), "The tile")
    if a.b or a.d or a.a <= 0 or a.e >= 0:
        raise GridError(
            f"The tile is not north-up (affine {tuple(a)[:6]}); expected rows from north to south and columns from "
            "west to east. A rotated grid is reprojected first."
        )
    return geobox


def _source(tile: xr.Dataset, metadata: Mapping[str, object]) -> str:
    for value in (metadata.get("source"), tile.attrs.get("source"), tile.attrs.get("data_source")):
        if isinstance(value, str) and value:
            return value
    for name in OPTICAL:
        if name in tile and tile[name].attrs.get("data_source"):
            return str(tile[name].attrs["data_source"])
    return ""


def _platform(attrs: Mapping[Hashable, object], source: str) -> str:
    for name in ("s2_platform", "planet_satellite_id"):
        if attrs.get(name):
            return str(attrs[name])
    return source.lower()


def _angle(value: Any) -> float | None:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if is_number and np.isfinite(value) else None


def _models(metadata: Mapping[str, object]) -> dict[str, dict[str, object]]:
    models = metadata.get("models")
    if models is None:
        return {}
    if not isinstance(models, dict) or not all(isinstance(each, dict) for each in models.values()):
        raise ParameterError("metadata['models'] must map each model's name to a mapping of its metadata.")
    return models
