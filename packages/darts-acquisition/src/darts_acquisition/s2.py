"""Names of the original's ``darts_acquisition.s2``, or where they are; nothing here uses this module."""

from darts_acquisition.sentinel2.gee import get_aoi_from_gee_s2_sr_scene_ids as get_aoi_from_gee_scene_ids
from darts_utils.moved import moved_names

__all__ = ["get_aoi_from_gee_scene_ids"]

__getattr__ = moved_names(
    __name__,
    {
        "load_gee_s2_sr_scene": "darts_acquisition.load_gee_s2_sr_scene",
        "load_cdse_s2_sr_scene": "darts_acquisition.load_cdse_s2_sr_scene",
        "load_s2_from_gee": "darts_acquisition.load_gee_s2_sr_scene",
        "load_s2_from_stac": "darts_acquisition.load_cdse_s2_sr_scene",
    },
)
