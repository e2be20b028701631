"""Reading result folders, written here by hand: nothing of the package that exports is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from darts_utils import DartsError, ManifestError, ResultFolder, read_manifest
from darts_utils.results import describe_mixture, result_folders

FILES = ("prediction_segments.parquet", "prediction_segments-m.parquet", "prediction_extent.parquet", "slope.tif")


def make_folder(folder: Path, files: tuple[str, ...] = FILES, **entries: Any) -> Path:
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_bytes(b"12345")
    listed = {name: {"size": 5, "sha256": ""} for name in files}
    (folder / "manifest.json").write_text(json.dumps({"files": listed, **entries}), encoding="utf-8")
    return folder


def test_what_the_manifest_says_comes_back(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "тайга", tile_id="größe", status="success", summary={"objects": 3})
    manifest = read_manifest(folder)
    assert manifest["summary"] == {"objects": 3}
    assert sorted(manifest["files"]) == sorted(FILES)
    assert ResultFolder.open(str(folder)).manifest == manifest == read_manifest(str(folder))
    assert ResultFolder.open(folder).tile_id == "größe"


def test_a_manifest_without_status_is_a_success(tmp_path: Path) -> None:
    folder = ResultFolder.open(make_folder(tmp_path / "tile"))
    assert folder.manifest["status"] == "success"
    assert not folder.is_empty
    assert folder.tile_id == "tile"
    assert ResultFolder.open(make_folder(tmp_path / "none", (), status="empty")).is_empty


def test_paths_of_objects_and_extent(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "tile")
    folder = ResultFolder.open(path)
    assert folder.segments() == path / "prediction_segments.parquet"
    assert folder.segments("m") == path / "prediction_segments-m.parquet"
    assert folder.extent() == path / "prediction_extent.parquet"
    assert folder.segments("other") is None
    (path / "prediction_segments-other.parquet").write_bytes(b"of somebody")
    assert folder.segments("other") is None
    bare = ResultFolder.open(make_folder(tmp_path / "bare", ("slope.tif",)))
    assert (bare.segments(), bare.extent()) == (None, None)


def test_a_file_is_missing_unless_it_is_there_as_recorded(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "tile", ("a", "b", "c", "d"))
    folder = ResultFolder.open(path)
    assert folder.missing("abcd") == []
    (path / "a").unlink()
    (path / "b").write_bytes(b"1234")
    (path / "c").unlink()
    (path / "c").mkdir()
    folder.manifest["files"]["d"] = 5
    (path / "e").write_bytes(b"12345")
    assert folder.missing("edcba") == ["e", "d", "c", "b", "a"]
    assert folder.missing(["a\0b", "../tile/e"]) == ["a\0b", "../tile/e"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"files": []}', b"\xff", b"[" * 100_000, b"\xef\xbb\xbf{"]
)
def test_what_is_no_manifest_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestError, match=r"manifest\.json") as error:
        read_manifest(tmp_path)
    assert isinstance(error.value, DartsError)
    assert isinstance(error.value, FileNotFoundError)


def test_a_folder_without_a_manifest_is_the_same_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ManifestError, match="holds no finished export"):
            ResultFolder.open(folder)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(ManifestError):
        ResultFolder.open(tmp_path)


def test_the_reader_needs_the_standard_library_only() -> None:
    source = Path(sys.modules[ResultFolder.__module__].__file__ or "")
    code = (
        "import sys, types; package = types.ModuleType('darts_utils'); "
        f"package.__path__ = [{str(source.parent)!r}]; sys.modules['darts_utils'] = package; "
        "import darts_utils.results; assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_of_results_names_one_of_them(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        make_folder(tmp_path / name)
    with pytest.raises(
        ManifestError, match=r"holds no finished export\. Of the folders in it 3 do, a first: open these"
    ):
        ResultFolder.open(tmp_path)


def said(models: dict[str, str | None] | None = None, **configuration: object) -> dict[str, Any]:
    known = {"models": {name: {"sha256": digest} for name, digest in models.items()}} if models else {}
    return {"metadata": known | {"configuration": configuration}}


def test_a_mixture_names_models_and_options_that_decide() -> None:
    one = said({"a": "1" * 64}, binarization_threshold=0.5, export_bands=["dem"])
    assert describe_mixture([one, one]) == describe_mixture([]) == ""
    other = said({"a": "2" * 64}, binarization_threshold=0.3, export_bands=[])
    assert describe_mixture([one, other, other]) == (
        "models (a 22222222 in 2 tiles, a 11111111 in 1 tile); binarization_threshold (0.3 in 2 tiles, 0.5 in 1 tile)"
    )
    assert describe_mixture([said({"b": None, "a": None}), said({"a": None, "b": None})]) == ""


@pytest.mark.parametrize("odd", [{}, {"metadata": None}, {"metadata": {"models": [], "configuration": "x"}}])
def test_what_a_manifest_does_not_say_is_no_mixture(odd: dict[str, Any]) -> None:
    assert describe_mixture([odd, said({"a": "1" * 64}, min_object_size=8)]) == ""


def test_folders_of_results_are_found_at_any_depth(tmp_path: Path) -> None:
    root = tmp_path / "results"
    deep, near = make_folder(root / "2021" / "a" / "one"), make_folder(root / "two")
    make_folder(root / "2021" / ".darts-draft" / "three")
    (root / "none").mkdir()
    assert result_folders(root) == [deep, near]
    assert result_folders(str(near)) == [near]
    assert result_folders(near / "manifest.json") == result_folders(root / "absent") == []
    # A selection of tiles is often a folder of links; one that leads back ends no search.
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "link").symlink_to(deep)
    (chosen / "again").symlink_to(deep)
    (chosen / "back").symlink_to(chosen)
    assert result_folders(chosen) == [chosen / "again"]


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "open")
    closed = make_folder(tmp_path / "closed")
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ManifestError, match="closed may not be looked into, and may hold results"):
        result_folders(tmp_path)
