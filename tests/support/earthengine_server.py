"""A stand-in for Earth Engine on 127.0.0.1, which earthengine-api talks to as to the real one.

Discovery document and list of algorithms are those that ship with earthengine-api; expressions are evaluated for the
algorithms below, on images in memory. Pixels are sampled by nearest neighbour, as Earth Engine does by default.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from google.auth.credentials import AnonymousCredentials

from support.earth_images import ALGORITHMS, EarthEngineError, EarthImage, as_json, geotiff_of, grid_of, picture_of
from support.local_server import Answer, LocalServer, Request

MOST_BYTES = 48 * 1024**2
"""What Earth Engine computes in one request at most."""
_SHIPPED = Path(ee.__file__).parent / "tests"


class EarthEngine:
    """The service.

    Attributes:
        images: The images, each in the collection that its name begins with; may change while the server runs.
        collections: Collections that exist although they may hold no image.
    """

    def __init__(self, images: list[EarthImage], collections: tuple[str, ...] = ()) -> None:
        self.images = images
        self.collections = collections
        self.discovery = json.loads((_SHIPPED / "cloud_api_discovery_document.json").read_text("utf-8"))
        self.algorithms = (_SHIPPED / "algorithms.json").read_bytes()

    def respond(self, request: Request) -> Answer:
        if request.path.startswith("/$discovery/rest"):
            host = "http://" + request.headers["Host"] + "/"
            return Answer.of_json(self.discovery | {"rootUrl": host, "baseUrl": host, "mtlsRootUrl": host})
        if request.path.endswith("/algorithms"):
            return Answer(self.algorithms, 200, {"Content-Type": "application/json"})
        try:
            if request.path.endswith("value:compute"):
                return Answer.of_json({"result": as_json(self._evaluate(request.json["expression"]))})
            if request.path.endswith("image:computePixels"):
                return self._pixels(request.json)
            if request.method == "GET" and "/assets/" in request.path:
                return self._asset(request.path.rpartition("/assets/")[2])
        except EarthEngineError as error:
            return _error(400, str(error))
        return _error(404, f"{request.method} {request.path} is unknown here.")

    def _asset(self, name: str) -> Answer:
        for image in self.images:
            if image.asset == name:
                content = {"type": "IMAGE", "name": f"projects/earthengine-legacy/assets/{name}", "id": name}
                return Answer.of_json(content | {"properties": image.properties})
        if name in self._collection_names():
            content = {"type": "IMAGE_COLLECTION", "name": f"projects/earthengine-legacy/assets/{name}", "id": name}
            return Answer.of_json(content)
        return _error(404, f"Asset '{name}' not found (does not exist or caller does not have access).")

    def _collection_names(self) -> set[str]:
        return {image.asset.rpartition("/")[0] for image in self.images} | set(self.collections)

    def _pixels(self, body: dict[str, Any]) -> Answer:
        grid = grid_of(body["grid"])
        picture = self._evaluate(body["expression"])
        wanted = body.get("bandIds") or picture.names
        bands = picture.sample(grid)
        arrays = {name: bands[name].filled(0) for name in wanted}
        size = sum(values.nbytes for values in arrays.values())
        if size > MOST_BYTES:
            raise EarthEngineError(
                f"Total request size ({size} bytes) must be less than or equal to {MOST_BYTES} bytes."
            )
        if body.get("fileFormat") == "NPY":
            target = io.BytesIO()
            table = np.zeros(grid.shape, dtype=[(name, values.dtype) for name, values in arrays.items()])
            for name, values in arrays.items():
                table[name] = values
            np.save(target, table)
            return Answer(target.getvalue(), 200, {"Content-Type": "application/octet-stream"})
        if body.get("fileFormat") == "GEO_TIFF":
            return Answer(geotiff_of(arrays, grid), 200, {"Content-Type": "image/tiff"})
        raise EarthEngineError(f"The format {body.get('fileFormat')} is unknown here.")

    # Expressions

    def _evaluate(self, expression: dict[str, Any]) -> Any:
        values = expression["values"]
        return self._value(values[expression["result"]], values, {})

    def _value(self, node: dict[str, Any], values: dict[str, Any], names: dict[str, Any]) -> Any:
        ((kind, content),) = node.items()
        match kind:
            case "constantValue":
                return content
            case "integerValue":
                return int(content)
            case "valueReference":
                return self._value(values[content], values, names)
            case "argumentReference":
                return names[content]
            case "arrayValue":
                return [self._value(each, values, names) for each in content.get("values", [])]
            case "dictionaryValue":
                return {key: self._value(each, values, names) for key, each in content.get("values", {}).items()}
            case "functionDefinitionValue":
                return lambda *given: self._value(
                    values[content["body"]], values, names | dict(zip(content["argumentNames"], given, strict=True))
                )
            case "functionInvocationValue":
                arguments = content.get("arguments", {})
                given = {key: self._value(each, values, names) for key, each in arguments.items()}
                name = content.get("functionName")
                if name in ("Image.load", "ImageCollection.load"):
                    return self._load(name, given["id"])
                if name not in ALGORITHMS:
                    raise EarthEngineError(f"The algorithm {name} is unknown here.")
                return ALGORITHMS[name](**given)
        raise EarthEngineError(f"The node {kind} is unknown here.")

    def _load(self, algorithm: str, name: str) -> Any:
        name = name.rpartition("/assets/")[2] if name.startswith("projects/earthengine") else name
        if algorithm == "Image.load":
            found = [image for image in self.images if image.asset == name]
            if not found:
                raise EarthEngineError(f"Image.load: Image asset '{name}' not found.")
            return picture_of(found[0])
        if name not in self._collection_names():
            raise EarthEngineError(f"ImageCollection.load: ImageCollection asset '{name}' not found.")
        return [picture_of(image) for image in self.images if image.asset.rpartition("/")[0] == name]


def _error(status: int, message: str) -> Answer:
    return Answer.of_json({"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}, status)


@contextmanager
def serve_earth_engine(images: list[EarthImage], collections: tuple[str, ...] = ()) -> Iterator[LocalServer]:
    """Serve images until the block ends; afterwards earthengine-api is as if never initialised.

    Args:
        images: The images. The list may change meanwhile.
        collections: Collections that exist although they may hold no image.
    """
    engine = EarthEngine(images, collections)
    with LocalServer(engine.respond).running() as server, without_catalogue():
        ee.Reset()
        try:
            yield server
        finally:
            ee.Reset()


@contextmanager
def without_catalogue() -> Iterator[None]:
    """Keep `ee.Initialize` from asking a further host which public data sets are deprecated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ee.deprecation._FetchDataCatalogStac", dict)
        yield


def connect(server: LocalServer, project: str = "tests") -> None:
    """Initialise earthengine-api with a server of `serve_earth_engine`, as somebody without a login."""
    ee.Initialize(url=server.url, credentials=AnonymousCredentials(), project=project)
