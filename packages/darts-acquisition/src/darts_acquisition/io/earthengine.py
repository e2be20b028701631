"""Earth Engine through its client, whose requests are bounded as all others are."""

import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from odc.geo.geobox import GeoBox

from darts_acquisition.errors import Failure, LoginError, RequestError, ServiceError, lost, public_url, scrub
from darts_acquisition.io.http import HttpClient, refuse_web_page
from darts_acquisition.io.settings import EarthEngineSettings

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from httplib2 import Response

T = TypeVar("T")

_HIGH_VOLUME_URL = "https://earthengine-highvolume.googleapis.com"
_LOCK = threading.Lock()
"""earthengine-api keeps one connection for the whole process; two threads must not initialise it at once."""


def initialize_earth_engine(settings: EarthEngineSettings | None = None) -> None:
    """Initialise Earth Engine for this process; where somebody has done so before, that stays.

    Args:
        settings: How it is asked, and as whom; None for the defaults.

    Raises:
        LoginError: If there is no login, or it is refused.
        ServiceError: If Earth Engine does not answer.
    """
    EarthEngineClient(settings).initialize()


class EarthEngineClient:
    """Makes requests to Earth Engine, as the settings say. Threads may share one.

    Earth Engine is initialised with the first request; where somebody has done so before, that stays.
    """

    def __init__(self, settings: EarthEngineSettings | None = None) -> None:
        self.settings = settings or EarthEngineSettings()
        self._limiter = self.settings.limits.limiter("Earth Engine")

    def ask(self, request: Callable[[], T], what: str) -> T:
        """Make a request with functions of earthengine-api; `what` names it in messages.

        LoginError if there is no login, or it is refused; ServiceError, with Earth Engine's own words, if it fails.
        """
        self.initialize()
        return self._call(request, what)

    def _call(self, request: Callable[[], T], what: str) -> T:
        import ee
        from google.auth.exceptions import GoogleAuthError

        said: list[str] = []

        def listening() -> T:
            try:
                return request()
            except (ee.EEException, GoogleAuthError) as error:
                said.append(_one_line(error))
                if not isinstance(error, GoogleAuthError):
                    raise
                if error.retryable:
                    raise lost(said[-1]) from None
                raise LoginError(said[-1]) from None

        try:
            return self.settings.limits.retry.call(listening, what, self._limiter)
        except LoginError as error:
            raise LoginError(_login_message(said[-1] if said else _one_line(error)), error.failure) from None
        except ServiceError as error:
            if said and error.failure is not None and not error.failure.transient:
                raise ServiceError(f"{what}: {said[-1]}", error.failure) from None
            raise
        except ee.EEException as error:
            raise ServiceError(f"{what}: {_one_line(error)}") from None

    def initialize(self) -> None:
        """Initialise Earth Engine, unless that was done; raises as `ask` does."""
        import ee
        from google.auth.exceptions import GoogleAuthError

        settings = self.settings
        url = settings.url or os.environ.get("DARTS_EARTHENGINE_URL") or None
        if url is None and settings.use_highvolume:
            url = _HIGH_VOLUME_URL
        with _LOCK:
            if ee.data.is_initialized():
                return
            try:
                credentials = _credentials(settings)
            except (ee.EEException, GoogleAuthError, OSError, ValueError) as error:
                raise LoginError(_login_message(_one_line(error))) from error
            ee.data.setMaxRetries(0)  # What is retried is said in one place.
            options = {"credentials": credentials, "url": url, "project": settings.project}
            transport = _Transport(HttpClient(settings.limits))
            try:
                self._call(lambda: ee.Initialize(**options, http_transport=transport), "Asking Earth Engine")
            except ServiceError as error:
                ee.Reset()
                if error.failure is None and not isinstance(error, LoginError):  # The client refuses: no project?
                    raise LoginError(_login_message(str(error))) from None
                raise


def pixel_grid(geobox: GeoBox) -> dict[str, object]:
    """Describe a grid as `ee.data.computePixels` wants it."""
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    return {
        "dimensions": {"width": geobox.width, "height": geobox.height},
        "affineTransform": dict(zip(names, tuple(geobox.affine)[:6], strict=True)),
        "crsCode": str(geobox.crs),
    }


class _Transport:
    """What earthengine-api makes its requests with: an object like httplib2's, over our own client."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        redirections: int | None = None,  # noqa: ARG002 - part of httplib2's interface
        connection_type: object = None,  # noqa: ARG002 - likewise
    ) -> "tuple[Response, bytes]":
        """Make one request; retries are the caller's."""
        from httplib2 import Response

        answer = self._client.ask(uri, method, {**(headers or {}), "Accept-Encoding": "gzip"}, data=body)
        refuse_web_page(answer.headers if answer.status < 400 else {}, b"", uri)
        told = {name.lower(): value for name, value in answer.headers.items()}
        content = bytes(answer.content)
        if "/$discovery/" in uri and (answer.status == 404 or (answer.status < 400 and not _is_object(content))):
            said = f"{public_url(uri)} does not describe Earth Engine; see DARTS_EARTHENGINE_URL"
            raise RequestError(Failure(said, transient=False, status=answer.status))
        if answer.status >= 400 or not content or "json" in told.get("content-type", ""):
            content = _checked_json(answer.status, content)
        return Response(told | {"status": str(answer.status)}), content


def _checked_json(status: int, content: bytes) -> bytes:
    """Return JSON as it is, an error that is none with an empty description; RequestError if it is cut off."""
    if _is_object(content):
        return content
    if status < 400:
        raise lost("the answer is no whole JSON object")
    return json.dumps({"error": {"code": status, "message": f"HTTP status {status}"}}).encode()


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _credentials(settings: EarthEngineSettings) -> "Credentials":
    """Return the login: one that somebody made, a service account's, or the one that is stored on this machine."""
    import ee
    from google.oauth2.service_account import Credentials

    if settings.credentials is not None:
        return settings.credentials
    if settings.service_account_file is None:
        return ee.data.get_persistent_credentials()
    return Credentials.from_service_account_file(str(settings.service_account_file), scopes=ee.oauth.SCOPES)


def _login_message(text: str) -> str:
    if "authorize access" in text:
        return (
            "Earth Engine needs a login: run `earthengine authenticate` once, or name the key file of a service "
            "account in GOOGLE_APPLICATION_CREDENTIALS."
        )
    if "no project found" in text:
        return "Earth Engine needs a Cloud project: name it with ee_project."
    return (
        f"Earth Engine refuses the login ({text.rstrip('.')}): renew it with `earthengine authenticate`, and see that "
        "the project (ee_project) may use Earth Engine."
    )


def _one_line(error: BaseException) -> str:
    text = scrub(" ".join(str(error).split())) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
