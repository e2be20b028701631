"""What the samples of each tile were made from: one line per tile in the folder of training data.

A tile of which nothing is known, because a kill came between its samples and its line, is made once more.
"""

import json
import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from darts.run.auxiliary import CubesNow
from darts.run.fingerprint import describe_change, results_versions
from darts.run.inputs import InputMemory, changed_input
from darts.run.task import Pipeline, TileTask, TileWork
from darts.run.trends import TrendCubes

logger = logging.getLogger(__name__)

_FILE = ".darts-made-from.jsonl"
_PACKAGES = ("darts-utils", "darts-acquisition", "darts-preprocessing")
"""Stages that a sample has gone through."""


class MadeFrom:
    """Remembers what the samples of each tile were made from, and compares it with what is there now.

    Args:
        folder: Folder of the training data.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._memory = InputMemory(folder)
        versions = results_versions()
        self._code = {"code": {name: versions[name] for name in _PACKAGES}}

    def is_changed(self, pipeline: Pipeline, task: TileTask) -> bool:
        """Tell whether a tile's samples would come out otherwise; the log says by what."""
        before = self._known.get(task.tile_id)
        if before is None:
            return True
        change = describe_change(before, self._code)
        change = change or changed_input(before["inputs"], pipeline._tile_inputs(task.key), self._memory)
        if not change and before["auxiliary"]:
            change = self._cubes(pipeline).change(before["auxiliary"], pipeline._tile_year(task.key))
        if change:
            logger.warning("Tile %s is cut again, changed since: %s.", task.tile_id, change)
        return bool(change)

    def note(self, work: TileWork) -> None:
        """Write down what a tile was loaded from.

        Raises:
            OSError: If that cannot be written.
        """
        made_from = {**self._code, "inputs": work.inputs, "auxiliary": work.auxiliary}
        with self._path.open("a", encoding="utf-8") as file:
            # An empty line ends one that a kill has cut off.
            file.write("\n" + json.dumps({"tile_id": work.task.tile_id, **made_from}) + "\n")

    @cached_property
    def _known(self) -> dict[str, Mapping[str, Any]]:
        known: dict[str, Mapping[str, Any]] = {}
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return {}
        for line in lines:
            try:
                found = json.loads(line)
                known[str(found["tile_id"])] = {name: dict(found[name]) for name in ("code", "inputs", "auxiliary")}
            except (ValueError, TypeError, LookupError):
                continue
        return known

    def _cubes(self, pipeline: Pipeline) -> CubesNow:
        if self._opened is None:
            self._opened = CubesNow(str(pipeline.arcticdem_dir), TrendCubes.of(pipeline))
        return self._opened

    _opened: CubesNow | None = None
