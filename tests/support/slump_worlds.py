"""Made-up worlds of slumps over three years, whose truth is known."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine

from support.results import export_mask

CRS = "EPSG:32608"
LEFT, TOP, PIXEL = 500_000, 7_600_000, 3
GRID = Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP)
SIZE = 120


def day(year: int, number: int = 200, minutes: float = 0) -> datetime:
    return datetime(year, 1, 1, 12, tzinfo=UTC) + timedelta(days=number, minutes=minutes)


def blocks(*slices: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    for top, bottom, left, right in slices:
        mask[top:bottom, left:right] = True
    return mask


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects_of(folder: Path, year: int) -> gpd.GeoDataFrame:
    return gpd.read_parquet(folder / f"level2/year={year}/objects.parquet")


# What becomes of objects over three years.

GROWS = (10, 20, 10, 20), (8, 24, 8, 24), (6, 26, 6, 26)
PARTS = ((50, 58, 10, 30), (60, 68, 10, 30)), ((50, 68, 10, 30),), ((50, 56, 10, 30), (62, 68, 10, 30))
VANISHES = (90, 98, 20, 28)
APPEARS = (90, 98, 60, 68)
HIDDEN = (20, 28, 90, 98)


def world(folder: Path) -> Path:
    """Three years: one grows, two merge and split again, one vanishes, one appears, one is not seen in the second."""
    unseen = blocks((0, 60, 80, 120))
    masks = (
        blocks(GROWS[0], *PARTS[0], VANISHES, HIDDEN),
        blocks(GROWS[1], *PARTS[1], APPEARS),
        blocks(GROWS[2], *PARTS[2], APPEARS, HIDDEN),
    )
    for number, mask in enumerate(masks):
        extent = ~unseen if number == 1 else None
        export_mask(folder / f"scene-{2019 + number}", mask, GRID, CRS, day(2019 + number), extent=extent)
    return folder


def holding(frame: gpd.GeoDataFrame, place: tuple[int, int, int, int]) -> str:
    """Return the id of the object that holds the middle of a block."""
    x, y = GRID * ((place[2] + place[3]) / 2, (place[0] + place[1]) / 2)
    point = gpd.GeoSeries([shapely.Point(x, y)], crs=CRS).to_crs(frame.crs).iloc[0]
    (found,) = frame.loc[frame.intersects(point), "object_id"]
    return found
