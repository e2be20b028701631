"""What is the same on both sides: what a worker is sent of a run, and what it says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from darts.run.fingerprint import files_version, package_versions, results_versions
from darts.run.planning import RunContext
from darts.run.session import OpenSession
from darts.run.task import Pipeline
from darts_segmentation import hash_model
from darts_utils import DartsError

ENDS = "DARTS_WORKER_ENDS"
"""Environment variable of a worker: when it shall begin no further tile, seconds since 1970."""

NEWS = "darts-news"
"""Topic under which a scheduler of `darts cluster` tells runs in a sentence what their workers wait for."""
END = "The scheduler was ended."
"""What it tells them there last."""


@dataclass(frozen=True)
class RemoteRun:
    """What a worker has to know of a run: plain data of a few kilobytes, sent once.

    Attributes:
        name: Name of the run.
        pipeline: The pipeline, without its lists of images.
        context: What its tiles share.
        open_session: Opens what computes probabilities.
        output: Folder of the results.
    """

    name: str
    pipeline: Pipeline
    context: RunContext
    open_session: OpenSession
    output: Path


@dataclass(frozen=True)
class WorkerMetadata:
    """What a worker says of itself once its session is open.

    Attributes:
        device: Device that its networks run on.
        precision: Number format that they compute in.
        startup_seconds: How long it took to open them.
        log: Its log of this run.
    """

    device: str
    precision: str
    startup_seconds: float
    log: Path


def describe_code(models: Mapping[str, Path]) -> dict[str, object]:
    """Describe what results depend on in this process: packages, versions of results, and models.

    Returns:
        Plain data, equal in processes that compute the same.
    """
    # What follows the + says how a library was built, as for a CPU or a GPU.
    versions = {f"{name}": version.partition("+")[0] for name, version in package_versions().items()}
    results = {f"results version of {name}": version for name, version in results_versions().items()}
    hashes = {}
    for name, path in models.items():
        try:
            hashes[f"SHA-256 of model {name}"] = hash_model(path)
        except (OSError, DartsError) as error:
            hashes[f"SHA-256 of model {name}"] = f"unknown ({error})"
    return {**versions, **results, "files version": files_version(), **hashes}


def describe_difference(theirs: object, here: Mapping[str, object]) -> str:
    """Say what a worker's code or models differ in.

    Args:
        theirs: What :func:`describe_code` returned there, or the error that it raised.
        here: What it returned here.

    Returns:
        The differences, an empty string if there is none.
    """
    if not isinstance(theirs, Mapping):
        return f"it cannot say which release of DARTS it has ({type(theirs).__name__}: {theirs})"
    names = sorted({*theirs, *here})
    differing = [name for name in names if theirs.get(name) != here.get(name)]
    return ", ".join(f"{name} is {theirs.get(name)} there and {here.get(name)} here" for name in differing)
