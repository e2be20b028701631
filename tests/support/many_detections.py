"""Results of many scenes as an export leaves them, made up fast: outlines on the pixel grid with 96 vertices."""

import hashlib
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

PIXEL_M = 3
ROWS = 24
COLUMNS_OF_PLACES = 45
PER_SCENE = 2000
LOOKS = (2, 2, 2, 3, 2)
"""Looks per place, 2.2 on average."""
_SHAPES = 200
_CRS = "EPSG:32608"


def make_results(
    folder: Path,
    detections: int,
    years: tuple[int, ...] = (2021,),
    *,
    per_scene: int = PER_SCENE,
    step_m: int = 7000,
    abreast: int = 20,
) -> int:
    """Write results of scenes with so many detections each, in each of some years.

    Args:
        folder: Where the folders of scenes are made, `<year>-<tile>-<look>`.
        detections: About how many there are in all, in steps of some scenes.
        years: The years, which look at the same places.
        per_scene: Detections of a scene, at most 2,000.
        step_m: Distance from one place to the next.
        abreast: Places side by side.

    Returns:
        Their number.
    """
    rng = np.random.default_rng(0)
    shapes = [_outline(rng) for _ in range(_SHAPES)]
    tiles = max(1, round(detections / len(years) / float(np.mean(LOOKS)) / per_scene))
    count = 0
    for tile in range(tiles):
        row, column = np.divmod(np.arange(per_scene), COLUMNS_OF_PLACES)
        places = np.column_stack([column, row]) * COLUMNS_OF_PLACES + rng.integers(0, 10, (per_scene, 2))
        chosen = rng.integers(0, _SHAPES, per_scene)
        corner = (300_000 + tile % abreast * step_m, 7_300_000 + tile // abreast * step_m)
        for year in years:
            for look in range(LOOKS[tile % len(LOOKS)]):
                moved = places + rng.integers(-1, 2, places.shape)
                time = f"{year}-0{look + 5}-{1 + tile % 28:02}T21:00:19Z"
                outlines = [
                    PIXEL_M * (shapes[number] + place) + corner for number, place in zip(chosen, moved, strict=True)
                ]
                write_scene(folder / f"{year}-{tile}-{look}", np.array(outlines), corner, time)
                count += per_scene
    return count


def move_outlines(folder: Path) -> None:
    """Move all outlines of a scene by a pixel."""
    path = folder / "prediction_segments.parquet"
    frame = gpd.read_parquet(path)
    frame.geometry = frame.geometry.translate(PIXEL_M)
    frame.to_parquet(path)
    about = json.loads((folder / "manifest.json").read_text())
    about["files"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(about))


def write_scene(folder: Path, outlines: np.ndarray, corner: tuple[int, int], time: str) -> None:
    """Write one folder of results.

    Args:
        folder: The folder, which names the scene.
        outlines: Rings, (n, vertices, 2), metres.
        corner: Lower left corner of what was seen, metres.
        time: When the scene was taken.
    """
    folder.mkdir(parents=True)
    polygons = shapely.polygons(outlines)
    count, area = len(polygons), shapely.area(polygons)
    inside = gpd.GeoSeries(shapely.point_on_surface(polygons), crs=_CRS).to_crs("OGC:CRS84")
    columns = {
        "object_uid": [f"{folder.name}-{number}" for number in range(count)],
        "Region_ID": np.arange(count, dtype="int32"),
        **{name: np.full(count, 0.8) for name in ("min", "max", "mean", "median", "std")},
        "npixel": np.round(area / PIXEL_M**2).astype("int64"),
        "area_m2": area,
        "perimeter_m": shapely.length(polygons),
        "lon": inside.x.to_numpy(),
        "lat": inside.y.to_numpy(),
        "touches_edge": np.zeros(count, bool),
        "model_names": ["made-up"] * count,
    }
    geometry = shapely.multipolygons(polygons, indices=np.arange(count))
    gpd.GeoDataFrame(columns, geometry=geometry, crs=_CRS).to_parquet(folder / "prediction_segments.parquet")
    seen = shapely.box(corner[0] - 50, corner[1] - 50, corner[0] + 6500, corner[1] + 6500)
    gpd.GeoDataFrame({"npixel": [1]}, geometry=[seen], crs=_CRS).to_parquet(folder / "prediction_extent.parquet")
    files = {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in folder.iterdir()}
    about = {"tile_id": folder.name, "source": "PlanetScope", "time": time, "files": files}
    (folder / "manifest.json").write_text(json.dumps(about))


def _outline(rng: np.random.Generator) -> np.ndarray:
    """Return a ring along pixels, (4 * ROWS, 2), in pixels: both sides wander, a pixel a row."""
    left = np.cumsum(rng.choice([-1, 1], ROWS))
    right = np.maximum(left + 2, 14 + left + np.cumsum(rng.choice([-1, 1], ROWS)))
    row = np.arange(ROWS)
    upward = np.column_stack([np.repeat(left, 2), np.column_stack([row, row + 1]).ravel()])
    downward = np.column_stack([np.repeat(right[::-1], 2), np.column_stack([row + 1, row])[::-1].ravel()])
    return np.concatenate([upward, downward]).astype(float)
