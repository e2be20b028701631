"""Images of the stand-in for Earth Engine, and the algorithms that its expressions are made of."""

# ruff: noqa: A006 - parameters have the names that Earth Engine gives them

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import shapely
from affine import Affine
from pyproj import Transformer
from shapely.geometry import MultiPolygon, Point, box, shape

Bands = dict[str, np.ma.MaskedArray]


@dataclass
class EarthImage:
    """An image of the stand-in.

    Attributes:
        asset: Its name, that of its collection and a last part: "users/me/collection/image".
        bands: 2-D arrays by name, masked where the image has nothing.
        affine: Transform of the bands' grid; a band that is smaller by a whole factor has pixels larger by that.
        crs: CRS of the grid.
        properties: What `ee.Image.get` gives; "system:time_start" in milliseconds.
    """

    asset: str
    bands: dict[str, np.ndarray]
    affine: Affine
    crs: str = "EPSG:4326"
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def footprint(self) -> Any:
        """The image's outline in degrees."""
        height, width = max(values.shape for values in self.bands.values())
        left, top = self.affine * (0, 0)
        right, bottom = self.affine * (width, height)
        outline = box(left, bottom, right, top).segmentize(max(right - left, top - bottom) / 32)
        to_degrees = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        return shapely.transform(outline, lambda points: np.column_stack(to_degrees.transform(*points.T)))

    def describe(self) -> dict[str, Any]:
        """Return what `ee.Image.getInfo` gives."""
        edge = max(values.shape[0] for values in self.bands.values())
        bands = []
        for name, values in self.bands.items():
            scale = edge / values.shape[0]
            grid = self.affine * Affine.scale(scale)
            bands.append(
                {
                    "id": name,
                    "data_type": {"type": "PixelType", "precision": "int", "min": 0, "max": 65535},
                    "dimensions": [values.shape[1], values.shape[0]],
                    "crs": self.crs,
                    "crs_transform": [grid.a, grid.b, grid.c, grid.d, grid.e, grid.f],
                }
            )
        return {"type": "Image", "id": self.asset, "bands": bands, "properties": self.all_properties()}

    def all_properties(self) -> dict[str, Any]:
        footprint = {"type": "LinearRing", "coordinates": [list(point) for point in self.footprint.exterior.coords]}
        return {"system:footprint": footprint} | self.properties | {"system:index": self.asset.rpartition("/")[2]}


@dataclass(frozen=True)
class Grid:
    affine: Affine
    crs: str
    shape: tuple[int, int]


@dataclass
class Picture:
    """An image during the evaluation: how it is sampled, and what is known of it."""

    sample: Callable[[Grid], Bands]
    names: list[str]
    properties: dict[str, Any] = field(default_factory=dict)
    footprint: Any = None
    source: EarthImage | None = None


class EarthEngineError(Exception):
    """What Earth Engine would answer with 400."""


def grid_of(grid: dict[str, Any]) -> Grid:
    affine = grid["affineTransform"]
    keys = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    size = grid["dimensions"]
    return Grid(Affine(*(affine.get(key, 0) for key in keys)), grid["crsCode"], (size["height"], size["width"]))


def picture_of(image: EarthImage) -> Picture:
    def sample(grid: Grid) -> Bands:
        x = grid.affine.c + (np.arange(grid.shape[1]) + 0.5) * grid.affine.a
        y = grid.affine.f + (np.arange(grid.shape[0]) + 0.5)[:, None] * grid.affine.e
        if grid.crs != image.crs:
            x, y = Transformer.from_crs(grid.crs, image.crs, always_xy=True).transform(*np.broadcast_arrays(x, y))
        return {name: _nearest(values, image, x, y, grid.shape) for name, values in image.bands.items()}

    known = image.all_properties()
    return Picture(sample, list(image.bands), known, image.footprint, image)


