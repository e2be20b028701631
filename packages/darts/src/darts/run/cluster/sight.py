"""Whether a worker sees the files that the run sees: images, models, datacubes and the folder of results.

A folder that is not mounted on its machine would make it fail every tile that is left, within seconds.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from darts.run.cluster.remote import RemoteRun
from darts.run.journal import JOURNAL
from darts.run.task import TileTask


@dataclass(frozen=True)
class Sight:
    """A file or folder that the run sees.

    Attributes:
        path: Its path, absolute.
        size: Its bytes; None for a folder, and for a file that grows.
    """

    path: Path
    size: int | None = None


def sights_of(remote: RemoteRun, tasks: Iterable[TileTask]) -> list[Sight]:
    """List what this process sees of a run: its journal, its models, its datacubes and the images of some tiles.

    Returns:
        What is there: nothing of an image or a datacube that is to be fetched.
    """
    context = remote.context
    files = [*context.models.values(), *_images(remote, tasks)]
    cubes = [context.arcticdem, *(() if context.tcvis is None else context.tcvis.cubes.values())]
    folders = [Path(cube) for cube in cubes if cube is not None and "://" not in cube]
    found = [_sight(path) for path in (*files, *map(_content, folders))]
    journal = remote.output / f"{remote.name}{JOURNAL}"
    return [Sight(journal), *dict.fromkeys(sight for sight in found if sight is not None)]


def find_unseen(sights: Sequence[Sight], output: Path) -> str:
    """Say what this process does not see, or whether it cannot write results.

    Returns:
        A part of a sentence; empty if it sees all.
    """
    for sight in sights:
        try:
            size = sight.path.stat().st_size
        except OSError:
            missing = [sight.path, *(each for each in sight.path.parents if not each.exists())]
            return f"it does not see {missing[-1]}, which the run sees"
        if sight.size not in (None, size):
            return f"{sight.path} has {size} bytes there, and {sight.size} where the run is"
    try:
        with tempfile.TemporaryFile(dir=output):
            return ""
    except OSError as error:
        return f"it cannot write into {output} ({error.strerror or error})"


def _images(remote: RemoteRun, tasks: Iterable[TileTask]) -> Iterator[Path]:
    for task in tasks:
        with suppress(Exception):  # A hook of somebody else; what is wrong with the tile, its record will say.
            yield from remote.pipeline._tile_inputs(task.key)


def _sight(path: Path) -> Sight | None:
    """Return what is seen of a path, of one into an archive the archive; None where there is nothing."""
    for each in (path, *path.parents):
        if each.is_file():
            return Sight(each, each.stat().st_size)
        if each.exists():
            return Sight(each) if each == path else None
    return None


def _content(folder: Path) -> Path:
    """Return something in a folder, so that an empty one in its place is told from it; the folder if that is empty."""
    with suppress(OSError):
        return min((path for path in folder.iterdir() if not path.name.startswith(".")), default=folder)
    return folder
