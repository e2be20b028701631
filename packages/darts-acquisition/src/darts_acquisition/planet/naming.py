"""What names of folders and files, and the metadata file, say of a PlanetScope scene."""

import json
import math
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from darts_acquisition.errors import SceneError, SceneNameError, SceneReadError
from darts_acquisition.scenes.metadata import in_utc, read_angle, read_time

_SCENE = r"(?P<day>\d{8})_(?P<time>\d{6})_(?:(?P<hundredths>\d{2})_)?[0-9a-z]{4}"
_ORTHOTILE = r"\d+_(?P<tile>\d+)_(?P<date>\d{4}-\d{2}-\d{2})_[0-9a-z]{4}"
_NAME = re.compile(f"{_SCENE}|{_ORTHOTILE}", re.IGNORECASE)

Kind = Literal["image", "mask", "metadata"]
KINDS: tuple[Kind, ...] = ("image", "mask", "metadata")
_TOOLS = r"(?:_(?:8b|harmonized|clip|reproject|coreg|file_format|cog))*"
"""What Planet's products and the tools of its orders append to the name of a file, without another meaning."""
_FILES: dict[Kind, re.Pattern[str]] = {
    "image": re.compile(rf".*(?:_BGRN_SR(?P<orthotile>(?:_\w+)?)|_SR(?P<scene>{_TOOLS}))\.tiff?", re.IGNORECASE),
    "mask": re.compile(rf".*_udm2(?P<scene>{_TOOLS})\.tiff?", re.IGNORECASE),
    "metadata": re.compile(r".*_metadata\.json", re.IGNORECASE),
}

_KEPT = ("strip_id", "satellite_id", "instrument", "quality_category", "cloud_cover", "view_angle")
"""Further properties that a tile keeps, as ``planet_<name>``."""


@dataclass(frozen=True)
class PlanetName:
    """A PlanetScope folder's name, taken apart.

    `time` is when the image was taken, ISO 8601 UTC, for an orthotile only the day; `tile` is the orthotile's number in
    Planet's grid, None for a scene.
    """

    type: Literal["scene", "orthotile"]
    time: str
    tile: str | None = None


def parse_planet_type(path: "str | os.PathLike[str]") -> Literal["scene", "orthotile"]:
    """Tell from the name of a scene's folder whether it is a PlanetScope scene or an orthotile.

    Args:
        path: Folder of the scene, or what `find_planet_scenes` returned. Only its name counts: `YYYYMMDD_HHMMSS_XXXX`
            or `YYYYMMDD_HHMMSS_NN_XXXX` is a scene, `<strip>_<tile>_YYYY-MM-DD_XXXX` an orthotile.

    Returns:
        "scene" or "orthotile".

    Raises:
        SceneNameError: If the name is neither.

    Examples:
        >>> parse_planet_type("scenes/20210821_210019_08_2405")
        'scene'
        >>> parse_planet_type("tiles/4372514/5790392_4372514_2022-07-16_2459")
        'orthotile'
    """
    return parse_planet_name(path).type


def parse_planet_name(path: "str | os.PathLike[str]") -> PlanetName:
    """Take a folder's name apart, see `parse_planet_type`.

    Raises:
        SceneNameError: If the name is neither that of a scene nor that of an orthotile.
    """
    name = name_of(path)
    try:
        match = _NAME.fullmatch(name)
        if match and match["tile"] is None:
            taken = datetime.strptime(match["day"] + match["time"], "%Y%m%d%H%M%S")  # noqa: DTZ007 - written as UTC
            fraction = f".{match['hundredths']}" if match["hundredths"] else ""
            return PlanetName("scene", f"{taken.isoformat()}{fraction}Z")
        if match:
            day = datetime.strptime(match["date"], "%Y-%m-%d").date()  # noqa: DTZ007 - written as UTC
            return PlanetName("orthotile", day.isoformat(), match["tile"])
        problem = "is no name of a PlanetScope folder"
    except ValueError:
        problem = "holds a date or time that does not exist"
    raise SceneNameError(
        f"{name!r} ({path}) {problem}. Expected YYYYMMDD_HHMMSS_XXXX or YYYYMMDD_HHMMSS_NN_XXXX for a scene, "
        "<strip>_<tile>_YYYY-MM-DD_XXXX for an orthotile."
    )


def name_of(path: "str | os.PathLike[str]") -> str:
    """Return the name of a folder; "." has one too, and a link keeps its own."""
    return os.path.basename(os.path.abspath(path))  # noqa: PTH100, PTH119 - a link is not followed


def looks_like_scene(name: str) -> bool:
    """Tell whether a name has the form of one of a scene or an orthotile, whether its date exists or not."""
    return _NAME.fullmatch(name) is not None


def scene_of(file_name: str) -> str | None:
    """Return the scene or orthotile that a file's name begins with; None if it begins with none."""
    match = _NAME.match(file_name)
    return match[0] if match and file_name[match.end() : match.end() + 1] in ("_", ".") else None


def kind_of(file_name: str) -> Kind | None:
    """Return what a file of a delivery is by its name; None for one that no tile is made from, and for hidden ones."""
    if file_name.startswith("."):
        return None
    return next((kind for kind in KINDS if _FILES[kind].fullmatch(file_name)), None)


def words_after(file_name: str, kind: Kind) -> frozenset[str]:
    """Return what is appended to the name of an image or a mask, for example {"harmonized", "clip"}.

    Examples:
        >>> sorted(words_after("20240710_201530_07_24c3_3B_AnalyticMS_SR_8b_harmonized_clip.tif", "image"))
        ['8b', 'clip', 'harmonized']
    """
    match = _FILES[kind].fullmatch(file_name)
    groups = match.groupdict() if match else {}
    words = groups.get("scene") or groups.get("orthotile") or ""
    return frozenset(words.lower().replace("file_format", "cog").split("_")) - {""}


def read_metadata(content: bytes, file: Path) -> dict[str, Any]:
    """Turn a `*_metadata.json` into tile attributes: `time`, `azimuth`, `elevation` and Planet's own identifiers.

    Planet delivers a GeoJSON feature, UTF-8 with or without a byte order mark, with everything under `properties`;
    older files have it at the top level. `azimuth` and `elevation` are in degrees, NaN where the file has none; `time`
    (ISO 8601 UTC) and the identifiers are there only where the file has them.

    Raises:
        SceneReadError: If it is no JSON.
        SceneError: If it is JSON of something else, or an angle or the time is none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SceneReadError(f"{file} is no JSON ({error}); expected Planet's metadata. Download it again.") from error
    properties = (found.get("properties") or {}) if isinstance(found, dict) else None
    if not isinstance(properties, dict):
        raise SceneError(f"{file} is no metadata of Planet; expected a JSON object, with an object under 'properties'.")
    values = found | properties
    attrs: dict[str, Any] = {
        "azimuth": read_angle(values, "sun_azimuth", 0, 360, str(file)),
        "elevation": read_angle(values, "sun_elevation", -90, 90, str(file)),
    }
    attrs = {name: math.nan if angle is None else angle for name, angle in attrs.items()}
    if values.get("acquired") is not None:
        attrs["time"] = in_utc(read_time(values["acquired"], str(file), "acquired"))
    if isinstance(found.get("id"), str):
        attrs["planet_item_id"] = found["id"]
    for name in _KEPT:
        if isinstance(values.get(name), str | int | float):
            attrs[f"planet_{name}"] = values[name]
    return attrs
