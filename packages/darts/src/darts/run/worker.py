"""What happens to one tile: a short list of stages, each of which takes the tile one step further."""

from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts.run.resume import DEPENDS_ON
from darts.run.task import Stage, Work
from darts_utils import Device

if TYPE_CHECKING:
    from darts.pipelines.sequential_v2.base import _BasePipeline
    from darts_segmentation import EnsembleV1


@dataclass(frozen=True)
class Session:
    """What all tiles of a run share.

    Attributes:
        device: Where the work is done.
        ensemble: The networks.
        models: Files of the ensemble's members, by name.
        model_hashes: SHA-256 of the members, by name.
        features: Variables that preprocessing must add.
        subsets: Members whose own results are written.
        arcticdem_dir: ArcticDEM datacube, None where no elevation is needed.
        tcvis_dir: TCVIS datacube, None where no trend is needed.
        configuration: The pipeline's configuration, as it goes into the results.
        versions: Versions of the packages at the start of the run.
    """

    device: Device
    ensemble: "EnsembleV1"
    models: dict[str, Path]
    model_hashes: dict[str, str]
    features: tuple[str, ...]
    subsets: tuple[str, ...]
    arcticdem_dir: str | None
    tcvis_dir: str | None
    configuration: dict[str, Any]
    versions: dict[str, str]


def dem_margin_px(radius_m: float, resolution: int) -> int:
    """Return how many pixels of ArcticDEM are needed around a tile for its topographic position index.

    The corner of the margin lies √2 radii away from that of the tile, since the grids are rotated; lengths
    in EPSG:3413 are up to 1.1 times those on the ground down to 50° N (Snyder 1987, eq. 21-32); rounding the radius up
    to cells of the tile and the kernel of the resampling take some pixels more.

    Args:
        radius_m: Outer radius of the index in metres.
        resolution: Pixel size of the DEM in metres.

    Returns:
        Pixels of the DEM.

    Examples:
        >>> dem_margin_px(100, 2)
        88
    """
    return ceil(2**0.5 * 1.1 * radius_m / resolution) + 10


class TileStages:
    """The stages of a tile, bound to what all tiles of a run share.

    Args:
        pipeline: The configuration, and how optical data is loaded.
        session: Ensemble, device and datacubes of the run.
    """

    def __init__(self, pipeline: "_BasePipeline", session: Session) -> None:
        self.pipeline = pipeline
        self.session = session

    def list(self) -> list[Stage]:
        """List the stages that a tile of this run needs, by the names of the records."""
        session = self.session
        stages = [Stage("Loading Optical", "before", self._optical)]
        if session.arcticdem_dir is not None:
            stages.append(Stage("Loading ArcticDEM", "before", partial(self._arcticdem, session.arcticdem_dir)))
        if session.tcvis_dir is not None:
            stages.append(Stage("Loading TCVis", "before", partial(self._tcvis, session.tcvis_dir)))
        return [
            *stages,
            Stage("Preprocessing", "before", self._preprocess),
            Stage("Segmenting", "network", self._segment),
            Stage("Postprocessing", "after", self._postprocess),
            Stage("Exporting", "after", self._export, writes=True),
        ]

    def _optical(self, work: Work) -> None:
        work.tile = self.pipeline._load_optical(work.job)

    def _arcticdem(self, cube: str, work: Work) -> None:
        from darts_acquisition import load_arcticdem

        resolution = self.pipeline._dem_resolution
        work.arcticdem = load_arcticdem(
            work.peek().odc.geobox,
            cube,
            resolution,
            buffer=dem_margin_px(self.pipeline.tpi_outer_radius, resolution),
            offline=self.pipeline.offline,
        )

    def _tcvis(self, cube: str, work: Work) -> None:
        from darts_acquisition import EarthEngineSettings, load_tcvis

        settings = EarthEngineSettings(project=self.pipeline.ee_project, use_highvolume=self.pipeline.ee_use_highvolume)
        work.tcvis = load_tcvis(work.peek().odc.geobox, cube, offline=self.pipeline.offline, settings=settings)

    def _preprocess(self, work: Work) -> None:
        from darts_preprocessing import preprocess_v2

        arcticdem, work.arcticdem = work.arcticdem, None
        tcvis, work.tcvis = work.tcvis, None
        work.tile = preprocess_v2(
            work.take(),
            arcticdem,
            tcvis,
            self.pipeline.tpi_outer_radius,
            self.pipeline.tpi_inner_radius,
            device=str(self.session.device),
            features=self.session.features,
        )

    def _segment(self, work: Work) -> None:
        work.tile = self.session.ensemble.segment_tile(
            work.take(),
            patch_size=self.pipeline.patch_size,
            overlap=self.pipeline.overlap,
            batch_size=self.pipeline.batch_size,
            reflection=self.pipeline.reflection,
            keep_inputs=bool(self.session.subsets),
            precision=self.pipeline.precision,
            tta=self.pipeline.tta,
        )

    def _postprocess(self, work: Work) -> None:
        from darts_postprocessing import prepare_export

        work.tile = prepare_export(
            work.take(),
            bin_threshold=self.pipeline.binarization_threshold,
            mask_erosion_size=self.pipeline.mask_erosion_size,
            min_object_size=self.pipeline.min_object_size,
            quality_level=self.pipeline.quality_level,
            ensemble_subsets=self.session.subsets,
            device=str(self.session.device),
            edge_erosion_size=self.pipeline.edge_erosion_size,
            edge_objects=self.pipeline.edge_objects,
        )

    def _export(self, work: Work) -> None:
        from darts_export import export_tile

        metadata = {
            "pipeline": type(self.pipeline).__name__,
            "source_scene": {"id": work.job.tile_id, "href": str(work.job.source)},
            "configuration": self.session.configuration,
            "models": {
                name: {
                    "href": str(path),
                    "sha256": self.session.model_hashes[name],
                    "card": self.session.ensemble.cards[name].to_dict(),
                }
                for name, path in self.session.models.items()
            },
            "versions": self.session.versions,
            "device": str(self.session.device),
            DEPENDS_ON: work.depends_on,
        }
        export_tile(
            work.take(),
            work.job.output,
            bands=self.pipeline.export_bands,
            ensemble_subsets=self.session.subsets,
            metadata=metadata,
            debug=self.pipeline.debug_data,
            fingerprint=work.fingerprint,
        )
