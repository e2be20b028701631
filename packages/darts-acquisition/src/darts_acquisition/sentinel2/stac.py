"""Search a STAC API: page by page, each request under the retry policy."""

import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from darts_acquisition.errors import ServiceError
from darts_acquisition.settings import RequestLimits

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_PAGE_SIZE = 200
_MOST_PAGES = 5_000
"""A search with more pages does not end: the service repeats itself."""


class StacApi:
    """A STAC API that answers searches (STAC API specification, "Item Search").

    Args:
        url: Its address.
        limits: How many requests are made.
    """

    def __init__(self, url: str, limits: RequestLimits) -> None:
        import requests

        self._url = url.rstrip("/") + "/"
        self._limits = limits
        self._limiter = limits.limiter()
        self._session = requests.Session()

    def search(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the items that a search finds, from all its pages.

        Args:
            body: The search as JSON: `collections`, `ids`, `intersects`, `datetime`, `filter` and so on.

        Raises:
            ServiceError: If the service refuses, fails until the last attempt, or answers with something else.
        """
        url, body, method = urljoin(self._url, "search"), {"limit": _PAGE_SIZE} | body, "POST"
        asked: set[str] = set()
        while True:
            page = self._ask(method, url, body)
            try:
                yield from page["features"]
                following = next((link for link in page.get("links", ()) if link.get("rel") == "next"), None)
                if following is None:
                    return
                url = urljoin(url, following["href"])
                method = following.get("method", "GET").upper()
                new = following.get("body", {})
                body = body | new if following.get("merge") else new
            except (KeyError, TypeError, AttributeError) as error:
                raise ServiceError(f"Searching {self._url}: the answer is no page of items ({error!r}).") from error
            key = json.dumps([method, url, body], sort_keys=True)
            if key in asked or len(asked) > _MOST_PAGES:
                raise ServiceError(f"Searching {self._url}: the service names the same page again and again.")
            asked.add(key)

    def _ask(self, method: str, url: str, body: dict[str, Any]) -> Any:
        def request() -> "requests.Response":
            content = {"json": body} if method == "POST" else {}
            answer = self._session.request(method, url, timeout=self._limits.timeout_s, **content)  # type: ignore[arg-type]
            answer.raise_for_status()
            return answer

        answer = self._limits.retry.call(request, f"Searching {self._url}", self._limiter)
        try:
            return answer.json()
        except ValueError as error:
            raise ServiceError(f"Searching {self._url}: the answer is no JSON.") from error
