"""A folder that says that a scene held no data."""

import json
from pathlib import Path

import pytest

from darts_export import ExportError, export_empty, export_tile, missing_outputs, read_manifest
from darts_utils import ParameterError, ResultFolder

BANDS = ["probabilities", "extent"]
REASON = "All pixels are 0."


def test_the_folder_holds_the_manifest_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "tile"
    metadata = {"source": "PlanetScope", "depends_on": {"path": Path("x")}}
    manifest = export_empty(folder, REASON, tile_id="tile-1", metadata=metadata, fingerprint="f1")
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["tile"]
    assert read_manifest(folder) == manifest == json.loads((folder / "manifest.json").read_text("utf-8"))
    assert (manifest["status"], manifest["reason"], manifest["files"]) == ("empty", REASON, {})
    assert (manifest["tile_id"], manifest["source"], manifest["fingerprint"]) == ("tile-1", "PlanetScope", "f1")
    assert manifest["metadata"]["depends_on"] == {"path": "x"}
    assert set(manifest["summary"].values()) == {None}
    assert manifest["versions"]["darts-export"]
    assert ResultFolder.open(folder).is_empty


def test_nothing_is_missing_there(tmp_path: Path) -> None:
    export_empty(tmp_path / "tile", REASON, tile_id="t", fingerprint="f1")
    assert missing_outputs(tmp_path / "tile", BANDS, ["m"]) == "none"
    assert missing_outputs(tmp_path / "tile", BANDS, ["m"], fingerprint="f1") == "none"
    assert missing_outputs(tmp_path / "tile", BANDS, fingerprint="f2") == "all"


def test_it_replaces_an_export_and_an_export_replaces_it(make_tile, tmp_path: Path) -> None:
    folder = tmp_path / "tile"
    export_tile(make_tile(), folder, BANDS)
    (folder / "notes.txt").write_text("mine")
    export_empty(folder, REASON, tile_id="t")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "notes.txt"]
    manifest = export_tile(make_tile(), folder, BANDS)
    assert manifest["status"] == read_manifest(folder)["status"] == "success"
    assert "reason" not in manifest
    assert missing_outputs(folder, BANDS) == "none"
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["tile"]


def test_an_export_of_an_early_release_is_a_success(make_tile, tmp_path: Path) -> None:
    folder = tmp_path / "tile"
    old = export_tile(make_tile(), folder, BANDS)
    del old["status"], old["summary"]
    (folder / "manifest.json").write_text(json.dumps(old))
    assert read_manifest(folder) == old | {"status": "success"}
    assert missing_outputs(folder, BANDS) == "none"
    assert not ResultFolder.open(folder).is_empty


def test_an_error_leaves_the_folder_as_it_was(make_tile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tile"
    before = export_tile(make_tile(), folder, BANDS)
    with pytest.raises(ParameterError, match="metadata"):
        export_empty(folder, REASON, tile_id="t", metadata={"a": object()})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("darts_export.manifest.write_json", fail)
    with pytest.raises(ExportError, match="No space left on device"):
        export_empty(folder, REASON, tile_id="t")
    assert read_manifest(folder) == before
    assert missing_outputs(folder, BANDS) == "none"
    assert [path.name for path in tmp_path.iterdir()] == ["tile"]
