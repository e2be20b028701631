"""The manifest, and what `missing_outputs` concludes from it."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from darts_export import ManifestError, export_tile, missing_outputs, read_manifest
from darts_utils import ParameterError

BANDS = ["probabilities", "extent"]


@pytest.fixture
def folder(make_tile, tmp_path: Path) -> Path:
    metadata = {"models": {"m": {"sha256": "ab" * 32}}, "configuration": {"threshold": 0.5}}
    export_tile(make_tile(models=("m",)), tmp_path / "tile", BANDS, ["m"], metadata, fingerprint="f1")
    return tmp_path / "tile"


def test_manifest_describes_every_file(folder: Path) -> None:
    manifest = read_manifest(folder)
    files = {path.name: path for path in folder.iterdir() if path.name != "manifest.json"}
    assert set(manifest["files"]) == set(files)
    for name, facts in manifest["files"].items():
        content = files[name].read_bytes()
        assert facts == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["fingerprint"] == "f1"
    assert manifest["tile_id"] == "tile-1"
    assert manifest["metadata"]["models"]["m"]["sha256"] == "ab" * 32
    assert manifest["metadata"]["configuration"] == {"threshold": 0.5}
    assert manifest["versions"]["darts-export"]


@pytest.mark.parametrize(
    ("bands", "models", "fingerprint", "wanted"),
    [
        (BANDS, ["m"], "f1", "none"),
        (BANDS, [], "f1", "none"),
        (["extent"], [], None, "none"),
        (BANDS, ["m"], None, "none"),
        (BANDS, ["m"], "f2", "all"),
        ([*BANDS, "thumbnail"], [], "f1", "some"),
        (BANDS, ["other"], "f1", "some"),
        ([], [], "f1", "none"),
    ],
)
def test_missing_outputs(
    folder: Path, bands: list[str], models: list[str], fingerprint: str | None, wanted: str
) -> None:
    assert missing_outputs(folder, bands, models, fingerprint) == wanted


def test_nothing_there_means_all(tmp_path: Path) -> None:
    assert missing_outputs(tmp_path / "absent", BANDS) == "all"
    assert missing_outputs(tmp_path, []) == "all"


def test_a_removed_or_shortened_file_is_missing(folder: Path) -> None:
    os.truncate(folder / "probabilities.tif", 100)
    assert missing_outputs(folder, BANDS) == "some"
    for name in ("probabilities.tif", "prediction_extent.gpkg", "prediction_extent.parquet", "item.json"):
        (folder / name).unlink()
    assert missing_outputs(folder, BANDS) == "all"


def test_names_alone_count_for_nothing(folder: Path) -> None:
    (folder / "thumbnail.jpg").write_bytes(b"not from an export")
    assert missing_outputs(folder, ["thumbnail", *BANDS]) == "some"
    (folder / "manifest.json").unlink()
    assert missing_outputs(folder, BANDS) == "all"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": []}', "\xff"])
def test_a_broken_manifest_counts_as_none(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content, encoding="latin-1")
    assert missing_outputs(folder, BANDS) == "all"
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        read_manifest(folder)


def test_a_manifest_with_odd_entries_does_not_crash(folder: Path) -> None:
    manifest = read_manifest(folder)
    manifest["files"]["probabilities.tif"] = 5
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert missing_outputs(folder, BANDS) == "some"


def test_a_string_instead_of_a_list_is_a_mistake(folder: Path) -> None:
    with pytest.raises(ParameterError, match="expected a list"):
        missing_outputs(folder, "probabilities")


def test_a_manifest_that_was_read_already_is_not_read_again(folder: Path) -> None:
    manifest = read_manifest(folder)
    (folder / "manifest.json").unlink()
    assert missing_outputs(folder, BANDS, ["m"], "f1", manifest=manifest) == "none"
    assert missing_outputs(folder, BANDS, ["m"], "f2", manifest=manifest) == "all"
    assert missing_outputs(folder, [*BANDS, "thumbnail"], manifest=manifest) == "some"
