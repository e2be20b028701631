"""Which folders an export replaces, which it refuses, and that planning and the export itself agree on it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from darts_export import (
    ExportError,
    ExportTargetError,
    check_export_target,
    export_empty,
    export_tile,
    missing_outputs,
    read_manifest,
)

BANDS = ["extent", "slope"]
OURS = [
    *("collection.json", "item.json", "manifest.json", "prediction_extent.gpkg", "prediction_extent.parquet"),
    *("preview.tif", "slope.tif"),
]
MakeFolder = Callable[..., Path]


def write_raster(path: Path, **tags: str) -> None:
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:32608"}
    with rasterio.open(path, "w", transform=Affine(3, 0, 500_001, 0, -3, 7_500_003), **profile) as raster:
        raster.write(np.ones((1, 8, 8), np.uint8))
        raster.update_tags(**tags)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Make a folder of files: "+name" is a raster with a tag of DARTS, "name/" a folder, the rest have any content."""

    def make(*names: str) -> Path:
        folder = tmp_path / "tile"
        folder.mkdir(exist_ok=True)
        for name in names:
            path = folder / name.lstrip("+")
            if name.endswith("/"):
                path.mkdir()
            elif name.startswith("+"):
                write_raster(path, DARTS_tileid="here")
            elif name.endswith(".tif"):
                write_raster(path, AREA="mine")
            else:
                path.write_text("mine")
        return folder

    return make


def agree(make_tile, folder: Path, overwrite: bool = False) -> str:
    """Return what both planning and the export say about a folder; empty where both accept it."""
    try:
        check_export_target(folder, BANDS, overwrite=overwrite)
        planned = ""
    except ExportTargetError as error:
        planned = str(error)
    before = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else None
    try:
        export_tile(make_tile(), folder, BANDS, overwrite=overwrite)
        done = ""
    except ExportTargetError as error:
        done = str(error)
        assert before == (sorted(path.name for path in folder.iterdir()) if folder.is_dir() else None)
    assert planned == done
    assert sorted(path.name for path in folder.parent.iterdir() if path.name.startswith(".")) == []
    return planned


ORIGINAL = ["+probabilities.tif", "prediction_segments.gpkg", "prediction_segments.parquet", "thumbnail.jpg"]


@pytest.mark.parametrize(
    "names",
    [
        ORIGINAL,
        ["darts_inference.json", "binarized.tif", "slope.tif"],
        ["+probabilities-tcvis.tif", "prediction_segments-größe 1.gpkg", "binarized-a.tif", "prediction_extent.gpkg"],
        ["+probabilities.tif", "probabilities.tif.aux.xml", "probabilities.tif.ovr", "probabilities.qml", ".DS_Store"],
        ["+tc_brightness.tif", "tc_greenness.tif", "optical.tif", "dem.tif", "tcvis.tif", "preview.tif"],
        ["+my_own_index.tif", "darts_inference_debug.nc"],
        ["+probabilities.tif", "probabilities_lake.tif", "probabilities_lake.qml"],
    ],
)
def test_results_without_a_manifest_are_replaced_with_overwrite_only(make_tile, make_folder, names: list[str]) -> None:
    folder = make_folder(*names)
    refusal = agree(make_tile, folder)
    assert "holds files but no manifest of an export" in refusal
    assert "overwrite replaces them" in refusal
    assert agree(make_tile, folder, overwrite=True) == ""
    assert sorted(path.name for path in folder.iterdir()) == sorted(OURS + [".DS_Store"] * (".DS_Store" in names))


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "fi', b"[1]", b'{"files": 3}', bytes(range(128, 256))])
def test_results_with_a_damaged_manifest_are_replaced(make_tile, make_folder, content: bytes) -> None:
    """A power failure or somebody's hand may have cut it; nothing says that the other files are whole."""
    folder = make_folder("+probabilities.tif", "item.json")
    (folder / "manifest.json").write_bytes(content)
    assert agree(make_tile, folder) == ""
    assert sorted(path.name for path in folder.iterdir()) == OURS


@pytest.mark.parametrize("others", [["notes.txt"], ["slope.tif/"]])
def test_a_damaged_manifest_gives_nobody_elses_files_away(make_tile, make_folder, others: list[str]) -> None:
    folder = make_folder("+probabilities.tif", "manifest.json", *others)
    assert "holds files but no manifest" in agree(make_tile, folder)
    folder = make_folder("manifest.json")
    assert "holds files but no manifest" in agree(make_tile, folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*ORIGINAL, "notes.txt"], r"\(notes\.txt: no export of DARTS gives such a name\)"),
        ([*ORIGINAL, "my_own_index.tif"], r"\(my_own_index\.tif: no export"),
        ([*ORIGINAL, "slope.tif/"], r"\(slope\.tif: no export"),
        ([*ORIGINAL, "qgis/"], r"\(qgis: no export"),
        (["probabilities.tif", "slope.tif"], r"no raster there has a tag DARTS_\*, and there is no darts_inference"),
        (["slope.tif", "thumbnail.jpg"], "no raster there has a tag"),
        (["prediction_segments.gpkg"], "no raster there has a tag"),
        (["thesis.txt"], r"thesis\.txt: no export"),
        (["probabilities-.tif", "+probabilities.tif"], r"probabilities-\.tif: no export"),
        ([f"photo{number}.jpg" for number in range(9)], r"photo0\.jpg, .*photo4\.jpg and 4 more"),
    ],
)
def test_a_folder_with_anything_else_is_refused_by_name(make_tile, make_folder, names: list[str], message: str) -> None:
    folder = make_folder(*names)
    refusal = agree(make_tile, folder)
    assert "holds files but no manifest" in refusal
    assert "overwrite" not in refusal
    with pytest.raises(ExportTargetError, match=message):
        check_export_target(folder, BANDS, overwrite=True)
    assert "not even with overwrite" in agree(make_tile, folder, overwrite=True)


