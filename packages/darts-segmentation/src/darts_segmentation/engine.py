"""The interface between inference and what computes: a library that runs networks, on a device."""

import sys
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

from numpy.typing import NDArray

from darts_segmentation.arrays import Array
from darts_segmentation.bands import TilePatches
from darts_segmentation.blend import Blend
from darts_segmentation.card import ModelCard
from darts_segmentation.errors import GpuMemoryError
from darts_segmentation.grid import PatchGrid
from darts_utils import Device, ParameterError

if TYPE_CHECKING:
    import torch

EngineName = Literal["torch", "openvino"]
"""The engines that callers may ask for."""

Precision = Literal["fp32", "bf16", "fp16", "auto"]
"""The precisions that callers may ask for."""

NumberFormat = Literal["fp32", "bf16", "fp16"]

Network = Callable[[Any], Any]
"""Takes patches (patches, channels, y, x), returns logits (patches, classes, y, x), as arrays of its engine."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        card: Describes it.
        network: Runs it.
        output_stride: Patch sizes have to be a multiple of this.
    """

    card: ModelCard
    network: Network
    output_stride: int


class PatchLoader(Protocol):
    """Brings patches from the tile to the network, reusing its buffers."""

    def load(self, positions: Sequence[tuple[int, int]]) -> Any:
        """Return patches on the device, scaled to 0…1: float32 (patches, channels, y, x), in the network's order.

        Args:
            positions: Row and column of each patch in the grid, at most as many as the loader was made for.
        """

    def keep_pace(self) -> None:
        """Wait, after a batch was launched, until the one before is computed: so long as a batch takes."""


class Engine(Protocol):
    """A library that runs networks, on one device.

    What passes between its methods are tensors of torch on its device, or arrays of numpy; all else is written for both
    (:mod:`darts_segmentation.arrays`).

    Attributes:
        device: Where networks run.
        limits: Patches at a time that the memory of the device was found to hold, by what was run. Kept from tile to
            tile.
    """

    limits: dict[Hashable, int]

    @property
    def device(self) -> "torch.device | Device":
        """See above."""

    def load(self, path: Path, *, compile_it: bool) -> LoadedModel:
        """Read a model file and return what runs it here.

        Args:
            path: The model.
            compile_it: Whether time may be spent on making it fast.

        Raises:
            ModelFileError: If the file cannot be used.
        """

    def threads(self, number: int) -> AbstractContextManager[None]:
        """Return a context in which networks use so many threads of the CPU."""

    def fastest_format(self) -> NumberFormat:
        """Return the number format in which this device does most patches per second."""

    def batch_limit(self, batch_size: int, patch_size: int) -> int:
        """Return how many patches to compute at a time where the caller allows `batch_size`."""

    def computing(self, number_format: NumberFormat) -> AbstractContextManager[None]:
        """Return a context in which networks run in a number format; any thread may enter it.

        Raises:
            ParameterError: If they cannot.
        """

    def blend(self, grid: PatchGrid) -> Blend:
        """Return what adds up the patches of a tile."""

    def take(self, arrays: Sequence[object]) -> "list[NDArray] | list[torch.Tensor]":
        """Return arrays of a tile, of the host or of a GPU, as this engine reads them, without a copy where it can.

        They are tensors on its GPU where one of them lies on a GPU, else all of numpy.
        """

    def loader(self, patches: TilePatches, limit: int) -> PatchLoader:
        """Make the buffers for batches of patches."""

    def give(self, result: Any, like: "NDArray | torch.Tensor") -> object:
        """Return a result as an array of a tile that lies where `like`, from :meth:`take`, lies.

        It is complete once :meth:`fetch` has returned.
        """

    def fetch(self, arrays: Sequence[Array]) -> list[NDArray]:
        """Return small arrays as ones of numpy, after one wait for all that was launched before.

        Args:
            arrays: Of numpy, or tensors on the engine's device.
        """

    def free_memory(self) -> bool:
        """Give back what can be given back, after an allocation has failed.

        Returns:
            Whether another library gave something back, so that the same allocation may now succeed.
        """


def check_precision(precision: str) -> Precision:
    """Return `precision` if it is one of "fp32", "bf16", "fp16", "auto".

    Raises:
        ParameterError: If it is not.
    """
    if precision not in get_args(Precision):
        raise ParameterError(
            f"precision is {precision!r}; expected one of {', '.join(map(repr, get_args(Precision)))}."
        )
    return precision  # type: ignore[return-value]  # just checked


# How torch, cuDNN, cuBLAS and CUDA say it where it is not an error of its own class.
_SIGNS = ("out of memory", "ALLOC_FAILED", "not enough memory", "can't allocate memory", "bad_alloc")


def memory_shortage(error: BaseException) -> str:
    """Return what an error says about memory that does not suffice; an empty text where it is about something else."""
    text = str(error).strip() or type(error).__name__
    torch = sys.modules.get("torch")
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    is_one = isinstance(error, kinds) and not isinstance(error, GpuMemoryError)
    if is_one or (isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)):
        return text.splitlines()[0]
    return ""


def with_memory(engine: Engine, what: str, call: Callable[[], _Result]) -> _Result:
    """Return what a call returns, which is tried twice where the memory of the device does not suffice.

    Args:
        engine: Frees what it can in between.
        what: What the memory is for.
        call: What needs memory; can be called again.

    Raises:
        GpuMemoryError: If it does not suffice then either.
    """
    reason = ""
    for _ in range(2):
        try:
            return call()
        except Exception as error:
            reason = memory_shortage(error)
            if not reason:
                raise
        # Outside the handler, for the traceback of the error holds on to what was allocated.
        engine.free_memory()
    raise GpuMemoryError(
        f"The memory of {engine.device} does not hold {what} ({reason}). Free some of it, or choose another device."
    )
