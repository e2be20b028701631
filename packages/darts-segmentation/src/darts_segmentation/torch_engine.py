"""What running networks with torch has in common on all devices."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from darts_segmentation.blend import Blend
from darts_segmentation.engine import LoadedModel, Network
from darts_segmentation.grid import PatchGrid
from darts_segmentation.modelfile import read_model
from darts_segmentation.network import load_network, output_stride_of, place_network


class TorchEngine:
    """torch on one device; see :class:`darts_segmentation.engine.Engine`.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.limits: dict[Hashable, int] = {}

    def load(self, path: Path, *, compile_it: bool) -> LoadedModel:
        """Read a model file and build its network."""
        model = read_model(path)
        network = load_network(model.card, model.state_dict)
        return LoadedModel(model.card, self.prepare(network, compile_it=compile_it), output_stride_of(network))

    def prepare(self, network: torch.nn.Module, *, compile_it: bool) -> Network:
        """Return the network on the device, in the memory order that is fastest there; it is moved and changed."""
        return place_network(network, self.device, compile_it=compile_it)

    @contextmanager
    def threads(self, number: int) -> Iterator[None]:
        """Let torch use so many threads until the block ends: its sums depend on their number, in the fifth digit."""
        before = torch.get_num_threads()
        torch.set_num_threads(number)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def blend(self, grid: PatchGrid) -> Blend:
        """Return what adds up the patches of a tile on the device."""
        return Blend(grid, self.device)
