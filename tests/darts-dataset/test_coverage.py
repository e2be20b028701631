"""The map of looks against points in polygons, and what it costs where areas lie far apart."""

import numpy as np
import pytest
import shapely
from shapely.affinity import translate

from darts_dataset import coverage
from darts_dataset.geometry import NORTH
from darts_dataset.looks import Look

rasterio = pytest.importorskip("rasterio")
cogeo = pytest.importorskip("rio_cogeo.cogeo")


def looks_of(extents: list) -> list[Look]:
    return [Look(str(number), (number,), 2020, 7, NORTH, extent) for number, extent in enumerate(extents)]


def blob(rng: np.random.Generator):
    """A ragged outline, or two of them, with a hole now and then."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 20)))
    reach = rng.uniform(500, 6000, len(angles))
    middle = np.array([-2_000_000, 1_500_000]) + rng.uniform(-9000, 9000, 2)
    ring = middle + np.column_stack([np.cos(angles), np.sin(angles)]) * reach[:, None]
    shape = shapely.make_valid(shapely.Polygon(ring))
    if rng.random() < 0.5:
        shape = shapely.union(shape, translate(shape, 8100, -4000))
    if rng.random() < 0.5:
        shape = shapely.difference(shape, shapely.Point(middle).buffer(900))
    return shapely.MultiPolygon([part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"])


@pytest.mark.parametrize("seed", range(4))
def test_looks_are_those_whose_polygon_holds_the_middle_of_a_pixel(tmp_path, monkeypatch, seed):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(coverage, "_BLOCK", 32)
    extents = [blob(rng) for _ in range(rng.integers(1, 12))]
    coverage.write_coverage(tmp_path, "part", looks_of(extents))
    path = tmp_path / "part" / "looks-north.tif"
    assert cogeo.cog_validate(path, strict=True)[0]
    with rasterio.open(path) as file:
        found = file.read(1)
        rows, columns = np.indices(found.shape)
        x, y = file.transform @ (columns + 0.5, rows + 0.5)
        bounds = shapely.total_bounds(extents)
        assert (np.abs(np.array(file.bounds) - bounds) <= coverage.PIXEL_M).all()
    np.testing.assert_array_equal(found, sum(shapely.contains_xy(each, x, y).astype(int) for each in extents))


def is_in(file, column: int, row: int) -> bool:
    return file.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1) is not None


def test_ground_between_areas_far_apart_is_no_part_of_the_map(tmp_path, monkeypatch):
    """Two areas 700 km apart: of 91 blocks of 51 km those with looks are drawn, and are in the file."""
    drawn = []

    def drawing(shapes, *arguments, **options):
        drawn.append(len(shapes))
        return rasterize(shapes, *arguments, **options)

    rasterize = coverage.rasterize
    monkeypatch.setattr(coverage, "rasterize", drawing)
    one = shapely.box(2_000_000, 0, 2_020_000, 20_000)
    other = translate(one, 600_000, -300_000)
    coverage.write_coverage(tmp_path, "part", looks_of([one, one, other]))
    path = tmp_path / "part" / "looks-north.tif"
    assert cogeo.cog_validate(path, strict=True)[0]
    assert drawn == [2, 1, 1, 1, 1]
    with rasterio.open(path) as file:
        assert file.shape == (3200, 6200)
        there = {(column, row) for row in range(7) for column in range(13) if is_in(file, column, row)}
        assert there == {(0, 0), (11, 5), (11, 6), (12, 5), (12, 6)}
        for (left, top), looks in {(0, 0): 2, (3000, 1500): 0, (6000, 3000): 1}.items():
            window = rasterio.windows.Window(left, top, 200, 200)
            assert (file.read(1, window=window) == looks).all()
