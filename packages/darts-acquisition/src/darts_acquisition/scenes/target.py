"""What a search looks for: scenes by name, by MGRS tile or by area, checked before any service is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darts_acquisition.scenes.area import Area
from darts_acquisition.scenes.selection import Source, check_scene_id, check_tile_id, unique
from darts_utils import ParameterError

if TYPE_CHECKING:
    import geopandas as gpd


@dataclass(frozen=True)
class Target:
    """What a search looks for; what is None does not matter, and all of the rest hold at once.

    Attributes:
        names: Names of scenes as the source writes them, each once.
        tiles: MGRS tiles in their plain form, each once.
        area: The exact area.
        query: The simple area that services are asked for, as GeoJSON.
    """

    names: list[str] | None
    tiles: list[str] | None
    area: Area | None
    query: Mapping[str, Any] | None

    @classmethod
    def of(
        cls,
        source: Source,
        scene_ids: Sequence[str] | None,
        tile_ids: Sequence[str] | None,
        aoi: "gpd.GeoDataFrame | Area | None",
    ) -> "Target":
        """Check what a caller looks for.

        Raises:
            ParameterError: If a tile cannot be, or there is none of names, tiles and area.
            SceneNameError: If a name is none of the source.
            AreaError: If the area is empty or has no CRS.
        """
        if scene_ids is None and tile_ids is None and aoi is None:
            raise ParameterError("Nothing says which scenes: give scene_ids, tile_ids or an area of interest.")
        area = Area(aoi) if aoi is not None and not isinstance(aoi, Area) else aoi
        return cls(
            None if scene_ids is None else unique(check_scene_id(name, source) for name in scene_ids),
            None if tile_ids is None else unique(check_tile_id(name) for name in tile_ids),
            area,
            None if area is None else area.query(),
        )

    @property
    def is_nothing(self) -> bool:
        """Whether no scene can be found: a list is empty, or the area lies where there are no scenes."""
        return self.names == [] or self.tiles == [] or (self.area is not None and self.query is None)
