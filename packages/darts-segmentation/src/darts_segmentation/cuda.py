"""Run networks on an NVIDIA GPU: pinned buffers, and copies that overlap with computing."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from darts_segmentation.bands import Channel
from darts_segmentation.executor import Fill, Scaler
from darts_segmentation.precision import NumberFormat
from darts_utils import usable_cpus

_BUFFERS = 2
_THREADS = 8


class CudaExecutor:
    """One NVIDIA GPU.

    Args:
        index: Number of the GPU.
    """

    def __init__(self, index: int) -> None:
        self.device = torch.device("cuda", index)
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

    def stage(self, batch_size: int, patch_size: int, channels: Sequence[Channel]) -> "CudaStage":
        """Make two pairs of buffers, one in pinned memory of the host and one on the GPU each."""
        shape = (batch_size, len(channels), patch_size, patch_size)
        return CudaStage(shape, Scaler(channels, self.device), self.device, self._pool)

    def free_memory(self) -> None:
        """Give cached memory back to the driver."""
        with torch.cuda.device(self.device):
            torch.cuda.empty_cache()


class _Buffer:
    def __init__(self, shape: tuple[int, int, int, int], device: torch.device) -> None:
        self.host = torch.empty(shape, dtype=torch.float32, pin_memory=True)
        self.device = torch.empty(shape, dtype=torch.float32, device=device)
        self.copied = torch.cuda.Event()
        self.used = torch.cuda.Event()


class CudaStage:
    """Buffers in turn: while the GPU computes on one batch, the next is cut and copied.

    Args:
        shape: (patches, channels, y, x) of a full batch.
        scaler: Scales them on the GPU.
        device: The GPU.
        pool: Threads that cut patches.
    """

    def __init__(
        self, shape: tuple[int, int, int, int], scaler: Scaler, device: torch.device, pool: ThreadPoolExecutor
    ) -> None:
        with torch.cuda.device(device):
            self._buffers = [_Buffer(shape, device) for _ in range(_BUFFERS)]
            self._copying = torch.cuda.Stream(device)
        self._device = device
        self._scaler = scaler
        self._pool = pool
        self._turn = 0

    def load(self, count: int, fill: Fill) -> torch.Tensor:
        """Return `count` patches, scaled; see :class:`darts_segmentation.executor.Stage`."""
        buffer = self._buffers[self._turn]
        self._turn = (self._turn + 1) % _BUFFERS
        buffer.copied.synchronize()  # its last copy still reads the host's memory
        host = buffer.host[:count]
        list(self._pool.map(fill, range(count), host.numpy()))
        patches = buffer.device[:count]
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
