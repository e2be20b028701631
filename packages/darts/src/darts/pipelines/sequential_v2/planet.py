"""The pipeline for PlanetScope scenes and orthotiles."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import darts_acquisition
from darts.errors import NoTilesError
from darts.pipelines.options import AbsolutePath, Unresolved, given, option, resolved
from darts.pipelines.sequential_v2.areas import areas_of, frame_of
from darts.pipelines.sequential_v2.base import _BasePipeline
from darts.pipelines.sequential_v2.images import ImageSelection
from darts.run.task import TileTask
from darts_utils import OPTICAL_BANDS

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

logger = logging.getLogger(__name__)


@dataclass
class PlanetPipeline(ImageSelection, _BasePipeline):
    """Map slumps in PlanetScope images: a folder of scenes, of orthotiles, or both, or an order as it is delivered.

    Results go to ``<output>/<tile_id>/<scene_id>/`` for orthotiles and to ``<output>/<scene_id>/`` for scenes.

    Examples:
        >>> pipeline = PlanetPipeline(scenes_dir="scenes", model_files="model.safetensors", offline=True)
        >>> records = pipeline.run()  # doctest: +SKIP
    """

    orthotiles_dir: Annotated[AbsolutePath | None, Unresolved] = option(
        None,
        help="Folder or zip archive of orthotiles, laid out tile_id/scene_id/ or as Planet delivers them; default "
        "<input>/planet/tiles.",
    )
    scenes_dir: Annotated[AbsolutePath | None, Unresolved] = option(
        None,
        help="Folder or zip archive of scenes, laid out scene_id/ or as Planet delivers them; default "
        "<input>/planet/scenes.",
    )

    _optical_variables: ClassVar[tuple[str, ...]] = (*OPTICAL_BANDS, "quality_data_mask", "planet_udm")

    def _resolve(self) -> None:
        super()._resolve()
        if self.orthotiles_dir is None:
            self.orthotiles_dir = resolved(self.default_dirs.planet_orthotiles)
        if self.scenes_dir is None:
            self.scenes_dir = resolved(self.default_dirs.planet_scenes)

    def _results_folder(self) -> str:
        return "planet"

    def _arcticdem_resolution(self) -> int:
        return 2

    def _get_tile_id(self, tilekey: Path) -> str:
        return tilekey.name

    def _tileinfos(self) -> list[tuple[Path, Path]]:
        output = Path(self.output_data_dir or "")
        orthotiles, scenes = (darts_acquisition.find_planet_scenes(each) if each else () for each in self._folders())
        found = [(key, output / _orthotile_of(key) / key.name) for key in orthotiles]
        found += [(key, output / key.name) for key in scenes]
        names = set(self.select_images([key.name for key, _ in found]))
        return [(key, folder) for key, folder in found if key.name in names]

    def _load_tile(self, tilekey: Path) -> "xr.Dataset":
        scene = darts_acquisition.load_planet_scene(tilekey)
        masks = darts_acquisition.load_planet_masks(tilekey, scene=scene)
        return scene.assign(masks.data_vars)

    def _tile_aoi(self) -> "gpd.GeoDataFrame":
        tasks = [TileTask(key, self._get_tile_id(key), folder) for key, folder in self._tileinfos()]
        return frame_of(self._tile_areas(tasks, {}))

    def _tile_year(self, tilekey: Path) -> int | None:
        kind = _type_of(tilekey)
        return None if kind is None else int(tilekey.name.split("_")[2 if kind == "orthotile" else 0][:4])

    def _tile_inputs(self, tilekey: Path) -> list[Path]:
        return darts_acquisition.list_planet_files(tilekey)

    def _folders(self) -> tuple[Path | None, Path | None]:
        """Return the folders of orthotiles and of scenes; where neither is given, the default ones that exist."""
        named = given(self.orthotiles_dir), given(self.scenes_dir)
        if named == (None, None):
            defaults = (Path(self.orthotiles_dir or ""), Path(self.scenes_dir or ""))
            orthotiles, scenes = (folder if folder.is_dir() else None for folder in defaults)
            return orthotiles, scenes
        for name, folder in zip(("--orthotiles-dir", "--scenes-dir"), named, strict=True):
            if folder is not None and not (folder.is_dir() or (folder.suffix.lower() == ".zip" and folder.is_file())):
                raise NoTilesError(f"There is no folder or zip archive {folder}; correct {name}.")
        return named

    def _where_tiles_were_sought(self) -> str:
        sought = [str(folder) for folder in self._folders() if folder is not None]
        if sought:
            return (
                f"{' and '.join(sought)} hold{'s' * (len(sought) == 1)} no folder of a scene, and no files that begin "
                "with its name (<scene>_3B_AnalyticMS_SR.tif)"
            )
        return "name the folder of the images with --scenes-dir or --orthotiles-dir"

    def _how_to_prepare(self) -> str:
        return "darts inference prep-data planet --aux"

    def _broken_images(self, tasks: Sequence[TileTask]) -> dict[str, str]:
        broken = {}
        for task in tasks:
            try:
                darts_acquisition.check_planet_scene(task.key)
            except Exception as error:  # noqa: BLE001 - a run records any error of a tile, and goes on
                broken[task.tile_id] = f"the scene cannot be loaded ({type(error).__name__})"
                logger.error("Scene %s would fail: %s", task.tile_id, error)  # noqa: TRY400 - no bug of ours
        return broken

    def _tile_areas(
        self,
        tasks: Sequence[TileTask],
        failed: dict[str, Exception],
        *,
        offline: bool = False,  # noqa: ARG002 - nothing is asked
    ) -> "dict[str, GeoBox | Geometry]":
        return areas_of(tasks, failed, darts_acquisition.get_planet_geometry)


def _orthotile_of(scene: Path) -> str:
    """Return the number of the tile that an orthotile shows; of any other scene the name of the folder it lies in."""
    return scene.name.split("_")[1] if _type_of(scene) == "orthotile" else scene.parent.name


def _type_of(scene: Path) -> str | None:
    """Return what `parse_planet_type` says, None for another name."""
    try:
        return darts_acquisition.parse_planet_type(scene)
    except darts_acquisition.SceneNameError:
        return None
