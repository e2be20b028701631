"""Results that were not made alike are taken together, and said to be so."""

import pytest

from darts_dataset import MixedResultsWarning, build
from support.results import export_mask
from support.slump_worlds import CRS, GRID, GROWS, blocks, day


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("model", ("old", "new"), r"models \(old in 1 tile, new in 1 tile\)"),
        (
            "configuration",
            ({"binarization_threshold": 0.5}, {"binarization_threshold": 0.3}),
            r"binarization_threshold \(0\.5 in 1 tile, 0\.3 in 1 tile\)",
        ),
    ],
)
def test_a_dataset_of_two_kinds_of_results_says_so(tmp_path, key, values, said):
    """What is new or gone may be so because of the other model."""
    for year, value in zip((2020, 2021), values, strict=True):
        place = tmp_path / "results" / f"scene-{year}"
        export_mask(place, blocks(GROWS[0]), GRID, CRS, day(year), **{key: value})
    with pytest.warns(MixedResultsWarning, match=rf"not made alike, .* looks and years may be due to that: {said}"):
        made = build(tmp_path / "results", tmp_path / "dataset")
    assert made.scenes == 2
    build(tmp_path / "results" / "scene-2020", tmp_path / "alike")


def test_links_to_results_are_results(tmp_path):
    """Of a folder of links to chosen tiles, one was found by an evaluation and none by a dataset."""
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for year in (2020, 2021):
        place = tmp_path / "results" / f"scene-{year}"
        export_mask(place, blocks(GROWS[0]), GRID, CRS, day(year))
        (chosen / place.name).symlink_to(place)
    assert build(chosen, tmp_path / "dataset").scenes == 2
