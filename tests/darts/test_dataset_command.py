"""`darts dataset build | check | info`: what they print and write, and their exit codes."""

import re

import pytest

from darts_dataset import build
from support.commands import run_darts
from support.results import export_mask
from support.slump_worlds import CRS, GRID, GROWS, blocks, day, files_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    for name, number in (("may", 130), ("july", 200)):
        export_mask(folder / "results" / name, blocks(GROWS[0]), GRID, CRS, day(2020, number))
    return folder


def test_a_dataset_of_a_season_is_made_checked_and_shown(folder):
    arguments = ["--out", "made", "--season", "7", "--season", "8", "--keep-share", "0.5", "--cell-km", "10"]
    code, said = run_darts(folder, "dataset", "build", "results", *arguments)
    assert (code, "2 scenes, 2 looks, 2 detections, 1 object by year" in said) == (0, True)
    build(folder / "results", folder / "called", keep_share=0.5, season=[7, 8])
    assert files_of(folder / "made") == files_of(folder / "called")
    assert run_darts(folder, "dataset", "check", "made") == (0, "made is whole.\n")
    code, said = run_darts(folder, "dataset", "info", "made")
    assert code == 0
    assert "1 object by year in the months 7, 8" in said
    assert re.search(r"2020 +1 +0\.00\d +0\.00\d +0\.1 +0 +0 +0 +1 +0", said)


def test_what_is_left_out_or_damaged_ends_with_1(folder):
    (folder / "more" / "half").mkdir(parents=True)
    (folder / "more" / "half" / "manifest.json").write_text("{")
    code, said = run_darts(folder, "dataset", "build", "results", "more", "--out", "some")
    assert code == 1
    assert "left out: more/half" in said
    assert "dataset: some" in said
    (folder / "some" / "links.parquet").write_bytes(b"")
    code, said = run_darts(folder, "dataset", "check", "some")
    assert (code, "links.parquet was changed" in said) == (1, True)


@pytest.mark.filterwarnings("default::darts_dataset.MixedResultsWarning")
def test_results_that_were_not_made_alike_are_a_note(tmp_path):
    for year, threshold in ((2020, 0.5), (2021, 0.3)):
        options = {"binarization_threshold": threshold}
        export_mask(tmp_path / "results" / str(year), blocks(GROWS[0]), GRID, CRS, day(year), configuration=options)
    code, said = run_darts(tmp_path, "dataset", "build", "results", "--out", "mixed")
    assert code == 0
    assert re.search(r"^note: The results were not made alike, .*: binarization_threshold \(0\.5 in 1 tile, 0\.3", said)


def test_results_that_are_all_left_out_say_why(tmp_path):
    for year in (2020, 2021):
        export_mask(tmp_path / "results" / str(year), blocks(GROWS[0]), GRID, CRS, day(year))
        (tmp_path / "results" / str(year) / "prediction_segments.parquet").write_bytes(b"PAR1")
    code, said = run_darts(tmp_path, "dataset", "build", "results", "--out", "new")
    assert code == 2
    assert re.search(r"none of the results can be used\. .*2020.*segments\.parquet.* 1 more are left out\.", said)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--season", "13"], "season is"),
        (["--season", "1"], "No look is of the season"),
        (["--cell-km", "0"], "cell_km is 0"),
        (["--previous", "nowhere"], "holds no dataset"),
    ],
)
def test_mistakes_end_with_2(folder, arguments, reason):
    code, said = run_darts(folder, "dataset", "build", "results", "--out", "other", *arguments)
    assert (code, reason in said) == (2, True), said
    assert not (folder / "other").exists()
