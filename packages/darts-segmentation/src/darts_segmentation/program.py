"""Programs of OpenVINO: what a network becomes, once, so that nobody who runs it needs torch.

A program is a folder with ``model.xml``, ``model.bin`` and the model card, ``model.json``. Those of models that are
not programs themselves are kept in ``darts/openvino`` of the user's cache folder (``XDG_CACHE_HOME``, else
``~/.cache``), under the SHA-256 of the model and the version of OpenVINO.
"""

import atexit
import importlib
import importlib.util
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_segmentation import errors
from darts_segmentation.errors import BrokenModelError, ConversionError, MissingLibraryError
from darts_segmentation.modelfile import hash_model
from darts_segmentation.store import CARD_NAME, PROGRAM_NAME, is_program
from darts_utils import DartsError
from darts_utils.staging import replaced_folder

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_TELEMETRY = "openvino_telemetry"
_STRIDE = ["darts", "patch_divisor"]
_TRANSLATE = "import sys; from darts_segmentation.program import translate; translate(sys.argv[1], sys.argv[2])"
_importing = threading.Lock()


def import_openvino() -> Any:
    """Return the module openvino, imported without its telemetry.

    OpenVINO tells its makers of each import, through a library that comes with it. While it is imported that library
    cannot be, so that it takes the substitute that it brings for this case, for good.

    Raises:
        MissingLibraryError: If it is not installed.
    """
    if importlib.util.find_spec("openvino") is None:
        raise MissingLibraryError(
            "Engine 'openvino' needs OpenVINO, which is not installed; `pip install \"darts-segmentation[openvino]\"` "
            "brings it."
        )
    with without_telemetry():
        return importlib.import_module("openvino")


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Let an import of the telemetry of OpenVINO fail until the block ends, unless it has been imported before."""
    with _importing:
        if _TELEMETRY in sys.modules:
            yield
            return
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # how Python marks what shall not be found
        try:
            yield
        finally:
            sys.modules.pop(_TELEMETRY, None)


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


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "darts" / "openvino"


def _translate_elsewhere(path: Path, out: Path) -> None:
    """Translate a model in a process of its own, so that torch is not loaded into this one, unless it is already."""
    if "torch" in sys.modules:
        translate(path, out)
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


def convert_to_program(path: Path | str, out: Path, **described: Any) -> Path:
    """Write the program of a model into a folder of its own, in place of one that is there.

    Args:
        path: The model.
        out: The folder.
        **described: As for :func:`darts_segmentation.convert_model`.

    Returns:
        The path `out`.
    """
    with replaced_folder(out) as partial:
        translate(path, partial, **described)
    return out


def translate(path: Path | str, out: Path | str, **described: Any) -> None:
    """Write the program of a model into a folder that is there; the card comes last, and makes it whole.

    Args:
        path: The model.
        out: The folder.
        **described: Fields of the card, see :func:`darts_segmentation.read_model`.

    Raises:
        ModelFileError: If the model cannot be read.
        ConversionError: If the network cannot be translated, or the program computes something else.
    """
    from darts_segmentation.convert import check_same, trace
    from darts_segmentation.modelfile import read_model
    from darts_segmentation.network import load_network

    model = read_model(path, **described)
    network = load_network(model.card, model.states)
    traced, sample = trace(network, model.card)
    try:
        program = _convert(network, traced, sample)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConversionError(f"Model {model.card.name!r} cannot be translated for OpenVINO: {reason}") from error
    check_same(network, sample, lambda: run_once(program, sample.numpy()), f"The OpenVINO program of {path}")
    program.set_rt_info(str(_find_stride(program, network, sample)), _STRIDE)
    write_program(program, Path(out), model.card.to_json())


def _convert(network: "torch.nn.Module", traced: Any, sample: "torch.Tensor") -> Any:
    """Return the program of what torch.export made of a network, or torch.jit where OpenVINO lacks a part of it."""
    openvino = import_openvino()
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deplores torch.jit, and the constants that it makes of shapes
            try:
                return openvino.convert_model(traced)
            except openvino.frontend.OpConversionFailure:
                return openvino.convert_model(network, example_input=sample)
    finally:  # OpenVINO leaves the root logger silent where it fails
        root.setLevel(level)
        root.handlers[:] = handlers


def _find_stride(program: Any, network: "torch.nn.Module", sample: "torch.Tensor") -> int:
    """Return what patch sizes have to be a multiple of: what the network says, unless the program takes less."""
    from darts_segmentation.convert import check_same
    from darts_segmentation.network import output_stride_of

    rows = program.inputs[0].partial_shape[2]
    if rows.is_static:
        return int(rows.get_length())
    output_stride = output_stride_of(network)
    if output_stride > 1:
        return output_stride
    odd = sample[..., :-3, :-5].contiguous()
    try:
        check_same(network, odd, lambda: run_once(program, odd.numpy()), "The program")
    except RuntimeError:
        return int(getattr(getattr(network, "encoder", None), "output_stride", 1))
    return 1


def run_once(program: Any, patches: Any) -> Any:
    """Return the logits that a program computes for patches in fp32."""
    sized = program.clone()
    sized.reshape(list(patches.shape))
    compiled = import_openvino().Core().compile_model(sized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled.create_infer_request().infer({0: patches})[0]


def write_program(program: Any, out: Path, card: str) -> None:
    """Write a program and its card into a folder.

    Args:
        program: The program.
        out: The folder.
        card: The card as JSON.
    """
    import_openvino().save_model(program, out / PROGRAM_NAME, compress_to_fp16=False)
    (out / CARD_NAME).write_text(card, encoding="utf-8")


def stored_stride(program: Any) -> int:
    """Return the number of pixels of which the edge of a program's patches has to be a multiple."""
    return int(program.get_rt_info(_STRIDE).astype(str))


def read_program(folder: Path, core: Any) -> Any:
    """Return the program in a folder.

    Args:
        folder: The folder.
        core: OpenVINO's ``Core``.

    Raises:
        BrokenModelError: If OpenVINO cannot read it, or something else than DARTS wrote it.
    """
    try:
        program = core.read_model(folder / PROGRAM_NAME)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise BrokenModelError(f"{folder} holds no program that this OpenVINO reads ({reason}).") from error
    if not program.has_rt_info(_STRIDE):
        raise BrokenModelError(f"{folder} was not written by DARTS: its program lacks {'/'.join(_STRIDE)}.")
    return program


def count_parameters(folder: Path) -> int:
    """Return the number of numbers in a program's weights."""
    program = read_program(folder, import_openvino().Core())
    constants = (node for node in program.get_ops() if node.get_type_name() == "Constant")
    return sum(math.prod(node.get_output_shape(0)) for node in constants)
