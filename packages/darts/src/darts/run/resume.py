"""Decide which tiles of a run are finished already, and say why the others are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from darts.run.auxiliary import CubesNow
from darts.run.fingerprint import DEPENDS_ON, FORMAT, describe_change, numbered, plain
from darts.run.inputs import InputMemory, changed_input
from darts.run.journal import Findings, TileRecord
from darts.run.task import Pipeline, TileTask
from darts.run.trends import year_of
from darts_export import ManifestError, check_export_target, missing_outputs, read_manifest

Action = Literal["compute", "skip", "empty"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a run will do about a tile.

    Attributes:
        task: The tile.
        action: "compute", "skip" (finished), or "empty" (it is known to hold no data).
        why: The reason, in words.
        of_earlier_release: Whether results are there that a release before wrote, and that cannot be compared.
        findings: What finished results say about the tile, None where it is not finished.
    """

    task: TileTask
    action: Action
    why: str
    of_earlier_release: bool = False
    findings: Findings | None = None

    @property
    def todo(self) -> bool:
        """Whether the tile will be computed."""
        return self.action == "compute"

    def record(self) -> TileRecord:
        """Return the record of a tile that is not computed."""
        record = TileRecord(self.task.tile_id, self.task.output, "skipped", attempt=self.task.attempt)
        if self.action == "empty":
            record.status, record.error = "empty", self.why
        if self.findings is not None:
            record.note(self.findings)
        return record


@dataclass(frozen=True)
class Resume:
    """Decides about the tiles of a run: finished means that it would come out the same.

    Attributes:
        pipeline: The pipeline.
        shared: What :func:`darts.run.fingerprint.shared_dependencies` returned for the run.
        subsets: Members of the ensemble to export.
        memory: Digests of input files.
        cubes: What the cubes hold.
    """

    pipeline: Pipeline
    shared: Mapping[str, Any]
    subsets: Sequence[str]
    memory: InputMemory
    cubes: CubesNow

    def decide(self, task: TileTask) -> Decision:
        """Decide about one tile, by its manifest; what costs least is looked at first, and no image is opened.

        Raises:
            ExportTargetError: If results could not be written, because foreign files are in the way.
        """
        pipeline, inputs = self.pipeline, self.pipeline._tile_inputs(task.key)
        check_export_target(
            task.output, pipeline.export_bands, self.subsets, overwrite=pipeline.overwrite, debug=pipeline.debug_data
        )
        try:
            manifest = read_manifest(task.output)
        except ManifestError:
            return Decision(task, "compute", "no finished results")
        if pipeline.overwrite:
            return Decision(task, "compute", "finished, but overwrite is set")
        before = (manifest.get("metadata") or {}).get(DEPENDS_ON)
        if not isinstance(before, Mapping) or before.get("format") != FORMAT:
            return self._decide_earlier_release(task, before, manifest)
        if manifest.get("status") == "empty":
            change = changed_input(before.get("inputs", {}), inputs, self.memory)
            if change:
                return Decision(task, "compute", f"changed since: {change}")
            return Decision(task, "empty", str(manifest.get("reason") or "it holds no data"))
        change = describe_change(before, self.shared)
        if not change and not self._is_whole(task):
            return Decision(task, "compute", "files are missing or differ from the manifest")
        change = change or changed_input(before.get("inputs", {}), inputs, self.memory)
        change = change or self.cubes.change(before.get("auxiliary", {}), self._year(task, manifest))
        if change:
            return Decision(task, "compute", f"changed since: {change}")
        same_files = before.get("files") == self.shared["files"]
        why = "finished" if same_files else "finished, files of an earlier release"
        return Decision(task, "skip", why, findings=Findings.of(manifest))

    def _year(self, task: TileTask, manifest: Mapping[str, Any]) -> int | None:
        if not self.cubes.by_year:
            return None
        year = self.pipeline._tile_year(task.key)
        return year_of(manifest.get("time")) if year is None else year

    def _is_whole(self, task: TileTask) -> bool:
        pipeline = self.pipeline
        missing = missing_outputs(task.output, pipeline.export_bands, self.subsets, debug=pipeline.debug_data)
        return missing == "none"

    def _decide_earlier_release(self, task: TileTask, before: object, manifest: Mapping[str, Any]) -> Decision:
        """Decide about results of release 0.1, which say nothing of auxiliary data and describe inputs by time."""
        if (
            self.pipeline.keep_finished
            and isinstance(before, Mapping)
            and self._is_alike(before)
            and self._is_whole(task)
        ):
            why = "finished by an earlier release"
            return Decision(task, "skip", why, of_earlier_release=True, findings=Findings.of(manifest))
        return Decision(task, "compute", "results of an earlier release", of_earlier_release=True)

    def _is_alike(self, before: Mapping[str, Any]) -> bool:
        configuration = dict(before.get("configuration") or {})
        if configuration.get("edge_erosion_size", 0) is None:  # Release 0.1 kept what was given, not what it stood for.
            configuration["edge_erosion_size"] = configuration.get("mask_erosion_size")
        now = {**self.shared["configuration"], **self.shared["engine"]}
        configuration.setdefault("engine", "torch")  # There was no other.
        configuration = numbered(configuration)
        same = all(plain(configuration[name]) == plain(value) for name, value in now.items() if name in configuration)
        return same and before.get("models") == self.shared["models"]
