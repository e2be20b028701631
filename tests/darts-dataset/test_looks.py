"""Looks against brute force: by source, hemisphere, time and place."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from darts_dataset.geometry import LONLAT, NORTH, SOUTH, to_lonlat
from darts_dataset.looks import find_looks, footprint_of
from darts_dataset.scenes import Scene
from darts_utils import ResultFolder

START = datetime(2020, 7, 31, 23, 50, tzinfo=UTC)


def scene(name: str, minutes: float, source: str = "PlanetScope") -> Scene:
    folder = ResultFolder(Path(name), {"tile_id": name, "files": {}})
    return Scene(folder, name, START + timedelta(minutes=minutes), source, "")


def square(x: float, y: float, plane: str = NORTH) -> np.ndarray:
    """Return a square of 2 km on a plane, as it is stored."""
    return to_lonlat(np.array([shapely.box(x, y, x + 2000, y + 2000)], object), plane)


@pytest.mark.parametrize("seed", range(3))
def test_looks_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    scenes, extents, places, keys = [], [], [], []
    for number in range(40):
        place = rng.integers(0, 5, 2) * 2700.0 + 1e6  # 700 m between neighbours.
        source, plane = ("PlanetScope", "Sentinel-2")[rng.integers(2)], (NORTH, NORTH, NORTH, SOUTH)[rng.integers(4)]
        minutes = float(rng.integers(0, 60))
        scenes.append(scene(f"scene-{number:02}", minutes, source))
        extents.append(square(*place, plane) if number % 10 else np.empty(0, object))
        places.append(place)
        keys.append((source, plane, minutes))
    groups = {number: {number} for number in range(40)}
    for a in range(40):
        for b in range(a):
            near = np.abs(places[a] - places[b]).max() <= 2700
            if keys[a][:2] == keys[b][:2] and abs(keys[a][2] - keys[b][2]) < 10 and near and a % 10 and b % 10:
                both = groups[a] | groups[b]
                groups |= dict.fromkeys(both, both)
    looks = find_looks(scenes, [footprint_of(each) for each in extents])
    expected = {tuple(sorted(each)) for each in groups.values()}
    assert {tuple(sorted(look.scenes)) for look in looks} == expected
    assert len(looks) < 40
    for look in looks:
        first = min((scenes[number].time, scenes[number].tile_id, number) for number in look.scenes)
        assert (look.year, look.month) == (first[0].year, first[0].month)
        assert scenes[first[2]].tile_id in look.name
        assert look.plane == (NORTH if first[2] % 10 == 0 else keys[first[2]][1])
        seen = shapely.union_all([shapely.box(*places[n], *(places[n] + 2000)) for n in look.scenes if n % 10])
        assert shapely.area(look.extent) == pytest.approx(shapely.area(seen), rel=1e-6)


@pytest.mark.parametrize(("minutes", "metres", "looks"), [(9.99, 0, 1), (10, 0, 2), (1, 1990, 1), (1, 2010, 2)])
def test_frames_of_a_pass_are_less_than_ten_minutes_and_two_kilometres_apart(minutes, metres, looks):
    extents = [square(1e6, 1e6), square(1e6 + 2000 + metres, 1e6)]
    assert len(find_looks([scene("a", 0), scene("b", minutes)], [footprint_of(each) for each in extents])) == looks


def test_no_scenes_are_no_looks():
    assert find_looks([], []) == []


def test_what_lies_south_of_the_equator_is_laid_out_there():
    valley = gpd.GeoSeries([shapely.box(30, -70.01, 30.02, -70)], crs=LONLAT)
    (look,) = find_looks([scene("a", 0)], [footprint_of(valley.to_numpy())])
    assert look.plane == SOUTH
    assert look.extent.area == pytest.approx(valley.to_crs(SOUTH).area[0])
