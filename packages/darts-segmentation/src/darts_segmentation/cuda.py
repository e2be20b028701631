"""Run networks with torch on an NVIDIA GPU: pinned buffers, and copies that overlap with computing."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from darts_segmentation.arrays import upload
from darts_segmentation.bands import TilePatches
from darts_segmentation.engine import NumberFormat, PatchLoader
from darts_segmentation.grid import Axis
from darts_segmentation.precision import computing
from darts_segmentation.scaling import Scaler
from darts_segmentation.torch_engine import TorchEngine
from darts_utils import is_on_gpu, usable_cpus

_BUFFERS = 2
_THREADS = 8


class CudaEngine(TorchEngine):
    """torch on one NVIDIA GPU; see :class:`darts_segmentation.engine.Engine`.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._pool = ThreadPoolExecutor(min(_THREADS, usable_cpus()), "darts-patches")

    def fastest_format(self) -> NumberFormat:
        """Return "bf16" from compute capability 8.0 on, "fp16" from 7.0 on, else "fp32"."""
        major, _ = torch.cuda.get_device_capability(self.device)
        if major >= 8:
            return "bf16"
        return "fp16" if major >= 7 else "fp32"

    def batch_limit(self, batch_size: int, patch_size: int) -> int:  # noqa: ARG002  # the interface's arguments
        """Return `batch_size`."""
        return batch_size

    @contextmanager
    def computing(self, number_format: NumberFormat) -> Iterator[None]:
        """Return a context in which this GPU is the current one, and networks run in a number format."""
        with torch.cuda.device(self.device), computing(self.device.type, number_format):
            yield

    def take(self, arrays: Sequence[object]) -> list[NDArray] | list[torch.Tensor]:
        """Return arrays as ones of numpy; where one is cupy's, all as tensors here, uncopied where they lie here."""
        if not any(map(is_on_gpu, arrays)):
            return [np.asarray(array) for array in arrays]
        cupy = sys.modules["cupy"]
        with torch.cuda.device(self.device), cupy.cuda.Device(self.device.index or 0):
            on_gpu = [array if is_on_gpu(array) else cupy.asarray(np.asarray(array)) for array in arrays]
            return [from_dlpack(array).to(self.device) for array in on_gpu]

    def loader(self, patches: TilePatches, limit: int) -> PatchLoader:
        """Make what cuts patches: on the GPU where the bands lie there, else through pinned memory of the host."""
        scaler = Scaler(patches.channels, self.device)
        if isinstance(patches.bands[0], np.ndarray):
            return CudaLoader(patches, limit, scaler, self.device, self._pool)
        return DeviceLoader(patches, scaler, self.device)

    def give(self, result: torch.Tensor, like: NDArray | torch.Tensor) -> object:
        """Return a result as an array of numpy, or of cupy, without a copy, where `like` is a tensor."""
        if isinstance(like, np.ndarray):
            return self._to_host(result)
        return sys.modules["cupy"].from_dlpack(result)  # loaded by whoever made the bands

    def fetch(self, arrays: Sequence[NDArray | torch.Tensor]) -> list[NDArray]:
        """Return tensors as arrays of numpy, after one wait for all that this stream was given before."""
        with torch.cuda.device(self.device):
            copies = [array if isinstance(array, np.ndarray) else self._to_host(array) for array in arrays]
            done = torch.cuda.Event()
            done.record()
            done.synchronize()
            return copies

    def _to_host(self, tensor: torch.Tensor) -> NDArray:
        """Begin to copy a tensor to pinned memory; whoever reads it has waited for the stream."""
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return host.copy_(tensor, non_blocking=True).numpy()

    def free_memory(self) -> bool:
        """Give back what torch keeps in reserve on this GPU and in pinned memory, and what cupy does."""
        with torch.cuda.device(self.device):
            torch.cuda.empty_cache()
            if hasattr(torch.accelerator, "empty_host_cache"):
                torch.accelerator.empty_host_cache()
            cupy = sys.modules.get("cupy")
            if cupy is None:
                return False
            pool = cupy.get_default_memory_pool()
            free = pool.free_bytes()
            pool.free_all_blocks()
            cupy.get_default_pinned_memory_pool().free_all_blocks()
            return bool(free)


