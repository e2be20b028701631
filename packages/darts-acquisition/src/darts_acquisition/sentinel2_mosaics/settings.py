"""Where the quarterly mosaics come from."""

from dataclasses import dataclass

from darts_acquisition.sentinel2.settings import CDSESettings


@dataclass(frozen=True, kw_only=True)
class CDSEMosaicSettings(CDSESettings):
    """The Copernicus Data Space, as :class:`CDSESettings`, and its collection of quarterly mosaics.

    Attributes:
        collection: Its collection of quarterly mosaics.
    """

    collection: str = "sentinel-2-global-mosaics"

    @classmethod
    def from_environment(cls) -> "CDSEMosaicSettings":
        """Return the defaults, with what variables of the environment set, see `CDSESettings.from_environment`.

        Raises:
            ParameterError: If an address is none, or the rate no number above 0.
        """
        found = CDSESettings.from_environment()
        return cls(stac_url=found.stac_url, s3=found.s3, limits=found.limits)
