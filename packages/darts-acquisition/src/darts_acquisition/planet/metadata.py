"""The metadata file of a PlanetScope delivery: time, sun angles, identifiers."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from darts_acquisition.errors import SceneError, SceneReadError

METADATA_PATTERNS = ("*_metadata.json",)

_KEPT = ("strip_id", "satellite_id", "instrument", "quality_category", "cloud_cover", "view_angle")
"""Further properties that a tile keeps, as ``planet_<name>``."""


def read_metadata(file: Path) -> dict[str, Any]:
    """Read a metadata file into tile attributes: `time`, `azimuth`, `elevation` and Planet's own identifiers.

    Planet delivers a GeoJSON feature with everything under `properties`; older files have it at the top level.

    Args:
        file: The `*_metadata.json`.

    Returns:
        Attributes. `azimuth` and `elevation` in degrees, NaN where the file has none; `time` (ISO 8601 UTC) and the
        identifiers only where the file has them.

    Raises:
        SceneReadError: If the file cannot be read or is no JSON.
        SceneError: If it is JSON of something else, or an angle or the time is none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SceneReadError(f"{file} cannot be read: {error}.") from error
    except ValueError as error:
        raise SceneReadError(f"{file} is no JSON ({error}); expected Planet's metadata. Download it again.") from error
    properties = (content.get("properties") or {}) if isinstance(content, dict) else None
    if not isinstance(properties, dict):
        raise SceneError(f"{file} is no metadata of Planet; expected a JSON object, with an object under 'properties'.")
    values = content | properties
    attrs: dict[str, Any] = {
        "azimuth": _angle(values, "sun_azimuth", (0, 360), file),
        "elevation": _angle(values, "sun_elevation", (-90, 90), file),
    }
    if values.get("acquired") is not None:
        attrs["time"] = _utc(values["acquired"], file)
    if isinstance(content.get("id"), str):
        attrs["planet_item_id"] = content["id"]
    for name in _KEPT:
        if isinstance(values.get(name), str | int | float):
            attrs[f"planet_{name}"] = values[name]
    return attrs


def _angle(values: dict[str, Any], name: str, valid: tuple[float, float], file: Path) -> float:
    value = values.get(name)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not valid[0] <= value <= valid[1]:
        raise SceneError(f"{file}: {name} is {value!r}; expected degrees, {valid[0]} to {valid[1]}.")
    return float(value)


def _utc(acquired: Any, file: Path) -> str:
    try:
        taken = datetime.fromisoformat(acquired)
    except (TypeError, ValueError) as error:
        raise SceneError(f"{file}: acquired is {acquired!r}; expected a time as ISO 8601.") from error
    if taken.tzinfo is None:
        taken = taken.replace(tzinfo=UTC)
    return taken.astimezone(UTC).isoformat().replace("+00:00", "Z")
