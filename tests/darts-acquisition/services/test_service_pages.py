"""Answers of a STAC API that are no pages, and who waits for a service."""

import contextlib
import json
import logging

import pytest

from darts_acquisition import RequestLimits, ServiceError
from darts_acquisition.io.http import HttpClient
from darts_acquisition.io.stac import open_api, search_box
from support.file_server import serve_files
from support.local_server import Answer, LocalServer
from support.raw_server import serve_raw
from support.service_faults import LIMITS, TWICE, ask_search, silence
from support.stac_server import serve_stac

pytestmark = pytest.mark.timeout(60)


# STAC


PAGES = {
    "a list": "[]",
    "collections": '{"collections": [{"id": "a", "properties": {}}]}',
    "a word": '"page"',
    "features that are none": '{"features": {"a": 1}}',
    "items that are none": '{"features": [1, null]}',
    "an item without a name": '{"features": [{"properties": {}}]}',
    "an item whose name is a number": '{"features": [{"id": 5, "properties": {}}]}',
    "an item without properties": '{"features": [{"id": "a"}]}',
    "assets that are a list": '{"features": [{"id": "a", "properties": {}, "assets": [1]}]}',
    "an asset that is none": '{"features": [{"id": "a", "properties": {}, "assets": {"dem": 1}}]}',
    "links that are none": '{"features": [], "links": 5}',
    "a link that is none": '{"features": [], "links": ["next"]}',
    "a link without an address": '{"features": [], "links": [{"rel": "next"}]}',
    "a link to a number": '{"features": [], "links": [{"rel": "next", "href": 5}]}',
    "a link with a body that is none": '{"features": [], "links": [{"rel": "next", "href": "http://a", "body": [1]}]}',
    "a link to a file": '{"features": [], "links": [{"rel": "next", "href": "/etc/passwd"}]}',
    "a link to a file's address": '{"features": [], "links": [{"rel": "next", "href": "file:///etc/passwd"}]}',
    "nested lists": '{"features": [' + "[" * 100_000 + "]" * 100_000 + "]}",
    "nested objects": '{"features": [' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "]}",
    "nested properties": '{"features": [{"id": "a", "properties": ' + '{"a":' * 700 + "1" + "}" * 700 + "}]}",
    "many values": '{"features": [' + "[]," * 2_000_000 + "1]}",
    "an item that is nothing else": '{"features": [{"id": "a", "properties": {}, "assets": {}, "type": "Feature"}]}',
    "a time that is none": json.dumps(
        {"features": [{"id": "a", "type": "Feature", "stac_version": "1.0.0", "properties": {"datetime": 5},
                       "links": [], "geometry": None, "assets": {}}]}
    ),
    "an asset at no address": json.dumps(
        {"features": [{"id": "a", "type": "Feature", "stac_version": "1.0.0", "properties": {"datetime": None},
                       "links": [], "geometry": None, "assets": {"dem": {}}}]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("body", PAGES.values(), ids=PAGES)
def test_a_malformed_page_is_an_error_that_shows_it(body):
    with serve_stac([ITEM]) as server:
        client = open_api(server.url, "tiles", LIMITS)
        assert list(search_box(client, "tiles", (0.0, 60.0, 1.0, 61.0))) == ["a"]
        before = len(server.requests)
        server.inject(path="/search", body=body.encode())
        with pytest.raises(ServiceError) as caught:
            search_box(client, "tiles", (0.0, 60.0, 1.0, 61.0))
        assert len(server.requests) == before + 1
        assert len(str(caught.value)) < 500


ITEM = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "stac_extensions": [],
    "id": "a",
    "collection": "tiles",
    "geometry": {"type": "Point", "coordinates": [0.5, 60.5]},
    "bbox": [0.5, 60.5, 0.5, 60.5],
    "properties": {"datetime": "2022-01-01T00:00:00Z"},
    "links": [],
    "assets": {},
}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_pages_in_a_circle_are_an_error(length):
    with LocalServer(lambda request: Answer()).running() as server:
        count = []

        def respond(request):
            count.append(1)
            following = {"rel": "next", "href": f"{server.url}/search?page={len(count) % length}"}
            return Answer.of_json({"features": [ITEM], "links": [following]})

        server.respond = respond
        with pytest.raises(ServiceError, match="the pages have no end, one"):
            ask_search(server.url, None)
        assert len(count) <= length + 2


@pytest.mark.parametrize(
    "body", ["{}", "[]", "5", '{"type": "Catalog"}', '{"links": 5}', '{"type": ["x"], "links": [1]}']
)
@pytest.mark.parametrize("path", ["/", "/collections/*"])
def test_an_api_that_does_not_describe_itself_is_an_error(path, body):
    with serve_stac([ITEM]) as server:
        server.inject(path=path, body=body.encode(), times=99)
        with pytest.raises(ServiceError, match=r"cannot be searched for tiles|has no collection|is no address"):
            open_api(server.url, "tiles", LIMITS)


def test_a_mistake_of_ours_is_not_reported_as_one_of_the_service(monkeypatch):
    def mistake(content):
        return content.no_such_attribute

    monkeypatch.setattr("darts_acquisition.io.stac._checked_text", mistake)
    with serve_stac([ITEM]) as server, pytest.raises(AttributeError, match="no_such_attribute"):
        open_api(server.url, "tiles", LIMITS)


# Stopping


def test_who_waits_for_a_silent_service_stops_at_once(tmp_path):
    import threading

    from darts_acquisition import FetchCancellation, StoppedError, cancellable

    cancellation = FetchCancellation()
    patient, errors = RequestLimits(timeout_s=3000, retry=TWICE), []
    with serve_raw(silence) as server:

        def work():
            try:
                with cancellable(cancellation):
                    HttpClient(patient).fetch(f"{server.url}/file", "the file", bytes)
            except StoppedError as error:
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while not server.heads:
            thread.join(0.01)
        cancellation.requested = True
        thread.join(20)
        assert not thread.is_alive()
        assert len(errors) == 1


def test_proxies_and_logs_hold_no_password(tmp_path, caplog):
    with serve_files(tmp_path) as server, caplog.at_level(logging.DEBUG):
        address = server.url.replace("http://", "http://me:TOPSECRET@") + "/absent"
        with contextlib.closing(HttpClient(LIMITS)) as client, pytest.raises(ServiceError, match="404") as caught:
            client.fetch(f"{address}?token=TOPSECRET", "the file", bytes)
    assert "TOPSECRET" not in f"{caught.value!r} {caught.value.__cause__!r}"
