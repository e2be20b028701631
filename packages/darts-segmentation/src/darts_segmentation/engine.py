"""Predict a tile patch by patch: cut, send through every member, blend, forget.

Nothing here is as large as the tile except the result and one bit of knowledge per pixel, whether it is valid.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darts_segmentation.bands import Channel, copy_patch, distinct_channels, valid_pixels
from darts_segmentation.blend import Blend
from darts_segmentation.executor import Executor, Stage
from darts_segmentation.forward import Augmentation, Forward, Network, check_augmentation, halve_batch
from darts_segmentation.grid import PatchGrid
from darts_segmentation.precision import Precision, check_precision, computing
from darts_utils import ParameterError, step

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Member:
    """A network that is ready to run.

    Attributes:
        network: The network on the executor's device.
        channels: What its input channels show, in its order.
        divisor: Patch sizes have to be a multiple of this.
        fixed_batch: Whether the network wants batches of one size only, because it is compiled for that.
    """

    network: Network
    channels: tuple[Channel, ...]
    divisor: int = 1
    fixed_batch: bool = False


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run networks over a tile; the constructor checks that the values can work.

    Attributes:
        patch_size: Edge length of patches in pixels.
        overlap: Pixels that neighbouring patches share, at most half of `patch_size`.
        batch_size: Patches that the device computes at a time.
        reflection: Pixels by which the mirrored border is wider than 1.
        precision: "fp32", "bf16", "fp16", or "auto".
        tta: Test-time augmentation: None or "d4".

    Raises:
        ParameterError: If a value cannot work.
    """

    patch_size: int
    overlap: int
    batch_size: int
    reflection: int
    precision: Precision
    tta: Augmentation | None

    def __post_init__(self) -> None:
        for name, least in (("patch_size", 1), ("overlap", 0), ("batch_size", 1), ("reflection", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ParameterError(f"{name} is {value!r}; expected an integer of at least {least}.")
            object.__setattr__(self, name, int(value))
        if 2 * self.overlap > self.patch_size:
            raise ParameterError(
                f"overlap is {self.overlap} px, more than half of patch_size, {self.patch_size} px; "
                f"choose an overlap of at most {self.patch_size // 2}."
            )
        check_precision(self.precision)
        check_augmentation(self.tta)


def check_divisor(patch_size: int, divisor: int, name: str) -> None:
    """Raise a ParameterError if a network cannot take patches of a size.

    Args:
        patch_size: Edge of a patch in pixels.
        divisor: Pixels of which the edge has to be a multiple.
        name: Name of the model, for the message.
    """
    if patch_size % divisor:
        nearest = max(divisor, round(patch_size / divisor) * divisor)
        raise ParameterError(
            f"patch_size is {patch_size} px, but model {name!r} takes multiples of {divisor} px; "
            f"choose {nearest}, for example."
        )


@dataclass(frozen=True)
class Prediction:
    """Probabilities of a tile, each array float32 of shape (y, x), 0…1, NaN where no data.

    Attributes:
        mean: Mean over the members.
        members: Those of each member by name; empty where they were not asked for.
    """

    mean: NDArray[np.float32]
    members: Mapping[str, NDArray[np.float32]]


def predict_tile(
    bands: Mapping[str, NDArray[Any]],
    members: Mapping[str, Member],
    executor: Executor,
    options: Options,
    *,
    keep_members: bool = False,
) -> Prediction:
    """Run every member over a tile and average.

    Args:
        bands: Arrays of shape (y, x) by name, in the unit of the band table, NaN where missing. Not changed.
        members: The members by name.
        executor: Runs them.
        options: How.
        keep_members: Also return the probabilities of each member.

    Returns:
        The probabilities.

    Raises:
        ParameterError: If a member cannot take patches of this size.
        OutputError: If a network returns NaN or an array of another shape.
        GpuMemoryError: If the memory of the GPU does not hold a single patch.
    """
    for name, member in members.items():
        check_divisor(options.patch_size, member.divisor, name)
    with step("segment: find valid pixels"):
        valid = valid_pixels(bands, [member.channels for member in members.values()])
    grid = PatchGrid.plan((valid.shape[0], valid.shape[1]), options.patch_size, options.overlap, options.reflection)
    number_format = executor.fastest_format() if options.precision == "auto" else options.precision
    with computing(executor.device.type, number_format):
        mean = Blend(grid, executor.device)
        kept = {name: Blend(grid, executor.device) for name in members} if keep_members else {}
        for places, probabilities in _predict_batches(bands, valid, grid, members, executor, options):
            total: Any = None
            for name, part in probabilities:
                with step("segment: blend"):
                    if name in kept:
                        kept[name].add(places, part)
                    total = part if total is None else total.add_(part)
            with step("segment: blend"):
                mean.add(places, total.div_(len(members)))
        with step("segment: finish"):
            return Prediction(mean.finish(valid), {name: blend.finish(valid) for name, blend in kept.items()})


_Places = list[tuple[int, int]]


def _predict_batches(
    bands: Mapping[str, NDArray[Any]],
    valid: NDArray[np.bool_],
    grid: PatchGrid,
    members: Mapping[str, Member],
    executor: Executor,
    options: Options,
) -> "Iterator[tuple[_Places, Iterator[tuple[str, torch.Tensor]]]]":
    """Yield the places of a batch of patches and an iterator over each member's probabilities for it."""
    channels = distinct_channels(member.channels for member in members.values())
    sources = [bands[channel.band] for channel in channels]
    selections = {name: [channels.index(channel) for channel in member.channels] for name, member in members.items()}
    stage, limit = _make_stage(executor, options, channels)
    forward = Forward(executor, limit, options.tta)
    places_left = grid.with_valid_pixels(valid)
    while places := list(islice(places_left, limit)):

        def fill(number: int, patch: NDArray[np.float32], places: _Places = places) -> None:
            copy_patch(sources, grid, *places[number], patch)

        with step("segment: cut patches"):
            patches = stage.load(len(places), fill)
        yield places, _predict_members(members, selections, patches, forward)


def _make_stage(executor: Executor, options: Options, channels: Sequence[Channel]) -> tuple[Stage, int]:
    """Return buffers for as many patches as the caller allows and the device holds, and that number."""
    import torch

    limit = executor.batch_limit(options.batch_size, options.patch_size)
    while True:
        try:
            return executor.stage(limit, options.patch_size, channels), limit
        except torch.OutOfMemoryError as error:
            reason = str(error)
        limit = halve_batch(executor, limit, options.patch_size, reason)


def _predict_members(
    members: Mapping[str, Member], selections: Mapping[str, list[int]], patches: "torch.Tensor", forward: Forward
) -> "Iterator[tuple[str, torch.Tensor]]":
    for name, member in members.items():
        with step("segment: run network"):
            part = _select(patches, selections[name])
            probabilities = forward(member.network, part, fill_up=member.fixed_batch)
        yield name, probabilities


def _select(patches: "torch.Tensor", selection: Sequence[int]) -> "torch.Tensor":
    """Return the channels that a member wants, in its order, without a copy where it wants all as they are."""
    import torch

    if list(selection) == list(range(patches.shape[1])):
        return patches
    return patches[:, list(selection)].contiguous(memory_format=torch.channels_last)
