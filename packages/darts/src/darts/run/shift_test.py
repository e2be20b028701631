"""Say how much a map depends on where its patches lie: the map against itself on a shifted grid."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from darts.run.planning import Planner, complete_context
from darts.run.session import OpenSession, open_session
from darts.run.task import Pipeline, nominal_patch_size
from darts.run.worker import Worker
from darts_utils import to_host


@dataclass(frozen=True)
class ShiftTest:
    """How far two maps of one tile agree.

    Attributes:
        tile_id: Name of the tile.
        both: Pixels that are slump in both maps.
        either: Pixels that are slump in one of them.
    """

    tile_id: str
    both: int
    either: int

    @property
    def iou(self) -> float:
        """Intersection over union; 1 where neither map has a slump."""
        return self.both / self.either if self.either else 1.0


def shift_test(pipeline: Pipeline, tiles: int, session: OpenSession = open_session) -> Iterator[ShiftTest]:
    """Map tiles twice, the second time with all patches shifted by half of their step along both axes.

    Nothing is written. Pixels count above the binarization threshold, before anything is cleaned.

    Args:
        pipeline: The pipeline.
        tiles: How many of its first tiles are mapped.
        session: Opens what computes probabilities.

    Yields:
        One result per tile.

    Raises:
        ConfigurationError: As a run.
    """
    planner = Planner(pipeline, writes=False)
    context = complete_context(pipeline, planner.context, planner.tasks[:tiles])
    step = nominal_patch_size(pipeline.patch_size) - pipeline.overlap
    shifted = replace(pipeline, reflection=pipeline.reflection + step // 2)
    worker = Worker(pipeline, context, session)
    worker.open()
    other = session(shifted, context)
    for task in planner.tasks[:tiles]:
        work = worker.begin(task)
        for stage in worker.stages():
            if stage.lane != "write":
                stage.run(work)
        one = work.take()
        moved = other.segment(one.drop_vars("probabilities"))
        found = (to_host(each["probabilities"]).to_numpy() for each in (one, moved))
        maps = [values > pipeline.binarization_threshold for values in found]
        yield ShiftTest(task.tile_id, int((maps[0] & maps[1]).sum()), int((maps[0] | maps[1]).sum()))
