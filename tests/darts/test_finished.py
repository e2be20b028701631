"""A tile is finished if, and only if, it would come out the same."""

import json
import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import darts_export.version
import darts_preprocessing.version
import darts_utils.version
from darts.errors import ConfigurationError
from darts.run import exit_code, plan, run
from support import standin


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and two images, both of which are finished."""
    folder = standin.make_folder(tmp_path_factory.mktemp("finished"), 2)
    assert exit_code(_run(folder)) == 0
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, of which a test may change anything."""
    folder = shutil.copytree(finished, tmp_path / "folder")
    _run(folder)  # remembers the digests of the copies
    return folder


def _run(folder: Path, **values: Any) -> Any:
    return run(standin.make_pipeline(folder, **values), standin.open_session)


def _plan(folder: Path, **values: Any) -> dict[str, tuple[str, str]]:
    """Return what would be done about each tile; a run then does just that."""
    decisions = plan(standin.make_pipeline(folder, **values)).decisions
    planned = {decision.task.tile_id: (decision.action, decision.why) for decision in decisions}
    records = _run(folder, **values)
    words = {"compute": "success", "skip": "skipped", "empty": "empty"}
    assert {tile.tile_id: tile.status for tile in records.tiles} == {
        tile: words[action] for tile, (action, _) in planned.items()
    }
    return planned


FINISHED = {"tile-000": ("skip", "finished"), "tile-001": ("skip", "finished")}
FIRST = "images/tile-000.tif"


def test_finished_tiles_are_skipped(folder: Path) -> None:
    assert _plan(folder) == FINISHED


@pytest.mark.parametrize(
    "values",
    [
        *({"executor": "serial"}, {"batch_size": 1}, {"prefetch": 3}, {"fail_fast": True}, {"precision": "auto"}),
        {"quality_level": "low_quality"},
    ],
    ids=str,
)
def test_what_changes_no_number_changes_nothing(folder: Path, values: dict) -> None:
    assert _plan(folder, **values) == FINISHED


def test_a_precision_that_was_decided_is_written_down(folder: Path) -> None:
    records = _run(folder, precision="auto", overwrite=True)
    assert 'precision = "bf16"' in records.path("config.toml").read_text()
    assert _plan(folder, precision="bf16") == FINISHED


def test_an_image_that_is_touched_is_finished(folder: Path) -> None:
    os.utime(folder / FIRST, (1, 1))
    assert _plan(folder) == FINISHED


def test_images_that_are_copied_elsewhere_are_finished(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "images", tmp_path / "scratch")
    assert _plan(folder, images_dir=tmp_path / "scratch") == FINISHED


def test_folders_that_are_moved_are_finished(folder: Path, tmp_path: Path) -> None:
    (folder / "results").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    (folder / "model.json").rename(tmp_path / "model.json")
    moved = {"output_data_dir": tmp_path / "elsewhere", "model_files": tmp_path / "model.safetensors"}
    assert _plan(folder, **moved) == FINISHED


def test_an_image_that_is_changed_with_size_and_time_kept_is_not_finished(folder: Path) -> None:
    image = folder / FIRST
    before = image.stat()
    content = bytearray(image.read_bytes())
    content[-100] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert image.stat().st_size == before.st_size
    expected = ("compute", "changed since: tile-000.tif has another content")
    assert _plan(folder) == FINISHED | {"tile-000": expected}
    assert _plan(folder) == FINISHED


def test_an_image_that_is_replaced_is_not_finished(folder: Path) -> None:
    standin.write_image(folder / FIRST, 7)
    assert _plan(folder)["tile-000"][0] == "compute"


def test_no_image_is_read_to_decide_about_an_unfinished_tile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "results" / "tile-000")
    (folder / "results" / ".darts-inputs.jsonl").unlink()
    read: list[str] = []
    from darts.run import inputs

    digest = inputs._digest
    monkeypatch.setattr(inputs, "_digest", lambda path: read.append(path.name) or digest(path))
    planned = plan(standin.make_pipeline(folder)).decisions
    assert [decision.action for decision in planned] == ["compute", "skip"]
    assert read == ["tile-001.tif"]
    assert not (folder / "results" / ".darts-inputs.jsonl").exists(), "planning writes nothing"


