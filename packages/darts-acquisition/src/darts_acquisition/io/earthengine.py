"""Ask Earth Engine: initialised when something is asked for, under the one retry policy."""

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from darts_acquisition.errors import LoginError, ServiceError
from darts_acquisition.io.failures import failure_of
from darts_acquisition.io.settings import EarthEngineSettings

T = TypeVar("T")

_HIGH_VOLUME_URL = "https://earthengine-highvolume.googleapis.com"
_LOCK = threading.Lock()
"""earthengine-api keeps one connection for the whole process; two threads must not initialise it at once."""


class EarthEngineClient:
    """Makes requests to Earth Engine. Threads may share one.

    Earth Engine is initialised with the first request; where somebody has done so before, that stays.

    Args:
        settings: How it is asked, and as whom; None for the defaults.
    """

    def __init__(self, settings: EarthEngineSettings | None = None) -> None:
        self.settings = settings or EarthEngineSettings()
        self._limiter = self.settings.limits.limiter("Earth Engine")

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
        with _LOCK:
            self._initialize()
        return self._call(request, what)

    def _call(self, request: Callable[[], T], what: str) -> T:
        import ee

        try:
            return self.settings.limits.retry.call(request, what, self._limiter)
        except LoginError as error:
            raise LoginError(_login_message(error.__cause__ or error), error.failure) from error
        except ServiceError as error:
            if (
                isinstance(error.__cause__, ee.EEException)
                and error.failure is not None
                and not error.failure.temporary
            ):
                raise ServiceError(f"{what}: {_one_line(error.__cause__)}", error.failure) from error.__cause__
            raise
        except ee.EEException as error:
            raise ServiceError(f"{what}: {_one_line(error)}", failure_of(error)) from error

    def _initialize(self) -> None:
        import ee
        from google.auth.exceptions import GoogleAuthError

        if ee.data.is_initialized():
            return
        settings = self.settings
        url = settings.url or os.environ.get("DARTS_EARTHENGINE_URL") or None
        if url is None and settings.use_highvolume:
            url = _HIGH_VOLUME_URL
        try:
            credentials = _credentials(settings)
        except (ee.EEException, GoogleAuthError, OSError, ValueError) as error:
            raise LoginError(_login_message(error)) from error
        try:
            ee.data.setMaxRetries(0)  # What is tried again is said in one place.
            self._call(
                lambda: ee.Initialize(credentials=credentials, url=url, project=settings.project), "Asking Earth Engine"
            )
        except ServiceError as error:
            ee.Reset()
            if error.failure is None:  # earthengine-api itself refuses: no project, for instance
                raise LoginError(_login_message(error.__cause__ or error)) from error
            raise
        # The service is there; from now on a request that takes too long counts as lost.
        self._call(lambda: ee.data.setDeadline(settings.limits.timeout_s * 1000), "Asking Earth Engine")


def _credentials(settings: EarthEngineSettings) -> Any:
    """Return the login: one that somebody made, a service account's, or the one that is stored on this machine."""
    import ee
    from google.oauth2.service_account import Credentials

    if settings.credentials is not None:
        return settings.credentials
    if settings.service_account_file is None:
        return ee.data.get_persistent_credentials()
    return Credentials.from_service_account_file(str(settings.service_account_file), scopes=ee.oauth.SCOPES)


def _login_message(error: BaseException) -> str:
    """Say what to do, in one sentence."""
    text = _one_line(error)
    if "authorize access" in text:
        return (
            "Earth Engine needs a login: run `earthengine authenticate` once, or name the key file of a service "
            "account in GOOGLE_APPLICATION_CREDENTIALS."
        )
    if "no project found" in text:
        return "Earth Engine needs a Cloud project: name it with ee_project (--ee-project)."
    return (
        f"Earth Engine refuses the login ({text.rstrip('.')}): renew it with `earthengine authenticate`, and see that "
        "the project (ee_project) may use Earth Engine."
    )


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
