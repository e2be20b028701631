"""Searches of a STAC API: what is no answer is never taken for there being nothing."""

import json

import pytest

from darts_acquisition.errors import ServiceError
from darts_acquisition.io.settings import RequestLimits
from darts_acquisition.io.stac import open_api, search_box
from support.sentinel2 import NO_NAPS
from support.stac_server import serve_stac

LIMITS = RequestLimits(retry=NO_NAPS, timeout_s=10)
BOX = (0.0, 60.0, 1.0, 61.0)


def item(name):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": "tiles",
        "geometry": {"type": "Point", "coordinates": [0.5, 60.5]},
        "bbox": [0.5, 60.5, 0.5, 60.5],
        "properties": {"datetime": "2022-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
    }


@pytest.fixture
def service():
    with serve_stac([item("a"), item("b"), item("c")], page_size=2) as server:
        yield server, open_api(server.url, "tiles", LIMITS)


def test_all_pages_are_read(service):
    _, client = service
    assert sorted(search_box(client, "tiles", BOX)) == ["a", "b", "c"]
    assert search_box(client, "tiles", (50.0, 60.0, 51.0, 61.0)) == {}


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("body", ["{}", "[]", "null", '{"features": null}', '{"code": "InternalError"}'])
def test_an_answer_without_items_is_an_error_on_any_page(service, body, after):
    server, client = service
    server.inject(path="/search", body=body.encode(), after=after)
    with pytest.raises(ServiceError, match="the answer is no page of items"):
        search_box(client, "tiles", BOX)


def test_an_empty_page_is_not_the_last_one_if_it_names_another(service):
    server, client = service
    body = {"collections": ["tiles"], "bbox": list(BOX)}
    link = {"rel": "next", "href": f"{server.url}/search", "method": "POST", "body": body}
    server.inject(path="/search", body=json.dumps({"features": [], "links": [link]}).encode())
    assert sorted(search_box(client, "tiles", BOX)) == ["a", "b", "c"]


def test_pages_without_end_are_an_error(service, monkeypatch):
    server, client = service
    monkeypatch.setattr("darts_acquisition.io.stac._MOST_PAGES", 5)
    link = {"rel": "next", "href": f"{server.url}/search", "method": "POST", "body": {}}
    server.inject(path="/search", body=json.dumps({"features": [item("a")], "links": [link]}).encode(), times=99)
    with pytest.raises(ServiceError, match="no end"):
        search_box(client, "tiles", BOX)
