"""STAC APIs through pystac-client: bounded requests, and pages that are checked before anybody relies on them."""

import contextlib
import itertools
import json
import reprlib
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from darts_acquisition.errors import ServiceError, lost, public_url, scrub
from darts_acquisition.io.http import HttpClient
from darts_acquisition.io.settings import RequestLimits
from darts_utils import DartsError

if TYPE_CHECKING:
    from pystac import Item
    from pystac_client import Client

_MOST_PAGES = 5_000
"""A search with more pages does not end."""
_PAGE_BYTES = 24 << 20
_MOST_VALUES = 1_000_000
"""Of a page; two hundred items of Sentinel-2 hold a third."""
_SHOWN = 60
"""Characters of a wrong answer that a message shows."""


def open_api(url: str, collection: str, limits: RequestLimits) -> "Client":
    """Open a STAC API and see that it has a collection with something in it; threads may share the client.

    An API without the collection, a wrong address for instance, would answer every search with nothing, and nothing
    would be remembered as there being no data. ServiceError if the API cannot be reached, or has no such collection, or
    an empty one.
    """
    from pystac_client import Client

    with _reading(f"{public_url(url)} cannot be searched for {collection}"):
        client = Client.open(url, stac_io=make_stac_io(limits))
    try:
        with _reading(f"{public_url(url)} cannot be searched for {collection}"):
            client.get_collection(collection)
            first = next(client.search(collections=[collection], max_items=1, limit=1).items_as_dicts(), None)
    except ServiceError as error:
        if error.failure is not None and error.failure.status == 404:
            raise ServiceError(f"{public_url(url)} has no collection {collection}.", error.failure) from error
        raise
    if first is None:
        raise ServiceError(f"The collection {collection} of {public_url(url)} is empty; expected at least one item.")
    return client


def search_box(client: "Client", collection: str, box: tuple[float, float, float, float]) -> "dict[str, Item]":
    """Return the items of all pages, by name, that a box (west, south, east, north in degrees) touches.

    ServiceError if the search fails, or an item is none.
    """
    from pystac import Item

    found = {}
    for page in client.search(collections=[collection], bbox=box).pages_as_dicts():
        for feature in page["features"]:
            with _reading(f"Searching {collection}: {feature['id'][:_SHOWN]!r} is no item"):
                found[feature["id"]] = Item.from_dict(feature, preserve_dict=False)
    return found


def make_stac_io(limits: RequestLimits) -> Any:
    """Return the StacApiIO that pystac-client makes its requests with: bounded, and under the retry policy."""
    from pystac_client.stac_api_io import StacApiIO

    client = HttpClient(limits)

    class BoundedStacIO(StacApiIO):
        def read_text(self, source: object, *_: object, **__: object) -> str:
            """Read over HTTP, and never from a file, whatever a link says."""
            return self.request(str(source))

        def request(
            self,
            href: str,
            method: str | None = None,
            headers: dict[str, str] | None = None,
            parameters: dict[str, object] | None = None,
        ) -> str:
            """Make a request; return the text of an answer that is JSON."""
            return self._ask((href, method, headers, parameters), _checked_text)

        def get_pages(
            self, url: str, method: str | None = None, parameters: dict[str, object] | None = None
        ) -> Iterator[dict[str, object]]:
            """Yield the pages that hold something; an answer that is no page is an error, and not the last page."""
            asked: tuple[Any, ...] = (url, method, None, parameters)
            seen: set[str] = set()
            for _ in range(_MOST_PAGES):
                page = _checked_page(self._ask(asked, _parse), public_url(asked[0]))
                if page["features"]:
                    yield page
                following = next((link for link in page["links"] if link["rel"] == "next"), None)
                if following is None:
                    return
                with _reading("A link of a STAC API's page cannot be followed"):
                    named = json.dumps(following, sort_keys=True)
                if named in seen:
                    raise ServiceError(f"Searching {public_url(url)}: the pages have no end, one leads to itself.")
                seen.add(named)
                body = following.get("body", {})
                merged = (parameters or {}) | body if following.get("merge") else body
                asked = (following["href"], following.get("method"), following.get("headers"), merged)
            raise ServiceError(f"Searching {public_url(url)}: the pages have no end, {_MOST_PAGES} have come.")

        def close(self) -> None:
            """Close the connections."""
            client.close()

        def _ask(self, request: tuple[Any, ...], parse: Callable[[bytearray], Any]) -> Any:
            href, method, headers, parameters = request
            if urlsplit(href).scheme not in ("http", "https"):
                raise ServiceError(f"{public_url(href)[:_SHOWN]} is no address of a STAC API; expected https://.")
            method = (method or "GET").upper()
            content = {"json": parameters} if method == "POST" else {"params": parameters}
            what = f"Searching {public_url(href)}"
            return client.fetch(href, what, parse, method=method, headers=headers, most_bytes=_PAGE_BYTES, **content)

    return BoundedStacIO(max_retries=None)


def _checked_text(content: bytearray) -> str:
    _parse(content)
    return content.decode("utf-8")


def _parse(content: bytearray) -> object:
    """Read JSON; what is none was cut off on its way (RequestError). ServiceError if it cannot be read at all."""
    values = sum(content.count(mark) for mark in b",[{")
    try:
        if values <= _MOST_VALUES:
            return json.loads(content)
    except RecursionError:
        values = -1
    except ValueError as error:
        raise lost(f"the answer is no whole JSON ({error})"[:200]) from None
    problem = "is nested too deeply" if values < 0 else f"holds more than {_MOST_VALUES} values"
    raise ServiceError(f"A STAC API's answer of {len(content)} bytes {problem}; expected a page of items.")


def _checked_page(page: Any, url: str) -> dict[str, Any]:
    """Return a page if its items have what all must have, else ServiceError: one without a list is not the last."""
    links: Any = (page.get("links") or []) if isinstance(page, dict) else None
    if not _are_objects(links) or not _are_objects(page.get("features")):
        raise ServiceError(f"Searching {url}: the answer is no page of items, but {_shown(page)}.")
    for link in links:
        if not isinstance(link.get("rel"), str) or not isinstance(link.get("href"), str):
            raise ServiceError(f"Searching {url}: {_shown(link)} is no link; expected rel and href.")
        if not all(isinstance(link.get(name, {}), dict | None) for name in ("headers", "body")):
            raise ServiceError(f"Searching {url}: {_shown(link)} is no link; expected objects as headers and body.")
    for item in page["features"]:
        assets = item.get("assets", {})
        fits = isinstance(item.get("id"), str) and isinstance(item.get("properties"), dict)
        if not fits or not isinstance(assets, dict) or not _are_objects(list(assets.values())):
            raise ServiceError(f"Searching {url}: {_shown(item)} is no item; expected id, properties and assets.")
    return page | {"links": links}


def _are_objects(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _shown(value: object) -> str:
    return scrub(reprlib.repr(value)[:_SHOWN])


@contextlib.contextmanager
def _reading(problem: str) -> Iterator[None]:
    """Say, as ServiceError, what pystac cannot make sense of; it checks little, so that anything can be raised."""
    try:
        yield
    except Exception as error:
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        within = itertools.dropwhile(lambda name: not name.startswith("pystac"), modules)
        if isinstance(error, DartsError) or any(name.startswith("darts") for name in within):
            raise  # A mistake in our code, which pystac has called, is none of the service.
        raise ServiceError(f"{problem}: {type(error).__name__}: {scrub(str(error))[:200]}.") from None
