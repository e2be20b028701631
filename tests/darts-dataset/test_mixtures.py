"""Results that were not made alike are taken together, and said to be so."""

import numpy as np
import pytest

from darts_dataset import CloudyGroundWarning, MixedResultsWarning, build
from support.results import export_mask
from support.slump_worlds import CRS, GRID, GROWS, VANISHES, blocks, day, objects_of


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


def test_cloudy_ground_that_counts_as_seen_is_told(tmp_path):
    """A quarter of the second scene is cloud, of which the third leaves half out and the fourth all."""
    mask = blocks(GROWS[0])
    quality = np.full(mask.shape, 2)
    quality[: mask.shape[0] // 4] = 1
    cloudy = quality == 1
    half = cloudy & (np.arange(mask.shape[1]) < mask.shape[1] // 2)
    for year, seen, shown in (
        (2019, np.ones_like(cloudy), np.full_like(quality, 2)),
        (2020, np.ones_like(cloudy), quality),
        (2021, ~half, quality),
        (2022, ~cloudy, quality),
    ):
        export_mask(tmp_path / f"scene-{year}", mask, GRID, CRS, day(year), extent=seen, quality=shown)
    with pytest.warns(
        CloudyGroundWarning, match=r"in 2 scenes, most in scene-2020 \(at least 25 % of it\), and slumps"
    ):
        build(tmp_path, tmp_path / "dataset")
    build([tmp_path / "scene-2019", tmp_path / "scene-2022"], tmp_path / "clear")
    with pytest.warns(CloudyGroundWarning, match=r"in 1 scene, most in scene-2021 \(at least 12 % of it\)"):
        build(tmp_path / "scene-2021", tmp_path / "half")


def test_links_to_results_are_results(tmp_path):
    """Of a folder of links to chosen tiles, one was found by an evaluation and none by a dataset."""
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for year in (2020, 2021):
        place = tmp_path / "results" / f"scene-{year}"
        export_mask(place, blocks(GROWS[0]), GRID, CRS, day(year))
        (chosen / place.name).symlink_to(place)
    assert build(chosen, tmp_path / "dataset").scenes == 2


def test_the_mean_probability_is_that_of_detections_that_have_one(tmp_path):
    """Slumps of one's own have none, but lie on those of a network; one such detection left nothing of the others."""
    mask, alone = blocks(GROWS[0]), blocks(GROWS[0], VANISHES)
    export_mask(tmp_path / "results" / "one", mask, GRID, CRS, day(2020), probabilities=np.where(mask, 0.7, 0.1))
    export_mask(tmp_path / "results" / "two", mask, GRID, CRS, day(2020, 210), probabilities=np.where(mask, 0.8, 0.1))
    export_mask(
        tmp_path / "results" / "own", alone, GRID, CRS, day(2020, 220), probabilities=np.where(alone, np.nan, 0)
    )
    build(tmp_path / "results", tmp_path / "dataset")
    found = objects_of(tmp_path / "dataset", 2020).sort_values("n_detections")
    assert found["n_detections"].tolist() == [1, 3]
    assert found["mean_probability"].tolist() == pytest.approx([np.nan, 0.75], nan_ok=True)
