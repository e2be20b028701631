"""The pipeline for PlanetScope scenes and orthotiles."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from darts.errors import ConfigurationError, NoTilesError
from darts.pipelines import checks
from darts.pipelines.options import AbsolutePath, option
from darts.pipelines.sequential_v2.base import _BasePipeline
from darts.run.task import TileJob
from darts_utils import DartsError

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class PlanetPipeline(_BasePipeline):
    """Map slumps in PlanetScope images: a folder of scenes, of orthotiles, or both.

    Results go to ``<output>/<tile_id>/<scene_id>/`` for orthotiles and to ``<output>/<scene_id>/`` for scenes.

    Examples:
        >>> pipeline = PlanetPipeline(scenes_dir="scenes", model_files="model.safetensors", offline=True)
        >>> records = pipeline.run()  # doctest: +SKIP
    """

    orthotiles_dir: AbsolutePath | None = option(
        None,
        help="Folder of orthotiles, laid out tile_id/scene_id/; default <input>/planet/tiles.",
        panel="Input and output",
    )
    scenes_dir: AbsolutePath | None = option(
        None, help="Folder of scenes, laid out scene_id/; default <input>/planet/scenes.", panel="Input and output"
    )
    image_ids: list[str] | None = option(
        None, help="Names of the scenes (or orthotile scenes) to process; default all.", panel="Input and output"
    )

    _dem_resolution: ClassVar[int] = 2
    _prepared_by: ClassVar[str] = "darts inference prep-data planet --aux"
    _optical_variables: ClassVar[tuple[str, ...]] = (*checks.OPTICAL_BANDS, "quality_data_mask", "planet_udm")

    def _output_dir(self) -> Path:
        return self.output_data_dir or self.default_dirs.output / "planet"

    def _folders(self) -> tuple[Path | None, Path | None]:
        """Return the folders of orthotiles and of scenes; where neither is given, the default ones that exist."""
        if self.orthotiles_dir is None and self.scenes_dir is None:
            defaults = (self.default_dirs.planet_orthotiles, self.default_dirs.planet_scenes)
            orthotiles, scenes = (folder if folder.is_dir() else None for folder in defaults)
            return orthotiles, scenes
        for name, folder in (("--orthotiles-dir", self.orthotiles_dir), ("--scenes-dir", self.scenes_dir)):
            if folder is not None and not folder.is_dir():
                raise NoTilesError(f"There is no folder {folder}; correct {name}.")
        return self.orthotiles_dir, self.scenes_dir

    def _where_tiles_were_sought(self) -> str:
        orthotiles, scenes = self._folders()
        sought = [str(folder) for folder in (orthotiles, scenes) if folder is not None]
        lone = [folder for folder in (orthotiles, scenes) if folder is not None and any(folder.glob("*_SR*.tif"))]
        if lone:
            return f"{lone[0]} is itself the folder of a scene; name the folder that it lies in, {lone[0].parent}"
        if sought:
            return f"{' and '.join(sought)} holds no folder of a scene"
        return "name the folder of the images with --scenes-dir or --orthotiles-dir"

    def _jobs(self, output: Path) -> list[TileJob]:
        orthotiles, scenes = self._folders()
        jobs = []
        if orthotiles is not None:
            for tile in _subfolders(orthotiles):
                jobs += [_job(scene, output / tile.name / scene.name) for scene in _subfolders(tile)]
        if scenes is not None:
            jobs += [_job(scene, output / scene.name) for scene in _subfolders(scenes)]
        names = set(checks.select(self.image_ids, [job.tile_id for job in jobs], "scene"))
        return [job for job in jobs if job.tile_id in names]

    def _tile_areas(self, jobs: Sequence[TileJob], failed: list[str]) -> "dict[str, GeoBox | Geometry]":
        from darts_acquisition import get_planet_geometry

        areas: dict[str, GeoBox | Geometry] = {}
        for job in jobs:
            try:
                areas[job.tile_id] = get_planet_geometry(job.source)
            except DartsError as error:
                failed.append(job.tile_id)
                logger.error("Scene %s is left out: %s", job.tile_id, error)  # noqa: TRY400 - no bug of ours
        return areas

    def _prepare_optical(self, jobs: Sequence[TileJob]) -> list[str]:  # noqa: ARG002 - there is nothing to fetch
        raise ConfigurationError("PlanetScope images are not fetched by DARTS; leave --optical out.")

    def _load_optical(self, job: TileJob) -> "xr.Dataset":
        from darts_acquisition import load_planet_masks, load_planet_scene

        scene = load_planet_scene(job.source)
        masks = load_planet_masks(job.source, scene=scene)
        return scene.assign(masks.data_vars)


def _subfolders(folder: Path) -> Iterator[Path]:
    """Yield what may be a delivery, in the order of names: every visible entry that is a folder or a link."""
    if not folder.is_dir():
        yield folder
        return
    for entry in sorted(folder.iterdir()):
        if not entry.name.startswith(".") and (entry.is_dir() or entry.is_symlink()):
            yield entry


def _job(folder: Path, output: Path) -> TileJob:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        files = []  # Loading the tile will say what is wrong with its folder.
    return TileJob(tile_id=folder.name, source=folder, output=output, inputs=tuple(files))
