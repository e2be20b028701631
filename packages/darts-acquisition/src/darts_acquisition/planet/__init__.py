"""PlanetScope scenes and orthotiles as Planet delivers them."""

from darts_acquisition.planet.loading import get_planet_geometry, load_planet_masks, load_planet_scene
from darts_acquisition.planet.naming import parse_planet_type

__all__ = ["get_planet_geometry", "load_planet_masks", "load_planet_scene", "parse_planet_type"]
