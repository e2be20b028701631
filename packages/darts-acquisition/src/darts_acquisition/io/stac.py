"""Ask a STAC API, politely: each request goes through the retry policy and keeps to the rate."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from darts_acquisition.errors import ServiceError
from darts_acquisition.io.failures import failure_of
from darts_acquisition.io.settings import RequestLimits
from darts_acquisition.io.transfer import public_url

if TYPE_CHECKING:
    from pystac_client import Client

_MOST_PAGES = 5_000
"""A search with more pages does not end: the service repeats itself."""


def open_api(url: str, collection: str, limits: RequestLimits) -> "Client":
    """Open a STAC API and see that it has a collection with something in it.

    An API without the collection, a wrong address for instance, would answer every search with nothing, and nothing
    would be remembered as there being no data.

    Args:
        url: Address of the API.
        collection: Name of a collection.
        limits: How many requests are made, and what happens when one fails.

    Returns:
        The client; threads may share it.

    Raises:
        ServiceError: If the API cannot be reached, or has no such collection, or an empty one.
    """
    from pystac_client import Client
    from pystac_client.exceptions import APIError

    client = Client.open(url, stac_io=make_stac_io(limits))
    try:
        client.get_collection(collection)
        first = next(client.search(collections=[collection], max_items=1, limit=1).items(), None)
    except (APIError, KeyError) as error:
        raise ServiceError(f"{public_url(url)} cannot be searched for {collection}: {error}") from error
    except ServiceError as error:
        if error.failure is not None and error.failure.status == 404:
            raise ServiceError(f"{public_url(url)} has no collection {collection}.", error.failure) from error
        raise
    if first is None:
        raise ServiceError(f"The collection {collection} of {public_url(url)} is empty; expected at least one item.")
    return client


def search_box(client: "Client", collection: str, box: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return the items of a collection that a box touches, by name.

    Args:
        client: The API.
        collection: Name of the collection.
        box: West, south, east, north in degrees.

    Returns:
        The items of all pages.

    Raises:
        ServiceError: If the search fails.
    """
    return {item.id: item for item in client.search(collections=[collection], bbox=box).items()}


def make_stac_io(limits: RequestLimits) -> Any:
    """Return what pystac-client makes its requests with: an object that follows the retry policy.

    Args:
        limits: Timeout, rate, and what happens when a request fails.

    Returns:
        A `pystac_client.stac_api_io.StacApiIO`.
    """
    from pystac import Link
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    class PoliteStacIO(StacApiIO):
        def request(self, href: str, *args: Any, **kwargs: Any) -> str:
            """Make a request; what the service said is looked for within pystac-client's own error."""
            what = f"Searching {public_url(href)}"

            def ask() -> str:
                answer = super(PoliteStacIO, self).request(href, *args, **kwargs)
                try:
                    json.loads(answer)
                except ValueError as error:
                    raise ConnectionError(f"the answer is incomplete: {error}") from error
                return answer

            try:
                return limits.retry.call(ask, what, limits.limiter(urlsplit(href).netloc))
            except APIError as error:
                raise ServiceError(f"{what}: {error}", failure_of(error)) from error

        def get_pages(
            self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
        ) -> Iterator[dict[str, Any]]:
            """Yield the pages that hold something; an answer that is no page is an error, and not the last page."""
            page = self.read_json(url, method=method, parameters=parameters)
            for _ in range(_MOST_PAGES):
                if _listed(page, url):
                    yield page
                following = next((link for link in page.get("links", ()) if link["rel"] == "next"), None)
                if following is None:
                    return
                page = self.read_json(Link.from_dict(following), parameters=parameters)
            raise ServiceError(f"Searching {public_url(url)}: the pages have no end.")

    io = PoliteStacIO(timeout=limits.timeout_s, max_retries=None)
    io.session.hooks["response"].append(_raise_for_status)
    return io


def _listed(page: Any, url: str) -> list[Any]:
    """Return what a page lists: items or collections. An answer without a list would pass for there being nothing."""
    listed = page.get("features", page.get("collections")) if isinstance(page, dict) else None
    if not isinstance(listed, list):
        raise ServiceError(f"Searching {public_url(url)}: the answer is no page of items, but {json.dumps(page)[:60]}.")
    return listed


def _raise_for_status(response: Any, *_: Any, **__: Any) -> None:
    """Raise the error that carries the service's answer; what it says is read first, or its connection would leak."""
    if not response.ok:
        response.content  # noqa: B018 - reads it
    response.raise_for_status()
