"""Find the mistakes of a configuration before the first tile is read."""

import difflib
import importlib.util
import logging
import os
import shlex
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import darts_acquisition
from darts.errors import ConfigurationError, IgnoredOptionWarning
from darts.run.task import Pipeline, nominal_patch_size
from darts_utils import DartsError, ParameterError, available_memory, original_cube

logger = logging.getLogger(__name__)


def check_bands(required: Iterable[str], available: Iterable[str], whose: str) -> None:
    """Check that every band that is required can be produced.

    Raises:
        ConfigurationError: If one cannot be produced.
    """
    available = list(available)
    missing = [name for name in required if name not in available]
    if missing:
        near = [match for name in missing for match in difflib.get_close_matches(name.lower(), available, n=1)]
        hint = f" Did you mean {' and '.join(map(repr, near))}?" if near else ""
        raise ConfigurationError(
            f"{whose} needs {', '.join(missing)}, which this pipeline does not produce; it has {', '.join(available)}."
            f"{hint}"
        )


def check_cluster_is_installed() -> None:
    """Check that the libraries of a cluster are installed.

    Raises:
        ConfigurationError: If they are not; the message says how to get them.
    """
    missing = [name for name in ("distributed", "dask_jobqueue") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"A cluster of workers needs {' and '.join(missing)}, which is not installed: "
            'pip install "darts-nextgen[cluster]"'
        )


def check_executor(pipeline: Pipeline) -> None:
    """Check that a run on a cluster knows which, and that what it needs is installed.

    Raises:
        ConfigurationError: If its executor is "dask", and nothing or more than one thing says which cluster, or
            something is not installed.

    Warns:
        IgnoredOptionWarning: If a cluster is named, and the executor is another one.
    """
    given = [name for name in ("scheduler_file", "scheduler_address", "workers") if getattr(pipeline, name) is not None]
    if pipeline.executor != "dask":
        if given:
            message = f"{' and '.join(given)} is ignored: executor is {pipeline.executor!r}, not 'dask'."
            warnings.warn(message, IgnoredOptionWarning, stacklevel=2)
        return
    check_cluster_is_installed()
    if len(given) != 1:
        found = " and ".join(given) or "nothing"
        raise ConfigurationError(
            f"executor is 'dask', and {found} says which cluster; expected one of scheduler_file (--scheduler-file), "
            "scheduler_address (--scheduler-address), and workers (--workers), which is one on this machine."
        )


def check_engine(pipeline: Pipeline) -> None:
    """Check that the engine of the networks is installed, and works on the device asked for.

    Raises:
        ConfigurationError: If it is not, or does not.
    """
    if pipeline.engine != "openvino":
        return
    if importlib.util.find_spec("openvino") is None:
        raise ConfigurationError(
            "engine is 'openvino', which is not installed; `pip install \"darts-nextgen[openvino]\"` brings it."
        )
    if pipeline.device not in (None, "auto", "cpu"):
        raise ConfigurationError(
            f"engine is 'openvino', which computes on the CPU, and device is {pipeline.device!r}; choose 'cpu', or the "
            "engine 'torch'."
        )


def check_place(folder: Path, what: str = "Results") -> None:
    """Check that a folder is there or can be made, as far as that shows without writing.

    Raises:
        ConfigurationError: If a file or a link to nothing is in its place or above, or nothing may be made there.
    """
    path = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    if not path.is_dir():
        found = "a file" if path.exists() else "a link to nothing"
        raise ConfigurationError(f"{what} cannot be written into {folder}: {path} is {found}; expected a folder.")
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{what} cannot be written into {folder}: {path} may not be written into.")


