"""Load satellite images, ArcticDEM and TCVIS as tiles for DARTS."""

from darts_utils.lazy import lazy_names
from darts_utils.moved import moved_names

_get, __dir__, __all__ = lazy_names(__name__, __file__, "darts-acquisition")
__getattr__ = moved_names(__name__, {"load_s2_from_gee": "darts_acquisition.load_gee_s2_sr_scene"}, others=_get)
