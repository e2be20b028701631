"""Names of export bands: which are known, what they need, which files they give."""

from itertools import permutations
from pathlib import Path

import pytest

from darts_export import DEFAULT_EXPORT_BANDS, EXPORT_BANDS, check_export_bands, export_tile
from darts_export.products import plan_products, planned_files
from darts_utils import MissingBandError, ParameterError, UnknownBandError

FILES = {
    "probabilities": ["probabilities.tif", "probabilities-m.tif"],
    "binarized": ["binarized.tif", "binarized-m.tif"],
    "polygonized": [
        "prediction_segments.gpkg",
        "prediction_segments.parquet",
        "prediction_segments-m.gpkg",
        "prediction_segments-m.parquet",
    ],
    "extent": ["prediction_extent.gpkg", "prediction_extent.parquet"],
    "thumbnail": ["thumbnail.jpg"],
    "optical": ["optical.tif"],
    "dem": ["dem.tif"],
    "tcvis": ["tcvis.tif"],
    "metadata": ["darts_inference.json"],
    "slope": ["slope.tif"],
    "probabilities-m": ["probabilities-m.tif"],
}


@pytest.mark.parametrize(("name", "files"), FILES.items())
def test_each_name_gives_its_files_and_an_item(make_tile, tmp_path, name: str, files: list[str]) -> None:
    wanted = sorted(["item.json", *files])
    assert planned_files([name], ["m"]) == wanted
    rasters = [file for file in files if file.startswith(("probabilities", "binarized"))]
    beside = {f"{Path(file).stem}.qml" for file in rasters}
    beside |= {f"{file}.aux.xml" for file in rasters if file.startswith("binarized")}
    wanted = sorted({*wanted, *beside, "collection.json", "preview.tif"})
    manifest = export_tile(make_tile(models=("m",)), tmp_path / "tile", [name], ["m"])
    assert sorted(manifest["files"]) == wanted
    assert sorted(path.name for path in (tmp_path / "tile").iterdir()) == sorted([*wanted, "manifest.json"])


def test_the_plan_does_not_depend_on_the_order_of_names() -> None:
    names = ["extent", "slope", "probabilities", "aspect"]
    plans = [plan_products(order, models) for order in permutations(names) for models in (["b", "a"], ["a", "b", "a"])]
    assert all(plan == plans[0] for plan in plans)


def test_known_names_pass() -> None:
    check_export_bands(DEFAULT_EXPORT_BANDS)
    check_export_bands([*EXPORT_BANDS, "s2_scl", "probabilities-tcvis", "binarized_segmentation-a"])
    check_export_bands(["probabilities_active-layer-detachment"])
    check_export_bands(["mine"], ["mine"])
    check_export_bands([])


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownBandError) as error:
        check_export_bands(["probabilities", "thumbnial"])
    message = str(error.value)
    assert "'thumbnial' is unknown; did you mean 'thumbnail'?" in message
    assert all(name in message for name in (*EXPORT_BANDS, "slope", "quality_data_mask"))
    with pytest.raises(UnknownBandError, match=r"Known are: .*mine"):
        check_export_bands(["slope"], ["mine"])


def test_a_missing_variable_is_named() -> None:
    variables = ["probabilities", "binarized_segmentation", "extent", "red", "green", "blue"]
    check_export_bands(DEFAULT_EXPORT_BANDS, variables)
    with pytest.raises(MissingBandError, match=r"optical.tif needs nir, which the tile lacks"):
        check_export_bands(["optical"], variables)
    with pytest.raises(MissingBandError, match="needs probabilities-a"):
        check_export_bands(["probabilities"], variables, ["a"])


@pytest.mark.parametrize("names", ["probabilities", ["../slope"], ["a/b"], [""], [".hidden"], ["a\nb"]])
def test_names_that_are_no_file_names(names, tmp_path, make_tile) -> None:
    with pytest.raises(ParameterError):
        check_export_bands(names, ["../slope", "a/b", "", ".hidden", "a\nb"])
    with pytest.raises(ParameterError):
        export_tile(make_tile(), tmp_path / "tile", [], names)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["rts:v2", "a/b", "..\\\\c", "a*", "", "x" * 250])
def test_models_that_no_file_can_be_named_after(model: str) -> None:
    for variables in (None, ["probabilities", f"probabilities-{model}"]):
        with pytest.raises(ParameterError, match=r"cannot be part of a file name|expected at most 247"):
            check_export_bands(["probabilities"], variables, [model])


def test_the_longest_name_has_room_for_what_programs_append(tmp_path) -> None:
    longest = 247 - len("prediction_segments-.parquet")
    check_export_bands(["polygonized"], None, ["x" * longest])
    (tmp_path / f"prediction_segments-{'x' * longest}.parquet.aux.xml").touch()
    with pytest.raises(ParameterError, match="a name of 248 bytes; expected at most 247"):
        check_export_bands(["polygonized"], None, ["x" * (longest + 1)])


@pytest.mark.parametrize("models", [["RTS", "rts"], ["größe", "gro\u0308ße"], ["STRASSE", "straße"]])
def test_models_whose_files_some_systems_take_for_one(models: list[str]) -> None:
    with pytest.raises(ParameterError, match=r"differ only by case"):
        check_export_bands(["probabilities"], None, models)
    check_export_bands(["extent"], None, models)  # gives no file per model
    check_export_bands(["probabilities"], None, [models[0], models[0]])


def test_variables_whose_files_some_systems_take_for_one() -> None:
    with pytest.raises(ParameterError, match=r"files Slope\.tif and slope\.tif differ only by case"):
        check_export_bands(["slope", "Slope"], ["slope", "Slope"])
    with pytest.raises(ParameterError, match=r"differ only by case"):
        check_export_bands(["probabilities", "probabilities-A"], None, ["a"])


def test_mistakes_are_found_before_anything_is_written(make_tile, tmp_path) -> None:
    tile = make_tile()
    with pytest.raises(UnknownBandError):
        export_tile(tile, tmp_path / "tile", ["probabilities", "nonsense"])
    with pytest.raises(MissingBandError):
        export_tile(tile.drop_vars("green"), tmp_path / "tile")
    with pytest.raises(MissingBandError):
        export_tile(tile, tmp_path / "tile", ["probabilities"], ["absent"])
    assert list(tmp_path.iterdir()) == []