def check_folder_is_writable(folder: Path, what: str = "Results") -> None:
    """Create the folder where it is absent and check that files can be written into it.

    Raises:
        ConfigurationError: If that does not work.
    """
    with writing_into(folder, what):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def writing_into(folder: Path, what: str = "Results") -> Iterator[None]:
    """Make of what the system refuses in the block an error of the configuration, which names the folder.

    Raises:
        ConfigurationError: If the block raises an OSError that is not one of DARTS.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, DartsError):
            raise
        raise ConfigurationError(f"{what} cannot be written into {folder}: {error.strerror or error}.") from error


def check_sizes(pipeline: Pipeline) -> None:
    """Check that patches and the reflected border can fit into memory at all.

    Raises:
        ConfigurationError: If they cannot, however few other things there are.
    """
    available = available_memory()
    # A network holds its input and at least as much again of its first layer; the result of a tile, its weights.
    size = nominal_patch_size(pipeline.patch_size)
    patch = 4 * 16 * size**2
    border = 8 * (2 * pipeline.reflection + size) ** 2
    for name, needed in (("patch_size", patch), ("reflection", border)):
        if needed > available:
            raise ConfigurationError(
                f"{name} is {getattr(pipeline, name)} px, which needs at least {needed / 2**30:,.0f} GB of memory, and "
                f"{available / 2**30:.1f} GB are available; choose a smaller {name}."
            )


def check_cube(location: str, product: "darts_acquisition.CubeProduct", option: str, pipeline: Pipeline) -> None:
    """Check that an auxiliary datacube is where the configuration says, or can be created, and holds what is needed.

    Args:
        location: Folder of the cube, or ``s3://bucket/prefix``.
        product: What it must hold.
        option: The option that says where it is, for the message.
        pipeline: Says whether anything can be fetched, and how that is done ahead of time.

    Raises:
        ConfigurationError: If there is something else, or, offline, nothing, or if a cube cannot be created there.
    """
    try:
        cube = darts_acquisition.Datacube.open(location)
        cube.check_holds(product)
    except darts_acquisition.CubeNotFoundError as error:
        beside = None if "://" in location else original_cube(location)
        if beside is not None:
            note = cube_note(Path(location))
            raise ConfigurationError(
                f"There is no datacube at {location}; to fetch a new one, name another place with {option}. {note}"
            ) from error
        if pipeline.offline:
            raise ConfigurationError(
                f"The models or the export need {product.name}, and there is no datacube at {location}: fetch one with "
                f"`{pipeline._how_to_prepare()}` and the options of this run, run without --offline, or name another "
                f"with {option}."
            ) from error
        if "://" not in location:
            above = next(folder for folder in Path(location).expanduser().resolve().parents if folder.exists())
            check_folder_is_writable(above, f"A new datacube of {product.name} ({option})")
        logger.info("%s will be fetched into a new datacube at %s.", product.name, location)
    except darts_acquisition.ForeignCubeError as error:
        raise ConfigurationError(f"{error} {import_hint(location)} Then name the new one with {option}.") from error
    except (darts_acquisition.CubeError, ParameterError) as error:
        raise ConfigurationError(f"{error} Correct {option}.") from error
    else:
        if cube.product.version == darts_acquisition.SYNTHETIC:
            logger.warning(
                "The %s in %s is made up, for demonstrations; nothing in it was measured.", product.name, location
            )
        elif cube.product.version != product.version:
            logger.warning(
                "The datacube at %s holds %s %s, not %s.", location, product.name, cube.product.version, product.version
            )


def cube_note(path: Path) -> str:
    """Say what lies beside the place of a new datacube under the name that the original DARTS gave its own.

    Returns:
        One sentence that says what it is and what to do; empty where there is none.
    """
    beside = original_cube(path)
    if beside is None:
        return ""
    with suppress(darts_acquisition.CubeError):
        darts_acquisition.Datacube.open(beside)
        move = f"mv {shlex.quote(str(beside))} {shlex.quote(str(path))}"
        return f"{beside} is a datacube of DARTS under an earlier name, which is not searched; to use it: {move}"
    return f"{beside} is a datacube of another program (smart-geocubes). {import_hint(beside, path)}"


def import_hint(cube: Path | str, path: Path | None = None) -> str:
    """Say how a datacube of another program is taken over."""
    where = "" if path is None else f" --to {shlex.quote(str(path))}"
    return f"It is left as it is; to take over what it holds: `darts cube import {shlex.quote(str(cube))}{where}`."


def select(wanted: Sequence[str] | None, found: Sequence[str]) -> list[str]:
    """Keep the scenes that were asked for, all where that is None.

    Returns:
        The names to process, in the order in which they were found.

    Raises:
        ConfigurationError: If a name asked for does not exist. The message suggests the nearest.
    """
    if wanted is None:
        return list(found)
    for name in wanted:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f" among the {len(found)} there are."
            raise ConfigurationError(f"There is no scene {name!r}{hint}")
    return [name for name in found if name in set(wanted)]
