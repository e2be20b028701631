"""Run networks with OpenVINO on the CPU, without torch."""

import threading
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.bands import TilePatches
from darts_segmentation.blend import Blend
from darts_segmentation.engine import LoadedModel, NumberFormat
from darts_segmentation.grid import PatchGrid
from darts_segmentation.program import openvino_program, program_card
from darts_segmentation.programfile import import_openvino, read_program, stored_stride
from darts_segmentation.scaling import NumpyScaler
from darts_utils import Device, DeviceError, ParameterError, to_host, usable_cpus

if TYPE_CHECKING:
    import openvino

_FORMATS = {"fp32": ("f32", "FP32"), "bf16": ("bf16", "BF16"), "fp16": ("f16", "FP16")}
"""What OpenVINO calls the number formats, and the capabilities of a processor that computes in them."""
_KEPT = 2


class OpenVinoEngine:
    """OpenVINO on the CPU; see :class:`darts_segmentation.engine.Engine`. Its arrays are numpy's.

    Args:
        device: "cpu", "auto" or None.

    Raises:
        DeviceError: If another device is asked for.
        MissingLibraryError: If OpenVINO is not installed.
    """

    def __init__(self, device: object) -> None:
        if str(device).strip().lower() not in ("none", "auto", "cpu"):
            raise DeviceError(
                f"Device {device} was asked for, but engine 'openvino' computes on the CPU; choose 'cpu', or the "
                "engine 'torch'."
            )
        self.device = Device("cpu")
        self.limits: dict[Hashable, int] = {}
        self.core = import_openvino().Core()
        self._capabilities = frozenset(self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        self._of_thread = threading.local()

    def load(self, path: Path, *, compile_it: bool) -> LoadedModel:  # noqa: ARG002  # it compiles in any case
        """Read the program of a model, which is translated where that has not been done yet."""
        folder = openvino_program(path)
        card = program_card(path, folder)
        program = read_program(folder, self.core)
        return LoadedModel(card, OpenVinoNetwork(program, self, card.name), stored_stride(program))

    @property
    def settings(self) -> tuple[NumberFormat, int]:
        """Number format and threads in which this thread has its networks run."""
        return getattr(self._of_thread, "format", "fp32"), getattr(self._of_thread, "threads", 0) or usable_cpus()

    @contextmanager
    def threads(self, number: int) -> Iterator[None]:
        """Let networks that this thread runs use so many threads until the block ends."""
        with self._setting("threads", number):
            yield

    def fastest_format(self) -> NumberFormat:
        """Return "bf16" where the processor multiplies bfloat16, else "fp32"."""
        return "bf16" if "BF16" in self._capabilities else "fp32"

    def batch_limit(self, batch_size: int, patch_size: int) -> int:  # noqa: ARG002  # the interface's arguments
        """Return 1: all threads work on one patch, and a program is compiled for one number of patches."""
        return 1

    @contextmanager
    def computing(self, number_format: NumberFormat) -> Iterator[None]:
        """Let networks that this thread runs compute in a number format until the block ends.

        Raises:
            ParameterError: If this processor does not; OpenVINO would quietly take another one.
        """
        if _FORMATS[number_format][1] not in self._capabilities:
            able = [name for name, (_, capability) in _FORMATS.items() if capability in self._capabilities]
            raise ParameterError(
                f"precision is {number_format!r}, but with OpenVINO this processor computes in {' and '.join(able)}; "
                "choose one of them, or 'auto'."
            )
        with self._setting("format", number_format):
            yield

    @contextmanager
    def _setting(self, name: str, value: object) -> Iterator[None]:
        before = getattr(self._of_thread, name, None)
        setattr(self._of_thread, name, value)
        try:
            yield
        finally:
            delattr(self._of_thread, name) if before is None else setattr(self._of_thread, name, before)

    def blend(self, grid: PatchGrid) -> Blend:
        """Return what adds up the patches of a tile."""
        return Blend(grid, None)

    def take(self, arrays: Sequence[object]) -> list[NDArray]:
        """Return arrays as ones of numpy."""
        return [np.asarray(array) for array in to_host(dict(enumerate(arrays))).values()]

    def loader(self, patches: TilePatches, limit: int) -> "NumpyLoader":
        """Make one buffer for a batch of patches."""
        return NumpyLoader(patches, limit)

    def give(self, result: NDArray, like: object) -> NDArray:  # noqa: ARG002  # all arrays are numpy's here
        """Return a result as it is."""
        return result

    def fetch(self, arrays: Sequence[Any]) -> list[NDArray]:
        """Return arrays as they are."""
        return list(arrays)

    def free_memory(self) -> bool:
        """Do nothing: nothing is kept back."""
        return False


class OpenVinoNetwork:
    """A program that is compiled when it first meets patches of a size.

    OpenVINO folds batch normalisation into convolutions when it compiles.

    Args:
        program: The program, as OpenVINO reads it.
        engine: Says in which number format it computes, and with how many threads.
        name: Name of the model, for messages.
    """

    def __init__(self, program: "openvino.Model", engine: OpenVinoEngine, name: str) -> None:
        self._program, self._engine, self._name = program, engine, name
        self._requests: dict[Hashable, openvino.InferRequest] = {}
        self._running = threading.Lock()

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of patches.

        Raises:
            ParameterError: If the network takes no patches of this size.
        """
        key = (patches.shape, *self._engine.settings)
        with self._running:
            if key not in self._requests:
                self._requests[key] = self._compile(*key)
                while len(self._requests) > _KEPT:
                    del self._requests[next(iter(self._requests))]
            return self._requests[key].infer({0: patches}, share_inputs=True)[0]

    def _compile(self, shape: tuple[int, ...], number_format: NumberFormat, threads: int) -> "openvino.CompiledModel":
        program = self._program.clone()
        try:
            program.reshape(list(shape))
        except RuntimeError as error:
            raise ParameterError(
                f"Model {self._name!r} takes no patches of {shape[2]} × {shape[3]} px ({_last_line(error)}); choose "
                "another patch_size."
            ) from error
        settings = {
            "INFERENCE_PRECISION_HINT": _FORMATS[number_format][0],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # other stages, and other users, want the same processors
        }
        return self._engine.core.compile_model(program, "CPU", settings).create_infer_request()


class NumpyLoader:
    """One buffer in which patches are scaled; see :class:`darts_segmentation.engine.PatchLoader`."""

    def __init__(self, patches: TilePatches, limit: int) -> None:
        self._patches = patches
        self._buffer = np.empty((limit, *patches.shape), np.float32)
        self._scaler = NumpyScaler(patches.channels)

    def load(self, positions: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """Return patches, scaled; they are overwritten by the next call."""
        part = self._buffer[: len(positions)]
        for position, patch in zip(positions, part, strict=True):
            self._patches.copy(position, patch)
        self._scaler.scale(part)
        return part

    def keep_pace(self) -> None:
        """Do nothing: what was launched is done."""


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__