def test_a_raster_that_cannot_be_opened_is_no_evidence(make_tile, make_folder) -> None:
    folder = make_folder("thumbnail.jpg")
    (folder / "probabilities.tif").write_bytes(b"II*\0 cut off")
    assert "no raster there has a tag" in agree(make_tile, folder, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_nobody_wrote_is_accepted(make_tile, tmp_path: Path, make_folder, overwrite: bool) -> None:
    assert agree(make_tile, tmp_path / "absent", overwrite) == ""
    assert agree(make_tile, make_folder(), overwrite) == ""
    (tmp_path / "looked at").mkdir()
    (tmp_path / "looked at/.DS_Store").write_text("a file manager's")
    assert agree(make_tile, tmp_path / "looked at", overwrite) == ""
    assert (tmp_path / "looked at/.DS_Store").exists()


def test_a_file_beside_an_export_is_refused_only_where_it_would_be_replaced(make_tile, make_folder) -> None:
    folder = make_folder()
    export_tile(make_tile(), folder, ["extent"])
    make_folder("slope.tif")
    check_export_target(folder, ["extent"])
    refusal = agree(make_tile, folder)
    assert "holds slope.tif, which its export did not write and the new one would replace" in refusal
    assert agree(make_tile, folder, overwrite=True) == ""
    assert sorted(read_manifest(folder)["files"]) == sorted(set(OURS) - {"manifest.json"})


def test_a_file_that_would_be_replaced_beside_other_ones_is_refused(make_tile, make_folder) -> None:
    folder = make_folder()
    export_tile(make_tile(), folder, ["extent"])
    make_folder("slope.tif", "notes.txt")
    assert "not even with overwrite (notes.txt" in agree(make_tile, folder, overwrite=True)
    (folder / "slope.tif").unlink()
    assert agree(make_tile, folder) == ""
    assert (folder / "notes.txt").read_text() == "mine"


def test_the_debug_file_counts(make_tile, make_folder) -> None:
    folder = make_folder()
    export_tile(make_tile(), folder, BANDS)
    make_folder("darts_inference_debug.nc")
    check_export_target(folder, BANDS)
    with pytest.raises(ExportTargetError, match=r"holds darts_inference_debug\.nc"):
        check_export_target(folder, BANDS, debug=True)
    with pytest.raises(ExportTargetError, match=r"holds darts_inference_debug\.nc"):
        export_tile(make_tile(), folder, BANDS, debug=True)


def test_names_that_differ_by_case_are_two_files_where_the_file_system_says_so(make_tile, make_folder) -> None:
    folder = make_folder()
    export_tile(make_tile(), folder, ["extent"])
    make_folder("Slope.TIF")
    if (folder / "slope.tif").exists():
        assert "holds Slope.TIF" in agree(make_tile, folder)
    else:
        assert agree(make_tile, folder) == ""
        assert (folder / "Slope.TIF").exists()


def test_a_folder_that_changes_while_the_tile_is_written_is_refused(
    make_tile, make_folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder()
    before = export_tile(make_tile(), folder, ["extent"])
    from darts_export.export import write_manifest

    def write_meanwhile(*arguments):
        make_folder("slope.tif")
        return write_manifest(*arguments)

    monkeypatch.setattr("darts_export.export.write_manifest", write_meanwhile)
    with pytest.raises(ExportTargetError, match=r"holds slope\.tif"):
        export_tile(make_tile(), folder, BANDS)
    assert read_manifest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["tile"]


def test_a_file_instead_of_a_folder(make_tile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in agree(make_tile, tmp_path / "file")
    with pytest.raises(ExportError, match="cannot be read"):
        check_export_target(tmp_path / "file/tile", BANDS)


def test_an_empty_scene_follows_the_same_rule(make_folder) -> None:
    folder = make_folder(*ORIGINAL)
    with pytest.raises(ExportTargetError, match="overwrite replaces them"):
        export_empty(folder, "no data", tile_id="t")
    assert (folder / "thumbnail.jpg").exists()
    export_empty(folder, "no data", tile_id="t", overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


def test_a_style_that_somebody_saved_beside_a_raster_stays(make_tile, make_folder) -> None:
    """QGIS saves a default style under the name that an export gives its own."""
    folder = make_folder()
    export_tile(make_tile(), folder, ["probabilities"])
    for name in ("probabilities.qml", "binarized.qml", "preview.tif"):
        (folder / name).unlink(missing_ok=True)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    for name in ("probabilities.qml", "preview.tif", "collection.json"):  # an export of a release without them
        del manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    make_folder("probabilities.qml", "preview.tif")
    assert missing_outputs(folder, ["probabilities"]) == "none"
    check_export_target(folder, ["probabilities", "binarized"])
    found = export_tile(make_tile(), folder, ["probabilities", "binarized"])
    assert "binarized.qml" in found["files"]
    for name in ("probabilities.qml", "preview.tif"):
        assert name not in found["files"]
        assert name in {path.name for path in folder.iterdir()}
    assert (folder / "probabilities.qml").read_text() == "mine"
