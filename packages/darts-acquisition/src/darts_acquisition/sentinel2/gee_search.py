"""Search Sentinel-2 L2A scenes in Google Earth Engine."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from darts_acquisition.earthengine import EarthEngine
from darts_acquisition.errors import ServiceError
from darts_acquisition.sentinel2.area import Area
from darts_acquisition.sentinel2.found import check_all_found
from darts_acquisition.sentinel2.selection import (
    Interval,
    Selection,
    check_scene_id,
    check_tile_id,
    make_selection,
    unique,
)
from darts_acquisition.sentinel2.table import scene_table
from darts_acquisition.settings import EarthEngineSettings
from darts_utils import ParameterError
