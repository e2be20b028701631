"""Datasets of made-up worlds, whose truth is known, against brute force and rasters."""

from datetime import datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from scipy.ndimage import label

from darts_dataset import build, check, info
from support.lanes import mostly_slow
from support.results import export_mask
from support.slump_worlds import (
    APPEARS,
    CRS,
    GRID,
    GROWS,
    HIDDEN,
    LEFT,
    PARTS,
    PIXEL,
    SIZE,
    VANISHES,
    blocks,
    day,
    files_of,
    holding,
    objects_of,
)


def links_of(folder: Path) -> set[tuple]:
    frame = pd.read_parquet(folder / "links.parquet").astype(object)
    rows = frame[["year_from", "year_to", "object_id_from", "object_id_to", "relation"]]
    return {tuple(None if pd.isna(each) else each for each in row) for row in rows.itertuples(index=False)}


def test_ids_and_links_are_what_happened(built):
    first, second, third = (objects_of(built.path, year) for year in (2019, 2020, 2021))
    assert (len(first), len(second), len(third)) == (5, 3, 5)
    grows = holding(first, GROWS[0])
    assert holding(second, GROWS[1]) == holding(third, GROWS[2]) == grows
    upper, lower = (holding(first, place) for place in PARTS[0])
    whole = holding(second, PARTS[1][0])
    assert whole in (upper, lower)
    halves = [holding(third, place) for place in PARTS[2]]
    assert halves.count(whole) == 1
    vanished, hidden, appeared = holding(first, VANISHES), holding(first, HIDDEN), holding(second, APPEARS)
    assert holding(third, HIDDEN) == hidden
    assert holding(third, APPEARS) == appeared
    fresh = {(None, 2019, None, each, "new") for each in first["object_id"]}
    assert links_of(built.path) == fresh | {
        (2019, 2020, grows, grows, "same"),
        (2019, 2020, upper, whole, "merged"),
        (2019, 2020, lower, whole, "merged"),
        (2019, 2020, vanished, None, "gone"),
        (None, 2020, None, appeared, "new"),
        (2020, 2021, grows, grows, "same"),
        (2020, 2021, whole, halves[0], "split"),
        (2020, 2021, whole, halves[1], "split"),
        (2020, 2021, appeared, appeared, "same"),
        (2019, 2021, hidden, hidden, "same"),
    }


def test_a_check_finds_nothing_and_info_counts(built):
    assert check(built.path).failures == check(built.path).notes == ()
    found = info(built.path)
    assert (found["scenes"], found["looks"], found["detections"], found["objects"]) == (3, 3, 13, 13)
    assert found["years"]["2020"]["links"] == {"same": 1, "merged": 2, "split": 0, "new": 1, "gone": 1}
    objects = gpd.read_parquet(built.path / "level2/year=2020")
    areas = [found["years"]["2020"][name] * 1e6 for name in ("area_km2", "majority_area_km2")]
    assert areas == pytest.approx([objects["area_m2"].sum(), objects["majority_area_m2"].sum()], rel=1e-12)
    assert found["years"]["2019"]["seen_km2"] == pytest.approx(SIZE**2 * PIXEL**2 / 1e6, rel=1e-3)


def test_the_same_bytes_in_any_order_and_for_any_cells(built, tmp_path):
    scenes = sorted((built.path.parent / "results").iterdir(), reverse=True)
    build(scenes, tmp_path / "dataset", cell_km=0.05)
    assert files_of(tmp_path / "dataset") == files_of(built.path)


# Looks, evidence and merging, against rasters.


