"""Programs of OpenVINO: what a network becomes, once, so that nobody who runs it needs torch.

A program is a folder with ``model.xml``, ``model.bin`` and the model card, ``model.json``. Those of models that are
not programs themselves are kept in ``darts/openvino`` of the user's cache folder (``XDG_CACHE_HOME``, else
``~/.cache``), under the SHA-256 of the model and the version of OpenVINO.
"""

import atexit
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from darts_segmentation import errors
from darts_segmentation.card import ModelCard
from darts_segmentation.errors import ConversionError
from darts_segmentation.programfile import import_openvino
from darts_segmentation.store import hash_model, is_program, is_stored_model, read_stored_card
from darts_utils import DartsError
from darts_utils.staging import replaced_folder

logger = logging.getLogger(__name__)

_TRANSLATE = "import sys; from darts_segmentation.translation import translate; translate(sys.argv[1], sys.argv[2])"


def openvino_program(path: Path | str) -> Path:
    """Return the folder of the program that OpenVINO runs for a model, which is translated where it is not there.

    Translating takes some seconds and torch, in a process of its own unless torch is loaded already. What the program
    computes for random input is compared with the network. It is written into the cache folder; where that may not be
    written into, into a temporary one, which is as good but made again each time.

    Args:
        path: The model, in any format that :class:`SMPSegmenter` reads; a program is returned as it is.

    Returns:
        The folder.

    Raises:
        ModelFileError: If the model cannot be read.
        MissingLibraryError: If OpenVINO is not installed.
        ConversionError: If the network cannot be translated, or the program computes something else.
    """
    path = Path(path)
    if path.exists() and is_program(path):
        return path
    sha256 = hash_model(path)
    import_openvino()
    name = f"{sha256}-{version('openvino')}"
    folder = _cache_folder() / name
    if is_program(folder):
        return folder
    logger.info("%s is translated for OpenVINO, once, into %s.", path, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
    except OSError as error:
        logger.warning("No program can be kept in %s (%s); XDG_CACHE_HOME names another place.", folder.parent, error)
        folder = Path(tempfile.mkdtemp(prefix="darts-openvino-")) / name
        atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    with replaced_folder(folder) as partial:
        _translate_elsewhere(path, partial)
    return folder


def program_card(path: Path | str, folder: Path) -> ModelCard:
    """Return the card of a model as it is now, which may have changed since its program was kept under its hash.

    Args:
        path: The model.
        folder: The folder of its program, see :func:`openvino_program`.

    Returns:
        The card beside the weights in our own format; that in the folder for a checkpoint, whose card is its content.

    Raises:
        ModelFileError: If the card cannot be read.
        UnknownBandError: If it names a band that the band table does not know.
    """
    path = Path(path)
    return read_stored_card(path if is_stored_model(path) else folder)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "darts" / "openvino"


def _translate_elsewhere(path: Path, out: Path) -> None:
    """Translate a model in a process of its own, so that torch is not loaded into this one, unless it is already."""
    if "torch" in sys.modules:
        _translate_here(path, out)
        return
    command = [sys.executable, "-c", _TRANSLATE, str(path), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        kind, _, text = lines[-1].partition(": ")
        found = getattr(errors, kind.rpartition(".")[2], None)
        if isinstance(found, type) and issubclass(found, DartsError):
            raise found(text)
        raise ConversionError(f"{path} cannot be translated for OpenVINO: {lines[-1]}")


def convert_to_program(path: Path | str, out: Path, **described: object) -> Path:
    """Write the program of a model into a folder of its own, in place of one that is there.

    Args:
        path: The model.
        out: The folder.
        **described: As for :func:`darts_segmentation.convert_model`.

    Returns:
        The path `out`.
    """
    with replaced_folder(out) as partial:
        _translate_here(path, partial, **described)
    return out


def _translate_here(path: Path | str, out: Path, **described: object) -> None:
    from darts_segmentation.translation import translate

    translate(path, out, **described)
