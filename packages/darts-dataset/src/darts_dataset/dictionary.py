"""What every column of every table means: the data dictionary that lies in a dataset, and that checks compare with."""

from dataclasses import dataclass

import pyarrow as pa

DETECTIONS, OBJECTS, LINKS, SEEN = "detections", "objects", "links", "seen"
FILE = "DATA_DICTIONARY.md"

_TITLES = {
    DETECTIONS: "Level 1, `level1/source=…/year=…/detections*.parquet`: one row per detection per scene",
    OBJECTS: "Level 2, `level2/year=…/objects*.parquet`: one row per object per year",
    LINKS: "`links.parquet`: what became of an object from one year to a later one",
    SEEN: "`coverage/year=…/seen.parquet`: the ground that was seen reliably",
}


@dataclass(frozen=True)
class Column:
    """A column: its type as Arrow names it, its unit, and what it means."""

    dtype: str
    unit: str
    text: str


COLUMNS: dict[str, dict[str, Column]] = {
    DETECTIONS: {
        "object_uid": Column("string", "", "Unique name of the detection (UUID), kept when the scene is mapped again."),
        "tile_id": Column("string", "", "Name of the scene."),
        "model_names": Column("string", "", "Models that mapped it, separated by commas."),
        "look": Column("string", "", "Acquisition that the scene belongs to: frames of one pass are one look."),
        "acquisition_time": Column("timestamp[ms, tz=UTC]", "UTC", "When the scene was taken."),
        "min": Column("double", "0 to 1", "Lowest probability among its pixels."),
        "max": Column("double", "0 to 1", "Highest probability."),
        "mean": Column("double", "0 to 1", "Mean probability."),
        "median": Column("double", "0 to 1", "Median probability."),
        "std": Column("double", "0 to 1", "Standard deviation of the probabilities."),
        "area_m2": Column("double", "m²", "Area on the ellipsoid."),
        "perimeter_m": Column("double", "m", "Length of the outline along the pixels; 0.1 results: on the grid."),
        "lon": Column("double", "degrees", "Longitude (WGS 84) of a point inside."),
        "lat": Column("double", "degrees", "Latitude of that point."),
        "npixel": Column("int64", "pixels", "Number of pixels."),
        "Region_ID": Column("int32", "", "Number of the detection within its scene."),
        "touches_edge": Column("bool", "", "True where the border of what was seen cuts it, so that it may go on."),
        "mean_slope": Column("double", "degrees", "Mean slope; absent where the tile had none."),
        "mean_relative_elevation": Column("double", "m", "Mean elevation above the surroundings; absent likewise."),
        "mean_ndvi": Column("double", "", "Mean NDVI; absent likewise."),
        "crs": Column("string", "", "CRS of the grid of the scene, whose pixels the outline follows."),
        "pixel_m": Column("double", "m", "Edge of a pixel of that grid."),
    },
    OBJECTS: {
        "object_id": Column("string", "", "Name of the object, the same in all years and in later releases."),
        "lon": Column("double", "degrees", "Longitude (WGS 84) of a point inside."),
        "lat": Column("double", "degrees", "Latitude of that point."),
        "area_m2": Column("double", "m²", "Area of `geometry`: all that any look of the year has."),
        "majority_area_m2": Column(
            "double", "m²", "Area of `majority`: where at least half of the looks that saw a place have it; 0 for none."
        ),
        "area_min_m2": Column("double", "m²", "Smallest area among the looks that have it."),
        "area_median_m2": Column("double", "m²", "Median area among those looks."),
        "area_max_m2": Column("double", "m²", "Largest area among those looks."),
        "n_looks": Column("int32", "looks", "Looks of the year that saw it: at least half of it, or have it."),
        "n_hits": Column("int32", "looks", "Looks that have it."),
        "n_detections": Column("int32", "rows", "Detections of level 1 that it was merged from."),
        "first_date": Column("timestamp[ms, tz=UTC]", "UTC", "First scene of the year that has it."),
        "last_date": Column("timestamp[ms, tz=UTC]", "UTC", "Last scene of the year that has it."),
        "mean_probability": Column("double", "0 to 1", "Mean probability over all pixels of all detections."),
        "touches_edge": Column("bool", "", "True where all detections are cut by the border of what was seen."),
        "sources": Column("string", "", "What took the scenes, separated by commas."),
        "models": Column("string", "", "Models, separated by commas."),
        "detections": Column("list<element: string>", "", "`object_uid` of the detections."),
    },
    LINKS: {
        "year_from": Column("int16", "year", "When the earlier state was seen; absent for a new object."),
        "year_to": Column("int16", "year", "Year of the later state."),
        "object_id_from": Column("string", "", "The earlier object; absent for a new one."),
        "object_id_to": Column("string", "", "The later object; absent for one that is gone."),
        "relation": Column(
            "string",
            "",
            "same, merged (several became this one), split (one became several), new, or gone (its place was seen, and "
            "nothing is there). A place that was not seen gives no link.",
        ),
        "arts_class": Column(
            "string", "", "The word of the ARTS dataset: RepeatRTS, MergedRTS, SplitRTS, NewRTS, StabilizedRTS."
        ),
        "overlap_m2": Column("double", "m²", "Ground that both share."),
    },
    SEEN: {
        "hemisphere": Column("string", "", "north (EPSG:6931) or south (EPSG:6932), where its area was computed."),
        "n_looks": Column("int32", "looks", "Looks of the year."),
        "area_km2": Column("double", "km²", "Area that at least one look saw reliably."),
    },
}
"""Columns by table, in the order of the files; geometries (OGC:CRS84) and their bounding boxes follow."""