@pytest.mark.parametrize("seed", mostly_slow(range(3), lambda seed: seed == 0))
def test_merged_areas_hits_and_majorities_equal_a_count_of_pixels(tmp_path, seed):
    """Four looks, one of which sees the left half only; a pass of two frames is one of them."""
    rng = np.random.default_rng(seed)
    masks, extents, times = [], [], [0, 60, 120, 180, 183]
    for number in range(len(times)):
        mask = np.zeros((SIZE, SIZE), bool)
        for top, left in rng.integers(0, SIZE - 20, (14, 2)):
            height, width = rng.integers(3, 18, 2)
            mask[top : top + height, left : left + width] = True
        extent = np.ones((SIZE, SIZE), bool)
        if number == 1:
            extent[:, SIZE // 2 :] = False
        masks.append(mask & extent)
        extents.append(extent)
        export_mask(tmp_path / "r" / f"scene-{number}", mask, GRID, CRS, day(2020, 200, times[number]), extent=extent)
    made = build(tmp_path / "r", tmp_path / "dataset")
    assert made.looks == 4
    assert check(made.path).failures == ()
    frame = objects_of(made.path, 2020)

    looks = [masks[0], masks[1], masks[2], masks[3] | masks[4]]
    hits = np.sum(looks, axis=0)
    seen = np.sum([extents[0], extents[1], extents[2], extents[3]], axis=0)
    # A group of detections: connected through overlaps of whole detections, not of pixels at a border.
    numbers = [(look, *label(mask, np.ones((3, 3)))) for look, mask in zip((0, 1, 2, 3, 3), masks, strict=True)]
    names = [(image, number) for image, (_, _, count) in enumerate(numbers) for number in range(1, count + 1)]
    parent = {name: name for name in names}

    def root(name):
        while parent[name] != name:
            name = parent[name]
        return name

    for one in range(5):
        for other in range(one + 1, 5):
            both = {*zip(numbers[one][1].ravel().tolist(), numbers[other][1].ravel().tolist(), strict=True)}
            for a, b in both:
                if a and b:
                    parent[root((one, a))] = root((other, b))
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for name in names:
        groups.setdefault(root(name), []).append(name)
    assert len(frame) == len(groups)
    expected = []
    for members in groups.values():
        place = np.any([numbers[image][1] == number for image, number in members], axis=0)
        own = [np.zeros_like(place) for _ in range(4)]
        for image, number in members:
            own[numbers[image][0]] |= numbers[image][1] == number
        n_hits = sum(each.any() for each in own)
        share = (extents[1] & place).sum() / place.sum()
        n_looks = 3 + bool(share >= 0.5 or own[1].any())
        most = (2 * np.sum(own, axis=0) >= seen) & place
        if share < 0.5 and not own[1].any():  # That look does not count there.
            most = (2 * np.sum(own, axis=0) >= 3) & place
        areas = sorted(each.sum() for each in own if each.any())
        expected.append((place.sum(), most.sum(), n_hits, n_looks, areas[0], areas[-1], float(np.median(areas))))
    columns = ["area_m2", "majority_area_m2", "n_hits", "n_looks", "area_min_m2", "area_max_m2", "area_median_m2"]
    found = frame[columns].to_numpy()
    found[:, [0, 1, 4, 5, 6]] /= PIXEL**2
    order = np.lexsort(np.round(found).T[::-1])
    wanted = np.array(sorted(expected))
    np.testing.assert_allclose(found[order], wanted, rtol=2e-3, atol=0.05)
    assert hits.max() > 2


@pytest.mark.slow
def test_outlines_merge_to_the_same_as_pixels(tmp_path, monkeypatch):
    """What follows a grid is merged as pixels; the general way gives the same objects."""
    rng = np.random.default_rng(5)
    for number in range(4):
        mask = np.zeros((SIZE, SIZE), bool)
        for top, left in rng.integers(0, SIZE - 12, (12, 2)):
            mask[top : top + rng.integers(3, 12), left : left + rng.integers(3, 12)] = True
        export_mask(tmp_path / "r" / f"scene-{number}", mask, GRID, CRS, day(2020, 200 + number))
    build(tmp_path / "r", tmp_path / "pixels")
    monkeypatch.setattr("darts_dataset.readings.outline_segments", lambda *_: None)
    build(tmp_path / "r", tmp_path / "outlines")
    pixels, others = (objects_of(tmp_path / name, 2020).sort_values("area_m2") for name in ("pixels", "outlines"))
    for name in ("n_hits", "n_looks", "n_detections"):
        assert pixels[name].tolist() == others[name].tolist()
    for name in ("area_m2", "majority_area_m2", "area_min_m2", "area_median_m2", "area_max_m2"):
        np.testing.assert_allclose(pixels[name], others[name], rtol=1e-4, atol=0.05)


@pytest.mark.slow
def test_two_zones_and_the_antimeridian_are_one_dataset(tmp_path):
    """One slump in the grids of two zones is one object; a scene across 180° is cut there and is whole again."""
    here = blocks((40, 60, 40, 60))
    export_mask(tmp_path / "r" / "west", here, GRID, CRS, day(2020, 200))
    x, y = gpd.GeoSeries([shapely.Point(GRID * (50, 50))], crs=CRS).to_crs("EPSG:32607").iloc[0].coords[0]
    other = Affine(PIXEL, 0, x - 50 * PIXEL, 0, -PIXEL, y + 50 * PIXEL)
    export_mask(tmp_path / "r" / "east", here, other, "EPSG:32607", day(2020, 210))
    cx, cy = gpd.GeoSeries([shapely.Point(180, 68)], crs="EPSG:4326").to_crs("EPSG:32601").iloc[0].coords[0]
    across = Affine(PIXEL, 0, cx - 50 * PIXEL, 0, -PIXEL, cy + 50 * PIXEL)
    for number in range(2):
        export_mask(tmp_path / "r" / f"across-{number}", here, across, "EPSG:32601", day(2020, 200 + number))
    made = build(tmp_path / "r", tmp_path / "dataset")
    assert check(made.path).failures == ()
    frame = objects_of(made.path, 2020)
    assert len(frame) == 2
    assert frame["n_hits"].tolist() == frame["n_looks"].tolist() == [2, 2]
    west, east = (gpd.read_parquet(tmp_path / "r" / name / "prediction_segments.parquet") for name in ("west", "east"))
    both = shapely.union_all([west.geometry.iloc[0], east.to_crs(west.crs).geometry.iloc[0]])
    assert both.area > 410 * PIXEL**2  # The grids of two zones are turned against one another.
    ours = frame[frame["lon"].abs() < 170].iloc[0]
    assert ours["area_m2"] == pytest.approx(both.area, rel=2e-3)
    assert ours["area_max_m2"] == pytest.approx(400 * PIXEL**2, rel=2e-3)
    cut = frame[frame["lon"].abs() > 170].geometry.iloc[0]
    assert (cut.bounds[0], cut.bounds[2]) == (-180, 180)
    assert cut.area < 1e-4  # square degrees: it does not go around the globe
    ground = frame.loc[frame["lon"].abs() > 170, "area_m2"].iloc[0]
    assert ground == pytest.approx(400 * PIXEL**2, rel=2e-3)


def test_a_majority_counts_looks_that_saw_less_than_half_of_an_object(tmp_path):
    """Four looks saw 12 of 30 columns, and have nothing there; they count there, not in `n_looks`."""
    mask = blocks((10, 20, 5, 35))
    right = np.zeros_like(mask)
    right[:, 23:] = True
    nothing = np.zeros_like(mask)
    for number, (found, seen) in enumerate([(mask, None), (mask, None), (nothing, None), *[(nothing, right)] * 4]):
        export_mask(tmp_path / "r" / f"{number}", found, GRID, CRS, day(2020, 150 + number), extent=seen)
    build(tmp_path / "r", tmp_path / "d")
    frame = objects_of(tmp_path / "d", 2020)
    assert frame[["n_hits", "n_looks"]].to_numpy().tolist() == [[2, 3]]
    assert frame["area_m2"].item() == pytest.approx(300 * PIXEL**2, rel=2e-3)
    assert frame["majority_area_m2"].item() == pytest.approx(180 * PIXEL**2, rel=2e-3)


def test_a_majority_counts_the_looks_that_saw_a_place(tmp_path):
    """Three looks at a block of 20 by 20 pixels that one has; another saw 12 columns of it, where nothing is most."""
    extent = blocks((0, SIZE, 0, 62))
    block = blocks((40, 60, 50, 70))
    for number, (mask, seen) in enumerate(((block, None), (~extent & extent, None), (~extent & extent, extent))):
        export_mask(tmp_path / "r" / f"scene-{number}", mask, GRID, CRS, day(2020, 200 + number), extent=seen)
    frame = objects_of(build(tmp_path / "r", tmp_path / "dataset").path, 2020)
    assert frame[["n_looks", "n_hits"]].to_numpy().tolist() == [[3, 1]]
    assert frame["area_m2"].item() == pytest.approx(400 * PIXEL**2, rel=2e-3)
    assert frame["majority_area_m2"].item() == pytest.approx(160 * PIXEL**2, rel=2e-3)


def test_both_hemispheres_are_one_dataset(tmp_path):
    """A slump in the north and one in the south, of which the southern one vanishes while others are looked at."""
    here = blocks((40, 60, 40, 60))
    there = Affine(PIXEL, 0, LEFT, 0, -PIXEL, 4_400_000)
    for year in (2020, 2021):
        export_mask(tmp_path / "r" / f"north-{year}", here, GRID, CRS, day(year))
        export_mask(tmp_path / "r" / f"south-{year}", here & (year == 2020), there, "EPSG:32719", day(year))
    made = build(tmp_path / "r", tmp_path / "dataset")
    assert check(made.path).failures == ()
    first, second = (objects_of(made.path, year) for year in (2020, 2021))
    assert first["area_m2"].tolist() == pytest.approx([400 * PIXEL**2] * 2, rel=2e-3)
    assert sorted(np.sign(first["lat"])) == [-1, 1]
    assert second["object_id"].tolist() == first.loc[first["lat"] > 0, "object_id"].tolist()
    south = first.loc[first["lat"] < 0, "object_id"].item()
    assert (2020, 2021, south, None, "gone") in links_of(made.path)
    assert sorted(path.name for path in made.path.glob("coverage/year=2021/*")) == [
        *("looks-north.tif", "looks-south.tif", "seen.parquet"),
    ]


# Real outlines and real passes.


@pytest.mark.slow
def test_twelve_experts_are_twelve_looks_at_one_place(shared_data, tmp_path):
    """Areas, majorities, hits and objects against rasters of the experts' outlines."""
    rasterio = pytest.importorskip("rasterio")
    from rasterio.features import rasterize

    drawn = gpd.read_file(shared_data / "peel" / "experts.gpkg")
    with rasterio.open(next((shared_data / "peel").glob("S2_*.tif"))) as source:
        shape, transform, crs = source.shape, source.transform, source.crs
    drawn = drawn.to_crs(crs)
    (who,) = [name for name in drawn.columns if drawn[name].nunique() == 12][:1]
    masks = []
    for number, (_, rows) in enumerate(drawn.groupby(who)):
        mask = rasterize(rows.geometry, shape, transform=transform).astype(bool)
        masks.append(mask)
        export_mask(tmp_path / "r" / f"expert-{number:02}", mask, transform, crs.to_wkt(), day(2021, 200 + number))
    made = build(tmp_path / "r", tmp_path / "dataset")
    assert (made.looks, check(made.path).failures) == (12, ())
    frame = objects_of(made.path, 2021)
    assert set(frame["n_looks"]) == {12}
    hits = np.sum(masks, axis=0)
    pixel = abs(transform.a * transform.e)
    assert frame["area_m2"].sum() / pixel == pytest.approx((hits > 0).sum(), rel=2e-3)
    assert frame["majority_area_m2"].sum() / pixel == pytest.approx((hits >= 6).sum(), rel=2e-3)
    laid = frame.to_crs(crs)
    burnt = rasterize(
        zip(laid.geometry, range(1, len(laid) + 1), strict=True), shape, transform=transform, dtype="int32"
    )
    assert ((burnt > 0) == (hits > 0)).mean() > 0.9999
    for number, each in enumerate(laid["n_hits"], 1):
        assert each == sum((mask & (burnt == number)).any() for mask in masks)


@pytest.mark.slow
def test_frames_of_one_real_pass_are_one_look(shared_data, tmp_path):
    """Ten files of seven passes, two of which, by two satellites, are five minutes apart."""
    from darts_acquisition import find_planet_scenes, load_planet_masks, load_planet_scene

    seen: dict[str, tuple[np.ndarray, Affine]] = {}
    for scene in find_planet_scenes(shared_data / "planet_order"):
        tile = load_planet_scene(scene)
        quality = load_planet_masks(scene)["quality_data_mask"].to_numpy() > 0
        box = tile.odc.geobox
        mask = np.zeros(box.shape, bool)
        if quality.any():
            row, column = np.argwhere(quality)[np.count_nonzero(quality) // 2]
            mask[row - 4 : row + 4, column - 4 : column + 4] = True
        time = datetime.fromisoformat(tile.attrs["time"])
        name, crs = tile.attrs["tile_id"], str(box.crs)
        export_mask(tmp_path / "r" / name, mask & quality, box.affine, crs, time, extent=quality)
        seen[name] = (quality, box.affine)
    made = build(tmp_path / "r", tmp_path / "dataset")
    assert made.scenes == 10
    assert made.looks == 6
    assert check(made.path).failures == ()

    # Looks of each object by counting the pixels of each frame within it.
    detections = gpd.read_parquet(made.path / "level1")
    parts = made.path.glob("level2/*/objects.parquet")
    objects = pd.concat([gpd.read_parquet(path) for path in parts], ignore_index=True)
    looks = dict(zip(detections["tile_id"], detections["look"], strict=True))
    assert set(looks) == {name for name, (quality, _) in seen.items() if quality.any()}
    laid = objects.to_crs(crs)
    for number, outline in enumerate(laid.geometry):
        found = set()
        for look in set(looks.values()):
            frames = [seen[name] for name in looks if looks[name] == look]
            inside = [shares_of(outline, *frame) for frame in frames]
            hit = set(laid["detections"][number]) & set(detections.loc[detections["look"] == look, "object_uid"])
            if sum(inside) >= 0.5 or hit:
                found.add(look)
        assert laid["n_looks"][number] == len(found)
    assert laid["n_looks"].max() > 2


def shares_of(outline: shapely.MultiPolygon, quality: np.ndarray, transform: Affine) -> float:
    """Return the share of an outline's pixels of a frame that have quality."""
    from rasterio.features import rasterize

    burnt = rasterize([outline], quality.shape, transform=transform).astype(bool)
    return float((burnt & quality).sum() * abs(transform.a * transform.e) / outline.area)
