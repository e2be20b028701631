"""The pipeline for quarterly Sentinel-2 mosaics of the Copernicus Data Space."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import darts_acquisition
from darts.errors import ConfigurationError
from darts.pipelines.options import option
from darts.pipelines.sequential_v2.sentinel2 import Percent, Sentinel2Pipeline
from darts_utils import OPTICAL_BANDS

if TYPE_CHECKING:
    import xarray as xr

    from darts_acquisition import CDSEMosaicSource

_NOT_OF_A_QUARTER = ("start_date", "end_date", "months", "max_cloud_cover", "max_snow_cover")


@dataclass
class Sentinel2MosaicPipeline(Sentinel2Pipeline):
    """Map slumps in quarterly mosaics; ``Sentinel2Pipeline(raw_data_source="cdse-mosaic")`` makes one.

    Examples:
        >>> pipeline = Sentinel2MosaicPipeline(tile_ids=["08WMA"], quarters=[3], years=[2023])
        >>> records = pipeline.run()  # doctest: +SKIP
    """

    max_cloud_cover: Percent = option(None, help="Does not apply to mosaics.")
    max_snow_cover: Percent = option(None, help="Does not apply to mosaics.")
    raw_data_source: Literal["cdse-mosaic"] = option(
        "cdse-mosaic", help="Where mosaics come from.", affects_results=True
    )

    _optical_variables: ClassVar[tuple[str, ...]] = (*OPTICAL_BANDS, "quality_data_mask")

    def _check_conditions(self) -> None:
        wrong = [name for name in _NOT_OF_A_QUARTER if getattr(self, name) is not None]
        if wrong:
            raise ConfigurationError(
                f"{' and '.join(wrong)} cannot be used with quarterly mosaics (raw_data_source 'cdse-mosaic'), which "
                "show a whole quarter; leave it out, and choose by quarters and years."
            )

    def _conditions(self) -> dict[str, object]:
        return {"quarters": self.quarters, "years": self.years}

    def _load_tile(self, tilekey: str) -> "xr.Dataset":
        return self._source().load(tilekey, self.raw_data_store, offline=self.offline)

    def _source(self) -> "CDSEMosaicSource":
        return darts_acquisition.CDSEMosaicSource()

    def _how_to_widen(self) -> str:
        return "no mosaic fits the selection; name other quarters or years"


Sentinel2Pipeline._pipelines_by_source["cdse-mosaic"] = Sentinel2MosaicPipeline
