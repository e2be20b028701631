"""A STAC API on 127.0.0.1: searches by GET and POST with CQL2 filters, in pages that name the next one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import cql2
from shapely.geometry import box, shape

from support.local_server import Answer, LocalServer, Request

CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#filter",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    "http://www.opengis.net/spec/cql2/1.0/conf/basic-cql2",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text",
]


class StacApi:
    """Collections and their items.

    Attributes:
        items: Items as GeoJSON, each with its `collection`; may be changed while the server runs.
        page_size: Items per page where the search names no limit.
    """

    def __init__(self, items: list[dict[str, Any]], page_size: int = 10) -> None:
        self.items = items
        self.page_size = page_size
        self.url = ""

    def respond(self, request: Request) -> Answer:
        words = [word for word in request.path.split("/") if word]
        match words:
            case []:
                return Answer.of_json(self._landing())
            case ["conformance"]:
                return Answer.of_json({"conformsTo": CONFORMANCE})
            case ["collections"]:
                return Answer.of_json({"collections": [self._collection(name) for name in self._names()], "links": []})
            case ["collections", name] if name in self._names():
                return Answer.of_json(self._collection(name))
            case ["collections", name, "items"] if name in self._names():
                return self._search(request, {**request.query, "collections": [name]})
            case ["collections", name, "items", item_id]:
                found = [item for item in self.items if (item["collection"], item["id"]) == (name, item_id)]
                return Answer.of_json(found[0]) if found else Answer.of_json({"code": "NotFound"}, 404)
            case ["search"]:
                return self._search(request, request.json if request.method == "POST" else dict(request.query))
        return Answer.of_json({"code": "NotFoundError", "description": "no such resource"}, 404)

    def _names(self) -> list[str]:
        return sorted({item["collection"] for item in self.items})

    def _landing(self) -> dict[str, Any]:
        def link(rel: str, path: str, **more: str) -> dict[str, str]:
            return {"rel": rel, "href": self.url + path, "type": "application/json"} | more

        return {
            "type": "Catalog",
            "id": "local",
            "description": "a STAC API of the tests",
            "stac_version": "1.0.0",
            "conformsTo": CONFORMANCE,
            "links": [
                link("self", "/"),
                link("root", "/"),
                link("data", "/collections"),
                link("conformance", "/conformance"),
                link("search", "/search", method="GET", type="application/geo+json"),
                link("search", "/search", method="POST", type="application/geo+json"),
                *(link("child", f"/collections/{name}") for name in self._names()),
            ],
        }

    def _collection(self, name: str) -> dict[str, Any]:
        return {
            "type": "Collection",
            "id": name,
            "description": name,
            "stac_version": "1.0.0",
            "license": "other",
            "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
            "links": [
                {"rel": "self", "href": f"{self.url}/collections/{name}", "type": "application/json"},
                {"rel": "root", "href": f"{self.url}/", "type": "application/json"},
                {"rel": "items", "href": f"{self.url}/collections/{name}/items", "type": "application/geo+json"},
            ],
        }

    def _search(self, request: Request, search: dict[str, Any]) -> Answer:
        try:
            found = [item for item in self.items if _matches(item, search)]
        except (ValueError, cql2.ParseError, cql2.ValidationError) as error:
            return Answer.of_json({"code": "BadRequest", "description": str(error)}, 400)
        for key in reversed(_list(search.get("sortby"))):
            name, descending = (key["field"], key["direction"] == "desc") if isinstance(key, dict) else _sign(key)
            name = name.removeprefix("properties.")
            found.sort(key=lambda item, name=name: item["properties"].get(name, item.get(name)), reverse=descending)
        start, size = int(search.get("token") or 0), int(search.get("limit") or self.page_size)
        links = [{"rel": "root", "href": f"{self.url}/", "type": "application/json"}]
        if start + size < len(found):
            links.append(self._next(request, search, start + size))
        page = {"type": "FeatureCollection", "features": found[start : start + size], "links": links}
        page["numberMatched"] = len(found)
        return Answer.of_json(page, **{"Content-Type": "application/geo+json"})

    def _next(self, request: Request, search: dict[str, Any], token: int) -> dict[str, Any]:
        link = {"rel": "next", "href": self.url + request.path, "type": "application/geo+json"}
        if request.method == "POST":
            return link | {"method": "POST", "body": search | {"token": str(token)}}
        query = request.query | {"token": str(token)}
        return link | {"method": "GET", "href": f"{link['href']}?{urlencode(query)}"}


def _matches(item: dict[str, Any], search: dict[str, Any]) -> bool:
    if search.get("ids") and item["id"] not in _list(search["ids"]):
        return False
    if search.get("collections") and item["collection"] not in _list(search["collections"]):
        return False
    if search.get("bbox"):
        west, south, east, north = (float(value) for value in _list(search["bbox"]))
        boxes = [box(west, south, east, north)]
        if west > east:  # across the antimeridian
            boxes = [box(west, south, 180, north), box(-180, south, east, north)]
        if not any(shape(item["geometry"]).intersects(part) for part in boxes):
            return False
    if search.get("intersects"):
        wanted = search["intersects"]
        wanted = json.loads(wanted) if isinstance(wanted, str) else wanted
        if not shape(item["geometry"]).intersects(shape(wanted)):
            return False
    if search.get("datetime") and not _within(item["properties"]["datetime"], search["datetime"]):
        return False
    if search.get("filter"):
        expression = search["filter"]
        flat = {"id": item["id"], "geometry": item["geometry"], "collection": item["collection"]} | item["properties"]
        # A property that an item lacks is null, and no comparison with null is true (CQL2, section 6.2).
        try:
            return cql2.Expr(expression).matches(item | {"properties": flat})
        except Exception as error:
            if "Could not reduce" in str(error):
                return False
            raise ValueError(f"the filter cannot be understood: {error}") from error
    return True


def _within(moment: str, interval: str) -> bool:
    start, _, end = interval.partition("/")
    end = end if "/" in interval else start
    return (start in ("", "..") or _time(moment) >= _time(start)) and (end in ("", "..") or _time(moment) <= _time(end))


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value.split(",") if isinstance(value, str) else list(value)


def _sign(key: str) -> tuple[str, bool]:
    return key.lstrip("+-"), key.startswith("-")


@contextmanager
def serve_stac(items: list[dict[str, Any]], page_size: int = 10) -> Iterator[LocalServer]:
    """Serve items until the block ends; the API itself is ``server.respond.__self__``.

    Args:
        items: STAC items as GeoJSON, each with its `collection`. The list may change meanwhile.
        page_size: Items per page where the search names no limit.
    """
    api = StacApi(items, page_size)
    with LocalServer(api.respond).running() as server:
        api.url = server.url
        yield server