def test_a_digest_is_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darts.run import inputs

    monkeypatch.setattr(inputs, "_digest", None)
    assert _plan(folder) == FINISHED


@pytest.mark.parametrize(
    "values",
    [{"overlap": 4}, {"binarization_threshold": 0.7}, {"precision": "bf16"}, {"engine": "openvino"}],
    ids=str,
)
def test_an_option_that_changes_numbers_is_named(folder: Path, values: dict) -> None:
    (name,) = values
    why = _plan(folder, **values)["tile-000"]
    assert why[0] == "compute"
    assert why[1].startswith(f"changed since: {name} was ")
    assert _plan(folder, **values) == FINISHED


def test_an_engine_that_cannot_work_is_found_while_planning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="computes on the CPU, and device is 'cuda'"):
        _plan(folder, engine="openvino", device="cuda")
    monkeypatch.setattr("darts.run.checks.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"darts-nextgen\[openvino\]"):
        _plan(folder, engine="openvino")


def test_another_model_under_the_same_name_is_not_finished(folder: Path) -> None:
    standin.write_model(folder / "model.safetensors", 0.9)
    assert _plan(folder)["tile-001"] == ("compute", "changed since: model model")


@pytest.mark.parametrize("module", [darts_preprocessing.version, darts_utils.version], ids=str)
def test_a_results_version_that_is_raised_is_not_finished(
    folder: Path, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESULTS_VERSION", 99)
    assert "results version of darts-" in _plan(folder)["tile-000"][1]
    assert _plan(folder) == FINISHED


def test_a_release_that_changes_no_number_recomputes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darts.run import planning

    monkeypatch.setattr(planning, "package_versions", lambda: {"darts-utils": "99.0.0", "torch": "99"})
    assert _plan(folder) == FINISHED


def test_files_of_an_earlier_release_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(darts_export.version, "FILES_VERSION", 99)
    earlier = ("skip", "finished, files of an earlier release")
    assert _plan(folder) == {"tile-000": earlier, "tile-001": earlier}
    assert {action for action, _ in _plan(folder, overwrite=True).values()} == {"compute"}
    assert _plan(folder) == FINISHED


def test_the_whole_tile_as_netcdf_is_a_result_where_it_is_asked_for(folder: Path) -> None:
    assert _plan(folder, debug_data=True)["tile-000"] == ("compute", "files are missing or differ from the manifest")
    assert (folder / "results" / "tile-000" / "darts_inference_debug.nc").is_file()
    assert _plan(folder, debug_data=True) == FINISHED
    assert _plan(folder) == FINISHED


def test_patches_that_each_tile_chooses_are_others_than_those_before(folder: Path) -> None:
    assert _plan(folder, precision="auto") == FINISHED
    planned = _plan(folder, patch_size="auto")
    assert planned["tile-000"] == ("compute", "changed since: patch_size was 32, is auto")
    assert _plan(folder, patch_size="auto") == FINISHED


def test_a_quality_level_in_words_is_its_number(folder: Path) -> None:
    assert _plan(folder, quality_level="low_quality") == FINISHED
    assert _plan(folder, quality_level="high_quality")["tile-000"] == (
        "compute",
        "changed since: quality_level was 1, is 2",
    )
    assert _plan(folder, quality_level=2) == FINISHED


def test_a_file_that_is_missing_is_not_finished(folder: Path) -> None:
    (folder / "results" / "tile-001" / "binarized.tif").unlink()
    assert _plan(folder)["tile-001"] == ("compute", "files are missing or differ from the manifest")


def test_a_scene_without_data_is_empty_and_no_failure(folder: Path) -> None:
    import rasterio

    path = standin.write_image(folder / "images" / "nothing.tif", 5)
    with rasterio.open(path, "r+") as file:
        file.write(file.read() * 0)
    records = _run(folder)
    assert exit_code(records) == 0
    assert {tile.tile_id: tile.status for tile in records.tiles}["nothing"] == "empty"
    assert _plan(folder)["nothing"] == (
        "empty",
        "…/nothing.tif holds no data.",
    )  # A manifest names no folder of the machine.
    assert str(folder) not in (folder / "results" / "nothing" / "manifest.json").read_text()
    os.utime(path, (1, 1))
    assert _plan(folder)["nothing"][0] == "empty"
    standin.write_image(path, 5)
    assert _plan(folder)["nothing"] == ("compute", "changed since: nothing.tif has another content")


def test_foreign_files_in_the_way_are_found_before_anything_is_computed(folder: Path) -> None:
    standin.write_image(folder / "images" / "tile-002.tif", 2)
    foreign = folder / "results" / "tile-002" / "notes.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OSError, match=r"notes\.txt"):
            plan(standin.make_pipeline(folder, overwrite=overwrite))
    with pytest.raises(OSError, match=r"notes\.txt"):
        _run(folder)
    assert foreign.read_text() == "mine"


def test_results_of_release_0_1_are_told_apart_and_can_be_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in FINISHED:
        path = folder / "results" / name / "manifest.json"
        manifest = json.loads(path.read_text())
        before = manifest["metadata"]["depends_on"]
        configuration = {**before["configuration"], "precision": "fp32"}
        assert configuration["edge_erosion_size"] == configuration["mask_erosion_size"]
        configuration["edge_erosion_size"] = None  # as it was given
        manifest["metadata"]["depends_on"] = {
            "configuration": configuration,
            "models": before["models"],
            "versions": {"darts-export": "0.1.0"},
            "inputs": [[f"{name}.tif", 1, 2]],
        }
        path.write_text(json.dumps(manifest))
    planned = plan(standin.make_pipeline(folder)).decisions
    assert {decision.why for decision in planned} == {"results of an earlier release"}
    assert "2 of 2 tiles have results of an earlier release" in caplog.text
    kept = ("skip", "finished by an earlier release")
    assert _plan(folder, keep_finished=True) == {"tile-000": kept, "tile-001": kept}
    for values in ({"overlap": 4}, {"engine": "openvino"}):
        assert _plan(folder, keep_finished=True, **values)["tile-000"][0] == "compute"


def test_a_digest_that_a_kill_cut_off_costs_one_reading_and_harms_no_other(tmp_path: Path) -> None:
    from darts.run.inputs import MEMORY_FILE, InputMemory, describe_inputs

    files = []
    for name in "abc":
        files.append(tmp_path / f"{name}.tif")
        files[-1].write_text(name)
    described = describe_inputs(files[:2], InputMemory(tmp_path))
    memory = tmp_path / MEMORY_FILE
    assert memory.read_bytes().count(b"\n") == len(memory.read_bytes().splitlines()) == 2
    memory.write_bytes(memory.read_bytes()[:-9])
    for _ in range(2):  # the second time from what the first one appended
        described = describe_inputs(files, InputMemory(tmp_path))
    assert [described[f"{name}.tif"]["size"] for name in "abc"] == [1, 1, 1]
    lines = memory.read_bytes().splitlines()
    assert len(lines) == 4
    whole = [json.loads(line)[0] for line in (lines[0], *lines[2:])]
    assert whole == [str(file) for file in files]
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(lines[1])


def test_a_zip_archive_is_compared_by_its_directory(tmp_path: Path) -> None:
    from darts.run.inputs import InputMemory, changed_input, describe_inputs

    def write(content: str) -> Path:
        with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
            archive.writestr("image.tif", content)
        return tmp_path / "scene.zip"

    memory = InputMemory(tmp_path)
    before = describe_inputs([write("abc")], memory)
    assert changed_input(before, [write("abc")], memory) == ""
    assert changed_input(before, [write("abd")], memory) == "scene.zip has another content"


def test_a_member_of_an_archive_is_compared_by_size_and_crc(tmp_path: Path) -> None:
    from darts.run.inputs import InputMemory, changed_input, describe_inputs, states_of

    archive = tmp_path / "order.zip"
    members = [archive / "PSScene" / name for name in ("image.tif", "mask.tif")]

    def write(image: str, mask: str = "xyz", compression: int = zipfile.ZIP_STORED) -> None:
        with zipfile.ZipFile(archive, "w", compression) as file:
            for name, content in (("image.tif", image), ("mask.tif", mask), ("other.tif", image)):
                if content:
                    file.writestr(f"PSScene/{name}", content)

    memory = InputMemory(tmp_path)
    write("abc")
    before = describe_inputs(members, memory)
    assert before == {
        "image.tif": {"size": 3, "crc32": f"{zlib.crc32(b'abc'):08x}"},
        "mask.tif": {"size": 3, "crc32": f"{zlib.crc32(b'xyz'):08x}"},
    }
    state = states_of(members)
    assert set(state) == set(members)
    assert changed_input(before, members, memory) == ""
    write("abc", compression=zipfile.ZIP_DEFLATED)
    assert changed_input(before, members, memory) == "", "packed anew"
    assert states_of(members) != state, "a change while a tile is loaded shows"
    for image in ("abd", "abcd"):
        write(image)
        assert changed_input(before, members, memory) == "image.tif has another content"
    write("abc", mask="")
    assert changed_input(before, members[:1], memory) == "mask.tif is gone"
    with pytest.raises(FileNotFoundError, match=r"order\.zip holds no PSScene/mask\.tif"):
        describe_inputs(members, memory)
    assert changed_input(before, members, memory).startswith("mask.tif cannot be compared")
    archive.write_bytes(b"PK")
    assert changed_input(before, members, memory).startswith("image.tif cannot be compared")
    archive.unlink()
    assert states_of(members) == {}
    (tmp_path / "folder.zip").mkdir()
    image = tmp_path / "folder.zip" / "image.tif"
    image.write_text("abc")
    assert "sha256" in describe_inputs([image], memory)["image.tif"], "a folder may be called so"


@pytest.mark.parametrize("packed_first", [True, False])
def test_a_file_that_leaves_or_enters_an_archive_is_the_same(tmp_path: Path, packed_first: bool) -> None:
    from darts.run.inputs import InputMemory, changed_input, describe_inputs

    content = b"abc" * 1_000_000
    (plain := tmp_path / "PSScene" / "image.tif").parent.mkdir()
    plain.write_bytes(content)
    with zipfile.ZipFile(tmp_path / "order.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("PSScene/image.tif", content)
    packed = tmp_path / "order.zip" / "PSScene" / "image.tif"
    earlier, later = (packed, plain) if packed_first else (plain, packed)
    before = describe_inputs([earlier], InputMemory(tmp_path))
    for _ in range(2):  # The second time it is remembered.
        assert changed_input(before, [later], InputMemory(tmp_path)) == ""
    changed = content.replace(b"c", b"d", 1)
    plain.write_bytes(changed)
    with zipfile.ZipFile(tmp_path / "order.zip", "w") as file:
        file.writestr("PSScene/image.tif", changed)
    assert changed_input(before, [later], InputMemory(tmp_path)) == "image.tif has another content"


def test_each_end_of_a_tile_is_one_line_that_says_which(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    standin.write_image(folder / "images" / "new.tif", 7)
    (folder / "images" / "torn.tif").write_bytes(b"II*")
    nothing = standin.write_image(folder / "images" / "void.tif", 8)
    with rasterio.open(nothing, "r+") as file:
        file.write(np.zeros_like(file.read()))
    with caplog.at_level("INFO", logger="darts"):
        _run(folder, executor="serial")
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("[")]
    patterns = (
        r"\[\d/5\] tile-000: finished already\.",
        r"\[\d/5\] tile-001: finished already\.",
        r"\[\d/5\] new: success in \d+\.\d s\.",
        r"\[\d/5\] torn failed: .+",
        r"\[\d/5\] void is empty: .*void\.tif holds no data\.",
    )
    assert len(said) == len(patterns)
    assert all(sum(bool(re.fullmatch(pattern, line)) for line in said) == 1 for pattern in patterns), said
