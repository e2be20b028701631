"""Ask Earth Engine: initialised when something is asked for, under the one retry policy."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from darts_acquisition.errors import LoginError, ServiceError
from darts_acquisition.failures import failure_of
from darts_acquisition.settings import EarthEngineSettings

T = TypeVar("T")

_HIGH_VOLUME_URL = "https://earthengine-highvolume.googleapis.com"


class EarthEngineClient:
    """Makes requests to Earth Engine. Threads may share one.

    Earth Engine is initialised with the first request; where somebody has done so before, that stays.

    Args:
        settings: How it is asked, and as whom; None for the defaults.
    """

    def __init__(self, settings: EarthEngineSettings | None = None) -> None:
        self.settings = settings or EarthEngineSettings()
        self._limiter = self.settings.limits.limiter()

    def ask(self, request: Callable[[], T], what: str) -> T:
        """Make a request.

        Args:
            request: Makes it, with functions of earthengine-api.
            what: What is requested, for messages.

        Returns:
            What the request returned.

        Raises:
            LoginError: If there is no login, or it is refused.
            ServiceError: If the request is refused, or all attempts have failed.
        """
        import ee

        self._initialize()
        try:
            return self.settings.limits.retry.call(request, what, self._limiter)
        except ee.EEException as error:
            raise ServiceError(f"{what}: {_one_line(error)}", failure_of(error)) from error
        except ServiceError as error:
            cause = error.__cause__
            if isinstance(cause, ee.EEException) and error.failure is not None and error.failure.status == 400:
                raise ServiceError(f"{what}: {_one_line(cause)}", error.failure) from cause
            raise

    def _initialize(self) -> None:
        import ee

        if ee.data.is_initialized():
            return
        settings = self.settings
        url = settings.url or os.environ.get("DARTS_EARTHENGINE_URL") or None
        if url is None and settings.use_highvolume:
            url = _HIGH_VOLUME_URL
        project = {} if settings.project is None else {"project": settings.project}
        credentials = {"credentials": _credentials(settings)} if _has_credentials(settings) else {}
        try:
            ee.Initialize(url=url, **project, **credentials)
        except (ee.EEException, OSError, ValueError) as error:
            failure = failure_of(error)
            if failure is not None and not failure.login:
                raise ServiceError(f"Earth Engine cannot be reached: {failure.reason}.", failure) from error
            raise LoginError(
                f"Earth Engine cannot be used: {_one_line(error)} Log in with `earthengine authenticate`, and name a "
                "project with ee_project.",
                failure,
            ) from error
        ee.data.setMaxRetries(0)  # What is tried again is said in one place.
        ee.data.setDeadline(settings.limits.timeout_s * 1000)


def _has_credentials(settings: EarthEngineSettings) -> bool:
    return settings.credentials is not None or settings.service_account_file is not None


def _credentials(settings: EarthEngineSettings) -> Any:
    import ee

    if settings.credentials is not None:
        return settings.credentials
    return ee.ServiceAccountCredentials(None, key_file=str(settings.service_account_file))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
