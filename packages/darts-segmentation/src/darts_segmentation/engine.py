"""The interface between inference and what computes: a library that runs networks, on a device."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from numpy.typing import NDArray

from darts_segmentation.bands import Channel, TilePatches
from darts_segmentation.device import choose_device
from darts_segmentation.errors import GpuMemoryError
from darts_segmentation.precision import NumberFormat
from darts_utils import DeviceLike

if TYPE_CHECKING:
    import torch

Network = Callable[["torch.Tensor"], "torch.Tensor"]
"""Takes patches (patches, channels, y, x), returns logits (patches, classes, y, x)."""

_Result = TypeVar("_Result")


class PatchLoader(Protocol):
    """Brings patches from the tile to the network, reusing its buffers."""

    def load(self, places: Sequence[tuple[int, int]]) -> "torch.Tensor":
        """Return patches on the device, scaled to 0…1: float32 (patches, channels, y, x), channels last.

        Args:
            places: Row and column of each patch in the grid, at most as many as the loader was made for.
        """

    def keep_pace(self) -> None:
        """Wait, after a batch was launched, until the one before is computed: so long as a batch takes."""


class Engine(Protocol):
    """A library that runs networks, on one device; that of torch is the one there is.

    Another one takes networks of torch and runs them its own way (:meth:`prepare`). What passes between its methods are
    tensors of torch, on its device.

    Attributes:
        device: Where tensors lie.
        limits: Patches at a time that the memory of the device was found to hold, by what was run. Kept from tile to
            tile.
    """

    device: "torch.device"
    limits: dict[Any, int]

    def prepare(self, network: "torch.nn.Module", *, compile_it: bool) -> Network:
        """Return what runs a network here.

        Args:
            network: The network; may be moved and changed.
            compile_it: Whether time may be spent on making it fast.
        """

    def fastest_format(self) -> NumberFormat:
        """Return the number format in which this device does most patches per second."""

    def batch_limit(self, batch_size: int, patch_size: int) -> int:
        """Return how many patches to compute at a time where the caller allows `batch_size`."""

    def computing(self, number_format: NumberFormat) -> AbstractContextManager[None]:
        """Return a context in which networks run in a number format; any thread may enter it."""

    def take(self, array: Any) -> "NDArray[Any] | torch.Tensor":
        """Return an array of a tile, of the host or of a GPU, as this engine reads it, without a copy where it can."""

    def loader(self, patches: TilePatches, limit: int) -> PatchLoader:
        """Make the buffers for batches of patches."""

    def give(self, result: "torch.Tensor", like: "NDArray[Any] | torch.Tensor") -> Any:
        """Return a result as an array of a tile that lies where `like`, from :meth:`take`, lies."""

    def free_memory(self) -> bool:
        """Give back what can be given back, after an allocation has failed.

        Returns:
            Whether another library gave something back, so that the same allocation may now succeed.
        """


def make_engine(device: "DeviceLike | torch.device") -> Engine:
    """Choose a device and return what runs networks on it.

    Args:
        device: As in :func:`darts_segmentation.device.choose_device`.

    Returns:
        The engine.

    Raises:
        ParameterError: If `device` names no device.
        DeviceError: If a GPU was asked for and does not work.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        from darts_segmentation.cuda import CudaEngine

        return CudaEngine(chosen)
    from darts_segmentation.cpu import CpuEngine

    return CpuEngine()


# How torch, cuDNN, cuBLAS and CUDA say it where it is not an error of its own class.
_SIGNS = ("out of memory", "ALLOC_FAILED", "not enough memory", "can't allocate memory")


def memory_shortage(error: BaseException) -> str:
    """Return what an error says about memory that does not suffice; an empty text where it is about something else."""
    import torch

    text = str(error).strip() or type(error).__name__
    is_one = isinstance(error, torch.OutOfMemoryError | MemoryError) and not isinstance(error, GpuMemoryError)
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


class Scaler:
    """Scales channels as :func:`darts_utils.normalize_band` does, on the device where they are.

    Args:
        channels: The channels.
        device: Where the patches will be.
    """

    def __init__(self, channels: Sequence[Channel], device: "torch.device") -> None:
        import torch

        def column(values: list[float]) -> Any:
            return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)

        self._low = column([channel.low for channel in channels])
        self._factor = column([1 / (channel.high - channel.low) for channel in channels])

    def scale(self, patches: "torch.Tensor") -> None:
        """Scale patches in place: low … high becomes 0…1, clipped, NaN becomes 0.

        Args:
            patches: float32 of shape (patches, channels, y, x).
        """
        patches.sub_(self._low).mul_(self._factor).clamp_(0, 1).nan_to_num_(0)
