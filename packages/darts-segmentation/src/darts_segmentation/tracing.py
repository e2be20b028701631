"""Export networks with torch.export, and compare what an export computes."""

from collections.abc import Callable

import torch
from numpy.typing import NDArray
from torch.export import Dim

from darts_segmentation.card import ModelCard
from darts_segmentation.errors import ConversionError

TOLERANCE = 1e-4
"""Largest difference in probability between a network and its export that still counts as the same."""

_FALLBACK_PATCH = 256
_CHECKED_STRIDES = 8  # edge of the random input that both are compared on: 256 px for most networks


def trace(network: torch.nn.Module, card: ModelCard) -> tuple[torch.export.ExportedProgram, torch.Tensor]:
    """Export a network for any number of patches of any size, or of one size where that fails.

    Returns:
        The program, and random input to try it on, of another shape than it was traced with where it allows that.
    """
    stride = int(getattr(getattr(network, "encoder", None), "output_stride", 1))
    rows, columns = (stride * dim if stride > 1 else dim for dim in (Dim("rows", min=2), Dim("columns", min=2)))
    batch = Dim("batch", min=1)
    fixed = card.patch_size or _FALLBACK_PATCH
    attempts = [
        ((4 * stride, 6 * stride), {0: batch, 2: rows, 3: columns}, (_CHECKED_STRIDES * stride,) * 2),
        ((fixed, fixed), {0: batch}, (fixed, fixed)),
    ]
    reason = ""
    for shape, dynamic, checked in attempts:
        generator = torch.Generator().manual_seed(0)
        example = torch.rand((2, len(card.bands), *shape), generator=generator)
        try:
            with torch.no_grad():
                program = torch.export.export(network, (example,), dynamic_shapes=(dynamic,))
        except Exception as error:  # noqa: BLE001  # tracing a network can fail in any way; the next attempt asks for less
            reason = first_line(error)
        else:
            return program, torch.rand((1, len(card.bands), *checked), generator=generator)
    raise ConversionError(f"The architecture of model {card.name!r} cannot be exported: {reason}")


def check_same(network: torch.nn.Module, sample: torch.Tensor, run: Callable[[], NDArray], what: str) -> None:
    """Raise a ConversionError unless something computes what a network computes.

    Args:
        network: The network.
        sample: What it is tried on.
        run: Returns the logits that the other computes for it.
        what: Names the other, for the message.
    """
    with torch.inference_mode():
        expected = torch.sigmoid(network(sample))
    difference = float((expected - torch.sigmoid(torch.from_numpy(run()))).abs().max())
    if not difference <= TOLERANCE:
        raise ConversionError(
            f"{what} differs from the original by up to {difference:.2g} in probability; expected at most {TOLERANCE}. "
            "It was not written."
        )


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