_PUBLISHED = """
## Beside published datasets

| here | ARTS | DARTS releases |
|---|---|---|
| `object_id` | `UID` | `id_id`, per scene |
| `detections` | `MergedRTS`, `SplitRTS`: lists of UIDs | – |
| `relation`, `arts_class` in links | `RepeatRTS`, `NewRTS`, `StabilizedRTS`, … | – |
| `year=…` (folder) | `BaseMapDate` | level 2: union by year |
| `n_looks`, `n_hits`, `coverage/` | – | extents of scenes |

Level 1 keeps every detection of every scene, level 2 merges those of one year: do not add up areas of level 1.
"""


def schema_of(table: str) -> pa.Schema:
    """Return types and names of a table's columns as the data dictionary has them."""
    types = {
        "string": pa.string(),
        "double": pa.float64(),
        "int64": pa.int64(),
        "int32": pa.int32(),
        "int16": pa.int16(),
        "bool": pa.bool_(),
        "timestamp[ms, tz=UTC]": pa.timestamp("ms", "UTC"),
        "list<element: string>": pa.list_(pa.string()),
    }
    return pa.schema([(name, types[column.dtype]) for name, column in COLUMNS[table].items()])


def render_dictionary() -> str:
    """Return the dictionary as Markdown."""
    lines = ["# Data dictionary", ""]
    lines += [
        "Thaw slumps mapped by DARTS. Geometries are in longitude and latitude (OGC:CRS84), cut at 180°; areas were",
        "computed on the equal-area planes EPSG:6931 (north) and EPSG:6932 (south), which `divide` in `dataset.json`",
        "parts: latitude 0, or one south of all that hangs together across the equator; `source` and `year` are names",
        "of folders (Hive partitions). `looks-north.tif` counts the looks per pixel of 100 m. Where `season` in",
        "`dataset.json` has months, only their looks were merged and counted; level 1 has all months. Parts of",
        "many rows have several files, `detections-<digits>.parquet`. `memory/` is for updates, not for readers.",
        "",
    ]
    for table, columns in COLUMNS.items():
        lines += [f"## {_TITLES[table]}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [f"| `{name}` | {each.dtype} | {each.unit} | {each.text} |" for name, each in columns.items()]
        if table in (DETECTIONS, OBJECTS):
            lines.append("| `geometry` | WKB | degrees | The outline. |")
        if table == OBJECTS:
            lines.append("| `majority` | WKB | degrees | Where at least half of the looks that saw a place have it. |")
        if table != LINKS:
            lines.append("| `bbox` | struct | degrees | Bounding box of `geometry`, for readers that skip by it. |")
        lines.append("")
    return "\n".join(lines) + _PUBLISHED.lstrip("\n")
