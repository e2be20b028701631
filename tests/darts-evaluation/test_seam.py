"""Labels and areas across 180° and around the pole mean the same in every CRS."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from darts_evaluation import RepairedLabelsWarning, evaluate, make_labels
from darts_evaluation.predictions import TileMap, mapped_objects
from support.maps import ground_m2

pytestmark = pytest.mark.filterwarnings("ignore::darts_evaluation.FewBlocksWarning")
CRS = "EPSG:32601"
LEFT, TOP = 386_170.0, 7_803_110.0  # 180° runs through the middle of a tile of 2 km that begins here


def tile_at(left: float, top: float, crs: str, mapped: np.ndarray) -> TileMap:
    grid = Affine(10, 0, left, 0, -10, top)
    return TileMap("a", crs, grid, mapped, np.ones_like(mapped), mapped_objects(mapped, grid, crs))


def box(left: float, top: float, edge: float) -> shapely.Polygon:
    return shapely.box(LEFT + left, TOP - top - edge, LEFT + left + edge, TOP - top)


@pytest.mark.filterwarnings("ignore::darts_evaluation.RepairedLabelsWarning")
@pytest.mark.parametrize("labels_crs", [CRS, "EPSG:4326", "EPSG:3413"])
@pytest.mark.parametrize("area_crs", [CRS, "EPSG:4326", "EPSG:3413"])
def test_ground_across_180_degrees_is_that_of_the_metres(labels_crs, area_crs):
    mapped = np.zeros((200, 200), bool)
    mapped[90:110, 90:110] = True
    outlines = gpd.GeoDataFrame(geometry=[box(900, 900, 200), box(400, 400, 100), box(1500, 400, 100)], crs=CRS)
    area = gpd.GeoSeries([box(300, 300, 1400)], crs=CRS)
    labels = make_labels(outlines.to_crs(labels_crs), area.to_crs(area_crs))
    found = evaluate([tile_at(LEFT, TOP, CRS, mapped)], labels).figures
    assert found["pixels"]["evaluated_km2"].value == pytest.approx(ground_m2(box(300, 300, 1400), CRS) / 1e6, rel=1e-5)
    slumps = sum(ground_m2(shape, CRS) for shape in outlines.geometry) / 1e6
    assert found["pixels"]["slump_km2"].value == pytest.approx(slumps, rel=1e-5)
    assert found["pixels"]["iou"].value == pytest.approx(4 / 6)
    assert found["objects"]["f1@0.9"].value == pytest.approx(0.5)


def test_shapes_taken_to_cross_180_degrees_are_a_warning():
    crossing = gpd.GeoDataFrame(geometry=[shapely.box(-179.99, 70, 179.99, 70.01)], crs="EPSG:4326")
    with pytest.warns(RepairedLabelsWarning, match="1 shapes have an edge from one side of 180°"):
        labels = make_labels(crossing)
    assert labels.outlines.total_bounds == pytest.approx([179.99, 70, 180.01, 70.01])


@pytest.mark.parametrize(
    ("area", "crs"),
    [
        (shapely.box(-180, 50, 180, 90), "EPSG:4326"),
        (shapely.segmentize(shapely.box(-179.5, 50, 179.5, 89), 1), "EPSG:4326"),
        (shapely.box(-3.9e6, -3.9e6, 3.9e6, 3.9e6), "EPSG:3413"),
    ],
)
@pytest.mark.parametrize("labels_crs", ["EPSG:4326", "EPSG:3413"])
def test_an_area_around_the_pole_holds_all_of_it(area, crs, labels_crs):
    outlines = gpd.GeoDataFrame(geometry=[shapely.box(-135, 69, -134.99, 69.01)], crs="EPSG:4326").to_crs(labels_crs)
    labels = make_labels(outlines, gpd.GeoSeries([area], crs=crs))
    for left, top, zone in ((500_000.0, 7_700_000.0, 8), (500_000.0, 9_300_000.0, 20)):
        tile = tile_at(left, top, f"EPSG:326{zone:02}", np.zeros((100, 100), bool))
        true = ground_m2(shapely.box(left, top - 1000, left + 1000, top), tile.crs) / 1e6
        assert evaluate([tile], labels).figures["pixels"]["evaluated_km2"].value == pytest.approx(true, rel=1e-5)


PLACES = [
    ("EPSG:32608", 500_000, 7_600_000),
    ("EPSG:32608", 750_000, 7_000_000),
    ("EPSG:32718", 300_000, 4_700_000),
    ("EPSG:3413", -2_600_000, -300_000),
    ("EPSG:3413", -3_400_000, -300_000),
    ("EPSG:6931", -1_500_000, 1_500_000),
]


@pytest.mark.filterwarnings("ignore::darts_utils.ArealScaleWarning")
@pytest.mark.parametrize(("crs", "left", "top"), PLACES)
def test_areas_are_those_on_the_ground_in_every_crs(crs, left, top):
    """As the areas of an export are; those of EPSG:3413 on the grid are 9 % larger at 59° N."""
    mapped = np.zeros((100, 100), bool)
    mapped[10:40, 10:40], mapped[60:80, 20:70] = True, True
    tile = tile_at(left, top, crs, mapped)
    true = [
        shapely.box(left + west, top - south, left + east, top - north)
        for west, north, east, south in ((100, 150, 400, 450), (200, 600, 600, 800))
    ]
    area = shapely.box(left, top - 1000, left + 1000, top)
    labels = make_labels(gpd.GeoDataFrame(geometry=true, crs=crs), gpd.GeoSeries([area], crs=crs))
    found = evaluate([tile], labels)
    slumps = [ground_m2(shape, crs) for shape in true]
    objects = [ground_m2(shape, crs) for shape in tile.objects.geometry]
    pixels, size = found.figures["pixels"], found.figures["size"]
    assert pixels["evaluated_km2"].value == pytest.approx(ground_m2(area, crs) / 1e6, rel=1e-5)
    assert pixels["slump_km2"].value == pytest.approx(sum(slumps) / 1e6, rel=1e-4)
    assert size["area_bias_m2"].value == pytest.approx((sum(objects) - sum(slumps)) / 2, rel=1e-4)
    assert sorted(found.outlines["area_m2"]) == pytest.approx(sorted(objects), rel=1e-6)