def _nearest(
    values: np.ndarray, image: EarthImage, x: np.ndarray, y: np.ndarray, shape: tuple[int, int]
) -> np.ma.MaskedArray:
    scale = max(each.shape[0] for each in image.bands.values()) / values.shape[0]
    col = np.floor((x - image.affine.c) / image.affine.a / scale + 1e-6).astype(int)
    row = np.floor((y - image.affine.f) / image.affine.e / scale + 1e-6).astype(int)
    inside = (row >= 0) & (row < values.shape[0]) & (col >= 0) & (col < values.shape[1])
    row, col = np.broadcast_arrays(row, col)
    result = np.ma.masked_all(shape, values.dtype)
    result[inside] = np.ma.asarray(values)[row[inside], col[inside]]
    return result


def _mosaic(collection: list[Picture]) -> Picture:
    def sample(grid: Grid) -> Bands:
        result: Bands = {}
        for picture in collection:  # later images lie above earlier ones
            for name, values in picture.sample(grid).items():
                below = result.get(name, np.ma.masked_all(grid.shape, values.dtype))
                mask = np.ma.getmaskarray(values)
                merged = np.where(mask, below.data, values.data).astype(values.dtype)
                result[name] = np.ma.MaskedArray(merged, mask & np.ma.getmaskarray(below))
        return result

    return Picture(sample, collection[0].names if collection else [])


def _mapped(picture: Picture, change: Callable[[np.ma.MaskedArray], np.ma.MaskedArray]) -> Picture:
    def sample(grid: Grid) -> Bands:
        return {name: change(values) for name, values in picture.sample(grid).items()}

    return Picture(sample, picture.names, picture.properties, picture.footprint)


def _select(picture: Picture, selectors: list[str], names: list[str] | None = None) -> Picture:
    missing = [name for name in selectors if name not in picture.names]
    if missing:
        raise EarthEngineError(f"Image.select: Band pattern '{missing[0]}' did not match any bands.")
    new = names or selectors

    def sample(grid: Grid) -> Bands:
        bands = picture.sample(grid)
        return {name: bands[selector] for name, selector in zip(new, selectors, strict=True)}

    return Picture(sample, new, picture.properties, picture.footprint)


def _unmask(picture: Picture, value: Any) -> Picture:
    number = value if isinstance(value, int | float) else value.properties["constant"]
    return _mapped(picture, lambda values: np.ma.MaskedArray(values.filled(number)))


def _milliseconds(value: Any) -> float:
    if isinstance(value, int | float):
        return value
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000


def _span(start: float, end: float) -> tuple[float, float]:
    if start >= end:
        raise EarthEngineError("Empty date ranges not supported for the current operation.")
    return start, end


def _field(item: Any, name: str) -> Any:
    return item.properties.get(name)


def _compare(test: Callable[[Any, Any], bool]) -> Callable[..., Callable[[Any], bool]]:
    def make(leftField: str, rightValue: Any) -> Callable[[Any], bool]:  # noqa: N803 - Earth Engine's names
        return lambda item: _field(item, leftField) is not None and test(_field(item, leftField), rightValue)

    return make


def _intersects(leftField: str, rightValue: Any) -> Callable[[Any], bool]:  # noqa: N803
    return lambda item: item.footprint.intersects(rightValue)


def _within_dates(leftValue: Any, rightField: str) -> Callable[[Any], bool]:  # noqa: N803
    start, end = leftValue
    return lambda item: start <= _field(item, rightField) < end


def _within_calendar(start: int, end: int, field: str) -> Callable[[Any], bool]:
    def test(item: Any) -> bool:
        moment = datetime.fromtimestamp(_field(item, "system:time_start") / 1000, UTC)
        value = {"month": moment.month, "year": moment.year, "day_of_year": moment.timetuple().tm_yday}[field]
        return start <= value <= end if start <= end else value >= start or value <= end

    return test


def _any_of(leftValue: list[Any], rightField: str) -> Callable[[Any], bool]:  # noqa: N803
    return lambda item: _field(item, rightField) in leftValue


def _limit(collection: list[Any], limit: int | None = None, key: str | None = None, ascending: bool = True) -> Any:
    if key is not None:
        collection = sorted(collection, key=lambda item: _field(item, key), reverse=not ascending)
    return collection[:limit]


def _rectangle(coordinates: list[float], **_: Any) -> Any:
    corners = np.ravel(coordinates)
    return box(*corners[:4])


