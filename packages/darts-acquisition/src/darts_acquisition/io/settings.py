"""Where services are, as whom and how fast they are asked: settings, so that a mirror or a test server can stand in.

TLS certificates are always verified. To trust those of a mirror with its own authority, name its file in the
environment variables ``REQUESTS_CA_BUNDLE`` and ``AWS_CA_BUNDLE``, which the libraries read.
"""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from darts_acquisition.io.retry import RateLimiter, RetryPolicy
from darts_utils import ParameterError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

_LIMITERS: dict[tuple[object, ...], RateLimiter] = {}
_LIMITERS_LOCK = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """How many requests a service gets, and what happens when one fails.

    Attributes:
        parallel: Requests at the same time.
        per_second: Requests per second of this process; None for no limit.
        timeout_s: Seconds without a byte after which a connection counts as lost.
        retry: What is retried.
    """

    parallel: int = 8
    per_second: float | None = None
    timeout_s: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        if self.parallel < 1 or self.timeout_s <= 0:
            raise ParameterError(
                f"parallel is {self.parallel} and timeout_s {self.timeout_s}; expected 1 or more, and more than 0."
            )

    def limiter(self, service: str) -> RateLimiter:
        """Return the rate limiter of a service: one for the whole process, however many objects ask the service."""
        key = (service, self.per_second, self.retry.clock, self.retry.sleep)
        with _LIMITERS_LOCK:
            if key not in _LIMITERS:
                _LIMITERS[key] = RateLimiter(self.per_second, clock=self.retry.clock, sleep=self.retry.sleep)
            return _LIMITERS[key]


class _WithAddress:
    def __post_init__(self) -> None:
        for name in ("endpoint_url", "stac_url", "url"):
            _check_url(name, getattr(self, name, None))


@dataclass(frozen=True, kw_only=True)
class S3Settings(_WithAddress):
    """Which object storage ``s3://`` means, and as whom it is asked.

    Keys are not written here: they come from where the AWS tools find them (a profile in ``~/.aws``, the environment,
    the role of a machine).

    Attributes:
        endpoint_url: Address of the storage; None for ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``, else Amazon's.
        region: None for ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, else that of the profile, else us-east-1.
        profile: Profile of ``~/.aws``; None for the default one.
        anonymous: Ask without keys, as public buckets allow.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False

    @property
    def endpoint(self) -> str | None:
        """Address of the storage after a look at the environment; None for Amazon's."""
        return self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


@dataclass(frozen=True, kw_only=True)
class ArcticDEMSettings(_WithAddress):
    """Where ArcticDEM comes from: a STAC API whose items name GeoTIFFs.

    Attributes:
        stac_url: Address of the STAC API.
        collections: Collection by resolution in metres; None for those of the mosaics v4.1.
        dem_asset: Name of the asset that holds the elevation.
        mask_asset: Name of the asset that holds the data mask.
        limits: How many requests are made.
        s3: Storage of assets whose address begins with ``s3://``.
    """

    stac_url: str = "https://stac.pgc.umn.edu/api/v1/"
    collections: dict[int, str] | None = None
    dem_asset: str = "dem"
    mask_asset: str = "datamask"
    limits: RequestLimits = field(default_factory=RequestLimits)
    s3: S3Settings = field(default_factory=lambda: S3Settings(region="us-west-2", anonymous=True))

    @classmethod
    def from_environment(cls) -> "ArcticDEMSettings":
        """Return the defaults, with the STAC API that ``DARTS_ARCTICDEM_STAC_URL`` names where it is set."""
        url = os.environ.get("DARTS_ARCTICDEM_STAC_URL")
        return cls(stac_url=url) if url else cls()


@dataclass(frozen=True, kw_only=True)
class EarthEngineSettings(_WithAddress):
    """How Earth Engine is asked, and as whom.

    Attributes:
        project: Cloud project that the requests are counted for; None for that of the login.
        use_highvolume: Ask the endpoint that is made for many small requests.
        url: Address of the service, before `use_highvolume`; None for ``DARTS_EARTHENGINE_URL``, else Google's.
        service_account_file: Key file (JSON) of a service account; None for the login of ``earthengine authenticate``
            or what ``GOOGLE_APPLICATION_CREDENTIALS`` names.
        credentials: Credentials of google-auth that somebody made; they go before the file and are never shown.
        limits: How many requests are made; Earth Engine answers 40 at a time.
    """

    project: str | None = None
    use_highvolume: bool = True
    url: str | None = None
    service_account_file: Path | None = None
    credentials: "Credentials | None" = field(default=None, repr=False, compare=False)
    limits: RequestLimits = field(default_factory=lambda: RequestLimits(parallel=8, timeout_s=300))


CDSE_STAC_URL = "https://stac.dataspace.copernicus.eu/v1/"
CDSE_S3_URL = "https://eodata.dataspace.copernicus.eu"


@dataclass(frozen=True, kw_only=True)
class CDSESettings(_WithAddress):
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

    @classmethod
    def from_environment(cls) -> Self:
        """Return the defaults, with what variables of the environment set.

        ``DARTS_CDSE_STAC_URL`` and ``DARTS_CDSE_S3_URL`` are addresses. ``DARTS_CDSE_PROFILE`` is a profile of
        ``~/.aws``; without it botocore looks at ``AWS_PROFILE`` and the default one. ``DARTS_CDSE_REQUESTS_PER_SECOND``
        limits the rate of requests, that of searches and that of downloads each.

        Returns:
            The settings.

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


@dataclass(frozen=True, kw_only=True)
class CDSEMosaicSettings(CDSESettings):
    """The Copernicus Data Space, as :class:`CDSESettings`, and its collection of quarterly mosaics.

    Attributes:
        stac_url, s3, limits: As of :class:`CDSESettings`.
        collection: Its collection of quarterly mosaics.
    """

    collection: str = "sentinel-2-global-mosaics"


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


def _check_url(name: str, url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ParameterError(f"{name} is not an address that begins with https:// or http://.")
    if parts.username or parts.password:
        raise ParameterError(f"{name} holds a user name or password; write them into ~/.netrc instead.")
