"""Whatever happened to a folder of results before: a run does what its plan says, and leaves what a fresh run would."""

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from support import standin
from support.forkserver import KILL, Fault, ForkServer

TILES = 3
MOST_TILES = 5
STEPS = 6
MOST_CALLS = 250
WORDS = {"compute": "success", "skip": "skipped", "empty": "empty"}

OVERLAPS = st.sampled_from([8, 4])
THRESHOLDS = st.sampled_from([0.5, 0.7])
BANDS = st.sampled_from([["probabilities", "binarized"], ["binarized", "extent"]])
EXECUTORS = st.sampled_from(["serial", "overlap"])
CHANCE = st.integers(0, 2**16)


def change(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a rule of something that happens, after which there is a run or not."""

    def decorate(happens: Callable[..., None]) -> Any:
        def changes(self: "Histories", runs: bool, **values: Any) -> None:
            happens(self, **values)
            if runs:
                self._run({})

        changes.__name__ = happens.__name__
        return rule(runs=st.booleans(), **strategies)(changes)

    return decorate


class Histories(RuleBasedStateMachine):
    """A folder of images and one of results, to which things happen."""

    server: ForkServer
    fresh: dict[str, dict[str, str]]
    """What a run of one tile leaves in an empty folder, by configuration and content of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="darts-history-", dir=_scratch()))
        self.results = self.folder / "results"
        self.values: dict[str, Any] = {"executor": "serial", "export_bands": ["probabilities", "binarized"]}
        self.weight = 1.0
        self.images: dict[str, int | None] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        standin.make_folder(self.folder, TILES)
        self.images = {f"tile-{number:03}": number for number in range(TILES)}
        self._run({})

    # What happens to the configuration.

    @change(overlap=OVERLAPS, threshold=THRESHOLDS, bands=BANDS)
    def change_options(self, overlap: int, threshold: float, bands: list[str]) -> None:
        self.values |= {"overlap": overlap, "binarization_threshold": threshold, "export_bands": bands}

    @change(executor=EXECUTORS)
    def change_executor(self, executor: str) -> None:
        self.values["executor"] = executor

    @change(weight=st.sampled_from([1.0, 0.9]))
    def change_model(self, weight: float) -> None:
        standin.write_model(self.folder / "model.safetensors", weight)
        self.weight = weight

    # What happens to images.

    @change(chance=CHANCE, seed=st.integers(10, 12))
    def change_image(self, chance: int, seed: int) -> None:
        name = self._tile(chance)
        standin.write_image(self._image(name), seed)
        self.images[name] = seed

    @change(chance=CHANCE)
    def touch_image(self, chance: int) -> None:
        os.utime(self._image(self._tile(chance)), (chance, chance))

    @change(chance=CHANCE)
    def copy_image_over_itself(self, chance: int) -> None:
        image = self._image(self._tile(chance))
        copy = image.with_suffix(".copy")
        shutil.copyfile(image, copy)
        copy.replace(image)

    @precondition(lambda self: len(self.images) < MOST_TILES)
    @change(number=st.integers(0, MOST_TILES + 2))
    def add_image(self, number: int) -> None:
        name = f"tile-{number:03}"
        standin.write_image(self._image(name), number)
        self.images[name] = number

    @precondition(lambda self: len(self.images) > 1)
    @change(chance=CHANCE)
    def remove_image(self, chance: int) -> None:
        name = self._tile(chance)
        self._image(name).unlink()
        del self.images[name]

    @change(chance=CHANCE)
    def empty_image_of_data(self, chance: int) -> None:
        import rasterio

        name = self._tile(chance)
        with rasterio.open(self._image(name), "r+") as file:
            file.write(file.read() * 0)
        self.images[name] = None

    # What happens to results.

    @change(chance=CHANCE)
    def remove_results_of_a_tile(self, chance: int) -> None:
        shutil.rmtree(self.results / self._tile(chance), ignore_errors=True)

    @change(chance=CHANCE)
    def remove_file_of_results(self, chance: int) -> None:
        if file := self._result(chance):
            file.unlink()

    @change(chance=CHANCE)
    def cut_file_of_results(self, chance: int) -> None:
        if file := self._result(chance):
            os.truncate(file, file.stat().st_size // 2)

    @change(chance=CHANCE)
    def cut_memory_of_inputs(self, chance: int) -> None:
        memory = self.results / ".darts-inputs.jsonl"
        if memory.exists():
            os.truncate(memory, chance % (memory.stat().st_size + 1))

    @rule(at=st.integers(0, MOST_CALLS))
    def run_that_is_killed(self, at: int) -> None:
        self._run_killed(at, {})

    @rule(at=st.integers(0, MOST_CALLS))
    def run_with_overwrite_that_is_killed(self, at: int) -> None:
        self._run_killed(at, {"overwrite": True})

    def _run_killed(self, at: int, more: dict[str, Any]) -> None:
        refused = self._refused(**({"overwrite": False} | more))
        fault = Fault(f"/{self.folder.name}/results", at, KILL)
        ended = self.server.call("support.standin:run_pipeline", str(self.folder), self.values | more, fault=fault)
        assert ended.error == ""
        if not ended.signal and not refused:  # The run has fewer calls than that.
            self._check(ended.value)

    # What is to hold.

    @rule()
    def run(self) -> None:
        self._run({})

    @rule()
    def run_again(self) -> None:
        if self._run({}):
            assert {action for _, action, _ in self._plan({})} <= {"skip", "empty"}

    @rule()
    def run_with_overwrite(self) -> None:
        assert {action for _, action, _ in self._run({"overwrite": True})} <= {"compute"}

    def _run(self, more: dict[str, Any]) -> list[tuple[str, str, str]]:
        """Run as planned; return the plan, which is empty where the run is refused."""
        if refused := self._refused(**({"overwrite": False} | more)):
            self._check_refusal(more, refused)
            return []
        planned = self._plan(more)
        ended = self.server.call("support.standin:run_pipeline", str(self.folder), self.values | more)
        assert (ended.signal, ended.error) == (0, "")
        self._check(ended.value)
        expected = {tile: "empty" if self.images[tile] is None else WORDS[action] for tile, action, _ in planned}
        assert {tile: status for tile, status, _ in ended.value["records"]} == expected, planned
        return planned

    def _plan(self, more: dict[str, Any]) -> list[tuple[str, str, str]]:
        ended = self.server.call("support.standin:plan_pipeline", str(self.folder), self.values | more)
        assert (ended.signal, ended.error) == (0, "")
        planned: list[tuple[str, str, str]] = ended.value
        assert {tile for tile, _, _ in planned} == set(self.images)
        return planned

    def _refused(self, overwrite: bool) -> set[str]:
        """Name the tiles whose folders hold files that no manifest tells for results.

        With `overwrite`, or beside a manifest that is damaged, they are replaced where a raster tells it.
        """
        unknown = {name for name in self.images if _has_unknown_files(self.results / name)}
        return {name for name in unknown if not self._are_ours(self.results / name, overwrite)}

    @staticmethod
    def _are_ours(folder: Path, overwrite: bool) -> bool:
        return (overwrite or (folder / "manifest.json").exists()) and _has_raster_of_darts(folder)

    def _check_refusal(self, more: dict[str, Any], refused: set[str]) -> None:
        """The plan and the run say the same, and nothing is changed; somebody then moves the folders away."""
        before = {name: _contents(self.results / name) for name in refused}
        planned = self.server.call("support.standin:plan_pipeline", str(self.folder), self.values | more)
        assert any(f"results/{name} holds files but no manifest" in planned.error for name in refused), planned
        ended = self.server.call("support.standin:run_pipeline", str(self.folder), self.values | more)
        assert (ended.signal, ended.error) == (0, "")
        assert (ended.value["code"], ended.value["records"]) == (2, [])
        assert {name: _contents(self.results / name) for name in refused} == before
        for name in refused:
            shutil.rmtree(self.results / name)

    def _check(self, ended: dict[str, Any]) -> None:
        """The run did everything, and each tile is as in an empty folder."""
        assert ended["code"] == 0, ended["said"]
        for name, seed in self.images.items():
            wanted, found = self._expected(name, seed), _contents(self.results / name)
            # Files that an earlier configuration asked for may lie there as well.
            assert found.items() >= wanted.items(), f"{name}: {wanted} expected, {found} found"
            assert bool(found) == bool(wanted), name
        left = [path.name for path in self.results.iterdir() if path.name.startswith(".")]
        assert set(left) <= {".darts-inputs.jsonl", ".darts-run.lock"}

    def _expected(self, name: str, seed: int | None) -> dict[str, str]:
        key = json.dumps([name, seed, self.weight, {**self.values, "executor": ""}], sort_keys=True)
        if key not in self.fresh:
            with tempfile.TemporaryDirectory(dir=_scratch()) as temporary:
                folder = Path(temporary)
                standin.write_model(folder / "model.safetensors", self.weight)
                (folder / "images").mkdir()
                shutil.copyfile(self._image(name), folder / "images" / f"{name}.tif")
                ended = self.server.call("support.standin:run_pipeline", temporary, self.values)
                assert ended.value["code"] == 0
                self.fresh[key] = _contents(folder / "results" / name)
        return self.fresh[key]

    def _tile(self, chance: int) -> str:
        return sorted(self.images)[chance % len(self.images)]

    def _image(self, name: str) -> Path:
        return self.folder / "images" / f"{name}.tif"

    def _result(self, chance: int) -> Path | None:
        files = (path for path in self.results.glob("tile-*/*") if path.is_file())
        # Without those that finished results can do without, which nobody writes again.
        files = sorted(path for path in files if not path.name.endswith(_DISPENSABLE))
        return random.Random(chance).choice(files) if files else None


_DISPENSABLE = (".qml", ".aux.xml", "preview.tif", "collection.json")


def _contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a tile that does not say when it was made."""
    files = (path for path in folder.iterdir() if path.suffix not in (".gpkg", ".json"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _has_unknown_files(folder: Path) -> bool:
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        return not isinstance(json.loads((folder / "manifest.json").read_text()), dict)
    except (FileNotFoundError, ValueError):
        return True


def _has_raster_of_darts(folder: Path) -> bool:
    import rasterio
    from rasterio.errors import RasterioIOError

    for path in folder.glob("*.tif"):
        try:
            with rasterio.open(path) as file:
                if any(tag.startswith("DARTS_") for tag in file.tags()):
                    return True
        except RasterioIOError:
            continue
    return False


def _scratch() -> str | None:
    """A folder in memory, where there is one: forcing files to a disk takes most of the time of so small a run."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _machine(server: ForkServer) -> type[Histories]:
    return type("HistoriesOnServer", (Histories,), {"server": server, "fresh": {}})


def _settings(histories: int) -> settings:
    unchecked = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=histories, stateful_step_count=STEPS, deadline=None, database=None, suppress_health_check=unchecked
    )


def test_plan_and_results_hold_after_any_history(fault_server: ForkServer) -> None:
    run_state_machine_as_test(_machine(fault_server), settings=_settings(7))


@pytest.mark.slow
def test_plan_and_results_hold_after_many_histories(fault_server: ForkServer) -> None:
    run_state_machine_as_test(_machine(fault_server), settings=_settings(200))