def _first(collection: list[Any]) -> Any:
    if not collection:
        raise EarthEngineError("Collection.first: the collection is empty.")
    return collection[0]


ALGORITHMS: dict[str, Callable[..., Any]] = {
    "AggregateFeatureCollection.array": lambda collection, property: [
        value for value in (_field(item, property) for item in collection) if value is not None
    ],
    "Collection.filter": lambda collection, filter: [item for item in collection if filter(item)],
    "Collection.first": _first,
    "Collection.limit": _limit,
    "Collection.map": lambda collection, baseAlgorithm, **_: [baseAlgorithm(item) for item in collection],  # noqa: N803
    "Collection.size": lambda collection: len(collection),
    "Collection.toList": lambda collection, count, offset=0: collection[offset : offset + count],
    "Date": lambda value, **_: _milliseconds(value),
    "DateRange": lambda start, end, **_: _span(_milliseconds(start), _milliseconds(end)),
    "Element.get": lambda object, property: _field(object, property),
    "Element.toDictionary": lambda element, properties=None: {
        key: value for key, value in element.properties.items() if properties is None or key in properties
    },
    "Feature": lambda geometry, metadata=None: (
        geometry if metadata is None else Picture(lambda grid: {}, [], metadata, geometry)
    ),
    "Filter.and": lambda filters: lambda item: all(each(item) for each in filters),
    "Filter.or": lambda filters: lambda item: any(each(item) for each in filters),
    "Filter.not": lambda filter: lambda item: not filter(item),
    "Filter.calendarRange": _within_calendar,
    "Filter.dateRangeContains": _within_dates,
    "Filter.equals": _compare(lambda left, right: left == right),
    "Filter.greaterThan": _compare(lambda left, right: left > right),
    "Filter.intersects": _intersects,
    "Filter.lessThan": _compare(lambda left, right: left < right),
    "Filter.listContains": _any_of,
    "Filter.stringStartsWith": _compare(str.startswith),
    "GeometryConstructors.MultiPolygon": lambda coordinates, **_: MultiPolygon(
        [shape({"type": "Polygon", "coordinates": part}) for part in coordinates]
    ),
    "GeometryConstructors.Point": lambda coordinates, **_: Point(coordinates),
    "GeometryConstructors.Polygon": lambda coordinates, **_: shape({"type": "Polygon", "coordinates": coordinates}),
    "GeometryConstructors.Rectangle": _rectangle,
    "Image.constant": lambda value: Picture(lambda grid: {}, ["constant"], {"constant": value}),
    "Image.geometry": lambda feature, **_: feature.footprint,
    "Image.select": lambda input, bandSelectors, newNames=None: _select(input, bandSelectors, newNames),  # noqa: N803
    "Image.toUint8": lambda value: _mapped(value, lambda values: values.astype("uint8")),
    "Image.toUint16": lambda value: _mapped(value, lambda values: values.astype("uint16")),
    "Image.unmask": lambda input, value=0, **_: _unmask(input, value),
    "ImageCollection.mosaic": _mosaic,
    "Projection": lambda crs, **_: crs,
}
"""What the stand-in can compute, by Earth Engine's names; a test may add to it."""


def as_json(value: Any) -> Any:
    """Turn a result into JSON, as Earth Engine shows it."""
    if isinstance(value, Picture):
        if value.source is not None:
            return value.source.describe()
        return {"type": "Feature", "geometry": as_json(value.footprint), "properties": value.properties}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    return value.__geo_interface__ if hasattr(value, "__geo_interface__") else value


def geotiff_of(arrays: dict[str, np.ndarray], grid: Grid) -> bytes:
    from rasterio.io import MemoryFile

    first = next(iter(arrays.values()))
    height, width = grid.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=len(arrays),
            height=height,
            width=width,
            dtype=first.dtype,
            crs=grid.crs,
            transform=grid.affine,
        ) as target:
            for index, (name, values) in enumerate(arrays.items(), start=1):
                target.write(values, index)
                target.set_band_description(index, name)
        return memory.read()
