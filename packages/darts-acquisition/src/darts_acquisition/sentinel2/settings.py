"""Where Sentinel-2 comes from: settings, so that a mirror or a test server can stand in."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from darts_acquisition.io.settings import RequestLimits, S3Settings
from darts_utils import ParameterError

CDSE_STAC_URL = "https://stac.dataspace.copernicus.eu/v1/"
CDSE_S3_URL = "https://eodata.dataspace.copernicus.eu"


@dataclass(frozen=True, kw_only=True)
class CDSESettings:
    """The Copernicus Data Space: a STAC API, and the object storage that its items name.

    Keys of the object storage are not written here: botocore finds them, usually in a profile of ``~/.aws``.

    Attributes:
        stac_url: Address of the STAC API.
        collection: Its collection of Sentinel-2 L2A.
        s3: Object storage of the assets.
        limits: How many requests are made; the Data Space grants four downloads at once.
    """

    stac_url: str = CDSE_STAC_URL
    collection: str = "sentinel-2-l2a"
    s3: S3Settings = field(default_factory=lambda: S3Settings(endpoint_url=CDSE_S3_URL, region="default"))
    limits: RequestLimits = field(default_factory=lambda: RequestLimits(parallel=4))

    def __post_init__(self) -> None:
        parts = urlsplit(self.stac_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ParameterError(
                "stac_url is not an address that begins with https:// or http:// and holds no user name."
            )

    @classmethod
    def from_environment(cls) -> "CDSESettings":
        """Return the defaults, with what variables of the environment set.

        ``DARTS_CDSE_STAC_URL`` and ``DARTS_CDSE_S3_URL`` are addresses. ``DARTS_CDSE_PROFILE`` is a profile of
        ``~/.aws``; without it botocore looks at ``AWS_PROFILE`` and the default one. ``DARTS_CDSE_REQUESTS_PER_SECOND``
        limits the rate of requests, that of searches and that of downloads each.

        Raises:
            ParameterError: If an address is none, or the rate no number above 0.
        """
        return cls(
            stac_url=os.environ.get("DARTS_CDSE_STAC_URL") or CDSE_STAC_URL,
            s3=S3Settings(
                endpoint_url=os.environ.get("DARTS_CDSE_S3_URL") or CDSE_S3_URL,
                region="default",
                profile=os.environ.get("DARTS_CDSE_PROFILE") or None,
            ),
            limits=RequestLimits(parallel=4, per_second=_rate("DARTS_CDSE_REQUESTS_PER_SECOND")),
        )


def _rate(name: str) -> float | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not rate > 0:
        raise ParameterError(f"{name} is {text!r}; expected a number of requests per second above 0.")
    return rate
