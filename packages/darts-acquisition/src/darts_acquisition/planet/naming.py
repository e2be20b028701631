"""What the name of a PlanetScope folder says."""

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from darts_acquisition.errors import SceneNameError

_SCENE = re.compile(r"(?P<day>\d{8})_(?P<time>\d{6})_(?:(?P<hundredths>\d{2})_)?[0-9a-z]{4}", re.IGNORECASE)
_ORTHOTILE = re.compile(r"\d+_(?P<tile>\d+)_(?P<day>\d{4}-\d{2}-\d{2})_[0-9a-z]{4}", re.IGNORECASE)


@dataclass(frozen=True)
class PlanetName:
    """A PlanetScope folder's name, taken apart.

    Attributes:
        type: "scene" or "orthotile".
        time: When the image was taken, ISO 8601 UTC; for an orthotile only the day.
        tile: Number of the orthotile's place in Planet's grid, None for a scene.
    """

    type: Literal["scene", "orthotile"]
    time: str
    tile: str | None = None


def parse_planet_type(path: "str | os.PathLike[str]") -> Literal["scene", "orthotile"]:
    """Tell from a folder's name whether it holds a PlanetScope scene or an orthotile.

    Args:
        path: Folder. Only its name counts: `YYYYMMDD_HHMMSS_XXXX` or `YYYYMMDD_HHMMSS_NN_XXXX` is a scene,
            `<strip>_<tile>_YYYY-MM-DD_XXXX` an orthotile.

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
    name = Path(os.path.abspath(path)).name  # noqa: PTH100 - "." has a name too, and a link keeps its own
    try:
        if match := _SCENE.fullmatch(name):
            taken = datetime.strptime(match["day"] + match["time"], "%Y%m%d%H%M%S")  # noqa: DTZ007 - written as UTC
            fraction = f".{match['hundredths']}" if match["hundredths"] else ""
            return PlanetName("scene", f"{taken.isoformat()}{fraction}Z")
        if match := _ORTHOTILE.fullmatch(name):
            day = datetime.strptime(match["day"], "%Y-%m-%d").date()  # noqa: DTZ007 - written as UTC
            return PlanetName("orthotile", day.isoformat(), match["tile"])
        problem = "is no name of a PlanetScope folder"
    except ValueError:
        problem = "holds a date or time that does not exist"
    raise SceneNameError(
        f"{name!r} ({path}) {problem}. Expected YYYYMMDD_HHMMSS_XXXX or YYYYMMDD_HHMMSS_NN_XXXX for a scene, "
        "<strip>_<tile>_YYYY-MM-DD_XXXX for an orthotile."
    )
