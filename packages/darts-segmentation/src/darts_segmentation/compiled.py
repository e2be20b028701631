"""Networks that torch.compile turns into one piece of machine code."""

import warnings

import torch

from darts_segmentation.errors import CompileError


class CompiledNetwork:
    """A network that is compiled when it sees its first batch, for batches of that shape.

    Args:
        network: The network on its device.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = torch.compile(network, dynamic=False)
        self._warm_shapes: set[tuple[int, ...]] = set()

    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the logits of patches, see :func:`darts_segmentation.network.load_network`.

        Raises:
            CompileError: If the network cannot be compiled here.
        """
        shape = tuple(patches.shape)
        if shape in self._warm_shapes:
            return self._network(patches)
        logits = self._compile(patches)
        self._warm_shapes.add(shape)
        return logits

    def _compile(self, patches: torch.Tensor) -> torch.Tensor:
        from torch._dynamo.exc import TorchDynamoException

        with warnings.catch_warnings():
            # It recommends TF32, which full float32 is there to avoid, and libraries it calls deplore one another.
            warnings.simplefilter("ignore")
            try:
                return self._network(patches)
            except TorchDynamoException as error:
                reason = str(error).strip().splitlines()[0]
                raise CompileError(
                    f"torch.compile cannot compile the network here ({reason}). It needs a C++ compiler on the CPU and "
                    "Triton on the GPU; install it, or go without compile=True."
                ) from error
