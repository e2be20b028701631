"""PlanetScope scenes and orthotiles as Planet delivers them."""

from darts_acquisition.planet.delivery import find_planet_scenes, list_planet_files, parse_planet_type
from darts_acquisition.planet.loading import (
    check_planet_scene,
    get_planet_geometry,
    load_planet_masks,
    load_planet_scene,
)

__all__ = [
    "check_planet_scene",
    "find_planet_scenes",
    "get_planet_geometry",
    "list_planet_files",
    "load_planet_masks",
    "load_planet_scene",
    "parse_planet_type",
]
