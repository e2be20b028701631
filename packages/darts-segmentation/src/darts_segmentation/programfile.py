"""Files of programs of OpenVINO: ``model.xml``, ``model.bin`` and the model card in one folder."""

import importlib
import importlib.util
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from darts_segmentation.errors import BrokenModelError, MissingLibraryError
from darts_segmentation.store import CARD_NAME, PROGRAM_NAME, is_program
from darts_utils import ParameterError

if TYPE_CHECKING:
    import openvino

STRIDE = ["darts", "patch_divisor"]
"""Under which name a program says of what the edge of its patches has to be a multiple."""

_TELEMETRY = "openvino_telemetry"
_importing = threading.Lock()


def import_openvino() -> ModuleType:
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


def check_program_folder(out: Path) -> None:
    """Raise a ParameterError unless a program may be written at a path: a folder that is new, empty, or holds one."""
    if out.suffix or (out.exists() and not is_program(out) and (out.is_file() or any(out.iterdir()))):
        raise ParameterError(f"{out} cannot hold a program of OpenVINO; name a folder that is new or holds one.")


def read_program(folder: Path, core: "openvino.Core") -> "openvino.Model":
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
    if not program.has_rt_info(STRIDE):
        raise BrokenModelError(f"{folder} was not written by DARTS: its program lacks {'/'.join(STRIDE)}.")
    return program


def write_program(program: "openvino.Model", out: Path, card: str) -> None:
    """Write a program and its card into a folder.

    Args:
        program: The program.
        out: The folder.
        card: The card as JSON.
    """
    import_openvino().save_model(program, out / PROGRAM_NAME, compress_to_fp16=False)
    (out / CARD_NAME).write_text(card, encoding="utf-8")


def run_once(program: "openvino.Model", patches: NDArray) -> NDArray:
    """Return the logits that a program computes for patches in fp32."""
    sized = program.clone()
    sized.reshape(list(patches.shape))
    compiled = import_openvino().Core().compile_model(sized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled.create_infer_request().infer({0: patches})[0]


def stored_stride(program: "openvino.Model") -> int:
    """Return the number of pixels of which the edge of a program's patches has to be a multiple."""
    return int(program.get_rt_info(STRIDE).astype(str))


def count_parameters(folder: Path) -> int:
    """Return the number of numbers in a program's weights."""
    program = read_program(folder, import_openvino().Core())
    constants = (node for node in program.get_ops() if node.get_type_name() == "Constant")
    return sum(math.prod(node.get_output_shape(0)) for node in constants)
