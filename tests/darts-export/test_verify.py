"""What was changed after an export is found, and moving a folder changes nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from darts_export import (
    EXPORT_BANDS,
    ManifestError,
    export_empty,
    export_tile,
    find_exports,
    read_manifest,
    verify_export,
)

ADDRESS = "/home/somebody-9f3/projects"
METADATA = {
    "source_scene": {"id": "scene", "href": f"{ADDRESS}/scenes/scene", "files": {"scene.tif": "ab" * 32}},
    "models": {
        "near": {"file": f"{ADDRESS}/near.safetensors", "sha256": "cd" * 32},
        "signed": {"href": "https://example.org/signed.pt?X-Amz-Signature=0123", "sha256": "ef" * 32},
        "far": {"href": "https://example.org/far.pt"},
    },
}


@pytest.fixture
def folder(make_tile: Callable, tmp_path: Path) -> Path:
    """An export that was moved to another place."""
    folder = tmp_path / "results" / "tile"
    export_tile(make_tile(), folder, EXPORT_BANDS, metadata={"models": {"demo": {"sha256": "ab" * 32}}})
    (tmp_path / "moved").mkdir()
    return Path(shutil.move(folder, tmp_path / "moved" / "tile"))


def test_an_untouched_export_is_as_it_was_written_wherever_it_lies(folder: Path) -> None:
    found = verify_export(folder)
    assert (found.path, found.failures, found.notes) == (folder, {}, {})
    assert find_exports(folder.parent) == find_exports(folder) == [folder]


def test_one_changed_byte_in_any_file_is_found(folder: Path) -> None:
    rng = np.random.default_rng(3)
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) > 10
    for name in names:
        path = folder / name
        before = path.read_bytes()
        places = {0, len(before) - 1, *map(int, rng.integers(0, len(before), 12 if name == "manifest.json" else 2))}
        for place in places:
            changed = bytearray(before)
            changed[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            try:
                found = verify_export(folder)
                wrong = found.notes if name.endswith(".aux.xml") else found.failures  # GIS programs change the former
                assert next(iter(wrong)) == name, place
            except ManifestError:
                assert name == "manifest.json"
        path.write_bytes(before)
    assert verify_export(folder).failures == {}


def test_any_value_of_the_manifest_that_was_edited_by_hand_is_found(folder: Path) -> None:
    path = folder / "manifest.json"
    before = path.read_text("utf-8")
    for name in json.loads(before):
        edited = json.loads(before) | {name: {} if name == "files" else "edited"}
        path.write_text(json.dumps(edited, indent=2, ensure_ascii=False) + "\n", "utf-8")
        found = verify_export(folder)
        assert "manifest.json" in found.failures, name


def test_what_is_missing_fails_and_what_others_put_there_is_a_note(folder: Path) -> None:
    (folder / "binarized.tif").unlink()
    (folder / "notes.txt").write_text("mine")
    (folder / "optical.tif").unlink()
    (folder / "optical.tif").mkdir()
    found = verify_export(folder)
    assert found.failures == {
        "binarized.tif": "it is missing",
        "optical.tif": "it cannot be read: Is a directory",
    }
    assert found.notes == {"notes.txt": "the export did not write it"}


def test_a_scene_without_data_and_a_manifest_of_an_earlier_release(tmp_path: Path) -> None:
    export_empty(tmp_path / "results" / "nothing", "it holds no data", tile_id="nothing")
    assert verify_export(tmp_path / "results" / "nothing").failures == {}
    early = read_manifest(tmp_path / "results" / "nothing")
    del early["digest"]
    (tmp_path / "results" / "nothing" / "manifest.json").write_text(json.dumps(early))
    found = verify_export(tmp_path / "results" / "nothing")
    assert (found.failures, list(found.notes)) == ({}, ["manifest.json"])


def test_unfinished_exports_are_no_results(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, folder.parent / ".darts-export-0123" / "tile")
    assert find_exports(folder.parent) == [folder]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ManifestError, match=r"nothing holds no manifest\.json"):
        find_exports(tmp_path / "nothing")


def test_the_item_links_to_nothing_that_others_cannot_reach(make_tile, tmp_path: Path) -> None:
    export_tile(make_tile(), tmp_path / "tile", ["probabilities"], metadata=METADATA)
    text = (tmp_path / "tile" / "item.json").read_text("utf-8")
    assert ADDRESS not in text
    assert "Signature" not in text
    item = json.loads(text)
    assert [link["href"] for link in item["links"]] == ["./collection.json"]
    assert item["properties"]["darts:source_scene"] == {"id": "scene", "files": {"scene.tif": "ab" * 32}}
    places = {name: asset["href"] for name, asset in item["assets"].items() if name.startswith("model")}
    assert places == {"model-far": "https://example.org/far.pt"}
    known = {name: facts.get("sha256", "")[:2] for name, facts in item["properties"]["darts:models"].items()}
    assert (known["near"], known["signed"]) == ("cd", "ef")