class _Buffer:
    def __init__(self, shape: tuple[int, int, int, int], device: torch.device) -> None:
        self.host = torch.empty(shape, dtype=torch.float32, pin_memory=True)
        self.device = torch.empty(shape, dtype=torch.float32, device=device)
        self.copied = torch.cuda.Event()
        self.used = torch.cuda.Event()


class _Loader:
    """What the loaders of a GPU have in common."""

    def __init__(self, patches: TilePatches, scaler: Scaler, device: torch.device) -> None:
        self._patches = patches
        self._scaler = scaler
        self._device = device
        self._launched: torch.cuda.Event | None = None

    def keep_pace(self) -> None:
        """Wait until the batch before the last one is computed; see :class:`darts_segmentation.engine.PatchLoader`."""
        before, self._launched = self._launched, torch.cuda.Event()
        with torch.cuda.device(self._device):
            self._launched.record()
        if before is not None:
            before.synchronize()


class DeviceLoader(_Loader):
    """Cuts patches on the GPU, out of bands that lie there.

    Args:
        patches: What is cut.
        scaler: Scales them.
        device: The GPU.
    """

    def __init__(self, patches: TilePatches, scaler: Scaler, device: torch.device) -> None:
        super().__init__(patches, scaler, device)
        self._ys, self._xs = _sources(patches.grid.y, device), _sources(patches.grid.x, device)

    def load(self, positions: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Return patches, scaled; see :class:`darts_segmentation.engine.PatchLoader`."""
        shape = (len(positions), *self._patches.shape)
        patches = torch.empty(shape, device=self._device, memory_format=torch.channels_last)
        for (row, column), patch in zip(positions, patches, strict=True):
            for band, values in zip(self._patches.bands, patch, strict=True):
                values.copy_(band[self._ys[row]][:, self._xs[column]])
        self._scaler.scale(patches)
        return patches


def _sources(axis: Axis, device: torch.device) -> list[slice | torch.Tensor]:
    """Return which rows, or columns, each patch along an axis shows."""
    sources = map(axis.source, range(len(axis.starts)))
    return [source if isinstance(source, slice) else upload(source, device) for source in sources]


class CudaLoader(_Loader):
    """Buffers in turn: while the GPU computes on one batch, the next is cut on the host and copied.

    Args:
        patches: What is cut.
        limit: Patches of a full batch.
        scaler: Scales them on the GPU.
        device: The GPU.
        pool: Threads that cut patches.
    """

    def __init__(
        self, patches: TilePatches, limit: int, scaler: Scaler, device: torch.device, pool: ThreadPoolExecutor
    ) -> None:
        super().__init__(patches, scaler, device)
        with torch.cuda.device(device):
            self._buffers = [_Buffer((limit, *patches.shape), device) for _ in range(_BUFFERS)]
            self._copying = torch.cuda.Stream(device)
        self._pool = pool
        self._turn = 0

    def load(self, positions: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Return patches, scaled; see :class:`darts_segmentation.engine.PatchLoader`."""
        buffer = self._buffers[self._turn]
        self._turn = (self._turn + 1) % _BUFFERS
        buffer.copied.synchronize()  # its last copy still reads the host's memory
        host = buffer.host[: len(positions)]
        list(self._pool.map(self._patches.copy, positions, host.numpy()))
        patches = buffer.device[: len(positions)]
        with torch.cuda.device(self._device):
            computing = torch.cuda.current_stream()
            self._copying.wait_event(buffer.used)
            with torch.cuda.stream(self._copying):
                patches.copy_(host, non_blocking=True)
                buffer.copied.record()
            computing.wait_event(buffer.copied)
            self._scaler.scale(patches)
            # A copy in any case: where the memory order fits already, contiguous() would hand out the buffer itself.
            loaded = patches.clone(memory_format=torch.channels_last)
            buffer.used.record()
        return loaded
