"""What several packages use stands in one place: no list of bands or features is written down twice."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import darts_postprocessing as post
import darts_preprocessing as pre
from darts_export import export_tile
from darts_utils import BANDS, InputTypeError
from support.preprocessing import make_dem, make_geobox, make_tile, rough
from support.segmentation import PixelNetwork, segmenter

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
FEWEST = 3
NAMES = frozenset(BANDS)
COLOURS = {"red", "green", "blue"}
"""What any picture is made of."""


def lists_of_bands(tree: ast.Module) -> Iterator[tuple[int, frozenset[str]]]:
    """Yield line and names of each tuple, list, set or dict of at least three texts, all of them names of bands."""
    for node in ast.walk(tree):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = list(node.elts)
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        texts = {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
        if FEWEST <= len(texts) == len(parts) and texts <= NAMES and texts != COLOURS:
            yield node.lineno, frozenset(texts)


def test_the_search_finds_lists() -> None:
    code = 'a = ("slope", "aspect", "dem")\nb = {"red": 1, "nir": 2, "blue": 3}\nc = ["red", "nir"]'
    assert [line for line, _ in lists_of_bands(ast.parse(code))] == [1, 2]


def test_no_list_of_bands_exists_twice() -> None:
    places: dict[frozenset[str], list[str]] = defaultdict(list)
    for path in sorted(PACKAGES.glob("*/src/**/*.py")):
        text = path.read_text("utf-8")
        if sum(f'"{name}"' in text for name in NAMES) < FEWEST:
            continue
        for line, names in lists_of_bands(ast.parse(text)):
            places[names].append(f"{path.relative_to(PACKAGES)}:{line}")
    twice = {", ".join(sorted(names)): where for names, where in places.items() if len(where) > 1}
    assert not twice
    # The data model, what a product or a table holds, and what Planet and Earth Engine call their bands.
    assert len(places) <= 8, dict(places)


ALLOWED = {
    # Of CPUs, `darts env-info` says how many there are beside how many may be used.
    r"cpu_count|sched_getaffinity": {"resources", "environment"},
    # A GPU's libraries label there; rings of outlines, pairs that overlap, and made-up ponds are no objects of a mask.
    # Nor are the pieces of one object in several tiles.
    r"connected_components|\bndimage\.label|import label\b": {
        *("segments", "cuda", "outlines", "matching", "overlaps", "fragments", "heldout", "scar", "terrain"),
    },
    # Whole folders of results, of a scene, of a cube; a download that goes on; a lock that is set aside.
    r"os\.replace|os\.rename|\.rename\((target|aside|owner|work)|draft\.replace": {
        *("atomic", "staging", "repository", "store", "lock"),
    },
}
"""What is done once, as it shows in the text of a module, and the modules that may."""


@pytest.mark.parametrize("pattern", ALLOWED)
def test_no_labelling_atomic_writer_or_count_of_cpus_exists_twice(pattern: str) -> None:
    found = {path for path in PACKAGES.glob("*/src/**/*.py") if re.search(pattern, path.read_text("utf-8"))}
    assert found
    assert {path.stem for path in found} <= ALLOWED[pattern], found


@pytest.mark.filterwarnings("ignore::darts_preprocessing.ShortMarginWarning")
@pytest.mark.parametrize("dims", [("lat", "lon"), pytest.param(("yc", "xc"), marks=pytest.mark.slow)])
def test_every_stage_takes_every_name_of_rows_and_columns(dims, tmp_path) -> None:
    """Dimensions under another name that odc.geo knows give what y and x give, from stage to stage."""
    grid = make_geobox((40, 50))
    usual = make_tile(grid, 3, time="2021-08-21T21:00:19Z")
    dem = make_dem(rough((40, 50), np.random.default_rng(1)), grid)
    dem["arcticdem_data_mask"] = (dem.dem.dims, np.ones((40, 50), np.uint8))
    names = dict(zip(("y", "x"), dims, strict=True))
    model = segmenter(PixelNetwork((3.0, -2.0, 1.5)))
    results = []
    for rename in (lambda ds: ds, lambda ds: ds.rename(names)):
        tile = pre.preprocess_v2(rename(usual), rename(dem), None, 20, device="cpu")
        tile = model.segment_tile(tile, patch_size=32, overlap=8)
        tile = post.prepare_export(tile, quality_level=1, mask_erosion_size=1, min_object_size=3, device="cpu")
        export_tile(tile, tmp_path / "tile", ["probabilities", "extent", "slope", "thumbnail"], overwrite=True)
        results.append(tile)
    assert results[1]["slope"].dims == results[1]["extent"].dims == results[1]["probabilities"].dims == dims
    for name in results[0].data_vars:
        np.testing.assert_array_equal(results[1][name].values, results[0][name].values, err_msg=str(name))


@pytest.mark.parametrize(
    "run",
    [
        lambda given: pre.preprocess_v2(given, None, None, device="cpu"),
        lambda given: segmenter(PixelNetwork((3.0, -2.0, 1.5))).segment_tile(given),
        lambda given: post.prepare_export(given, device="cpu"),
        lambda given: export_tile(given, "never"),
    ],
)
def test_every_stage_says_the_same_of_an_array_where_a_tile_is_meant(run) -> None:
    with pytest.raises(InputTypeError, match=r"Expected an xarray\.Dataset with one variable per band, but got a Data"):
        run(xr.DataArray(np.zeros((3, 4), np.float32), dims=("y", "x")))
