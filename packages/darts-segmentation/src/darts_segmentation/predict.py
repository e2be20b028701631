"""Predict a tile patch by patch: cut, send through every member, blend, forget.

Nothing here is as large as the tile except the result and one bit of knowledge per pixel, whether it is valid.
"""

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from darts_segmentation.arrays import Array, duplicate, in_order
from darts_segmentation.bands import Channel, TilePatches, distinct_channels, valid_pixels
from darts_segmentation.blend import Blend, check_whole
from darts_segmentation.calibration import Calibration
from darts_segmentation.classes import Outputs
from darts_segmentation.engine import (
    Engine,
    Network,
    PatchLoader,
    Precision,
    check_precision,
    memory_shortage,
    with_memory,
)
from darts_segmentation.errors import BatchHalvedWarning, GpuMemoryError
from darts_segmentation.forward import Augmentation, check_augmentation, class_probabilities, target_probability
from darts_segmentation.grid import DEFAULT_PATCH_SIZE, PatchGrid, auto_patch_size, positions_of
from darts_segmentation.values import check_values
from darts_utils import ParameterError, range_sample, step

PatchSize = int | Literal["auto"]
"""Edge length of patches in pixels, or "auto"."""

_CONVENIENT_PX = 32
"""Networks halve patches up to five times; sizes that they need not pad are quicker."""


@dataclass(frozen=True)
class Member:
    """A network that is ready to run.

    Attributes:
        network: The network on the engine's device.
        channels: What its input channels show, in its order.
        outputs: What its output channels mean.
        output_stride: Patch sizes have to be a multiple of this.
        fixed_batch: Whether the network wants batches of one size only, because it is compiled for that.
        trained_px: Edge of the patches that it was trained with, None where unknown.
        temperature: What its logits are divided by, None for nothing.
        pixel_size: Edge in metres of the pixels that it was trained with, None where unknown.
    """

    network: Network
    channels: tuple[Channel, ...]
    outputs: Outputs
    output_stride: int = 1
    fixed_batch: bool = False
    trained_px: int | None = None
    temperature: float | None = None
    pixel_size: float | None = None


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run networks over a tile; the constructor checks that the values can work.

    Attributes:
        patch_size: Edge length of patches in pixels, or "auto".
        overlap: Pixels that neighbouring patches share, at most half of `patch_size`; with "auto" of its default.
        batch_size: Patches that the device computes at a time.
        reflection: Pixels by which the mirrored border is wider than 1.
        precision: "fp32", "bf16", "fp16", or "auto".
        tta: Test-time augmentation: None or "d4".
        keep_members: Also return the probabilities of each member.
        keep_classes: Also return the probabilities of the classes that are not the target.
        calibration: What is applied to the mean over the members, None for nothing.

    Raises:
        ParameterError: If a value cannot work.
    """

    patch_size: PatchSize
    overlap: int
    batch_size: int
    reflection: int
    precision: Precision
    tta: Augmentation | None
    keep_members: bool = False
    keep_classes: bool = False
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        for name, least in (("patch_size", 1), ("overlap", 0), ("batch_size", 1), ("reflection", 0)):
            value = getattr(self, name)
            if name == "patch_size" and value == "auto":
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                or_auto = " or 'auto'" if name == "patch_size" else ""
                raise ParameterError(f"{name} is {value!r}; expected an integer of at least {least}{or_auto}.")
            object.__setattr__(self, name, int(value))
        size = DEFAULT_PATCH_SIZE if self.patch_size == "auto" else self.patch_size
        if 2 * self.overlap > size:
            raise ParameterError(
                f"overlap is {self.overlap} px, more than half of patch_size, {size} px; "
                f"choose an overlap of at most {size // 2}."
            )
        check_precision(self.precision)
        check_augmentation(self.tta)


def check_output_stride(patch_size: int, output_stride: int, name: str) -> None:
    """Raise a ParameterError if a network cannot take patches of a size.

    Args:
        patch_size: Edge of a patch in pixels.
        output_stride: Pixels of which the edge has to be a multiple.
        name: Name of the model, for the message.
    """
    if patch_size % output_stride:
        nearest = max(output_stride, round(patch_size / output_stride) * output_stride)
        raise ParameterError(
            f"patch_size is {patch_size} px, but model {name!r} takes multiples of {output_stride} px; "
            f"choose {nearest}, for example."
        )


def predict_tile(
    bands: Mapping[str, Any], members: Mapping[str, Member], engine: Engine, options: Options
) -> dict[str, Any]:
    """Run every member over a tile and average.

    Args:
        bands: Arrays of shape (y, x) by name, as :meth:`Engine.take` returns them, in the unit of the band table, NaN
            where missing. Not changed.
        members: The members by name.
        engine: Runs them.
        options: How.

    Returns:
        Arrays float32 of shape (y, x), 0…1, NaN where a member has no data, by name of the variable:
        ``probabilities``, the mean over the members; those of each member, ``probabilities-{member}``, and of other
        classes, ``probabilities_{class}``, the mean over the members that know the class, where they were asked for.
        They lie on a GPU where the bands do.

    Raises:
        ParameterError: If a member cannot take patches of this size.
        OutputError: If a network returns NaN or an array of another shape.
        ValueRangeError: If a band cannot be in the unit that a member takes.
        GpuMemoryError: If the memory of the device does not hold a single patch, or the result.
    """
    shape = next(iter(bands.values())).shape
    even = options.patch_size == "auto"
    patch_size = _choose_patch_size((shape[0], shape[1]), members, options)
    for name, member in members.items():
        check_output_stride(patch_size, member.output_stride, name)
    grid = PatchGrid.plan((shape[0], shape[1]), patch_size, options.overlap, options.reflection, even=even)
    channels = [member.channels for member in members.values()]
    with step("segment: find valid pixels"):
        valid = valid_pixels(bands, channels)
        samples = {name: range_sample(band) for name, band in bands.items()}
        shown, *sampled = engine.fetch([grid.show_valid(valid), *samples.values()])
    check_values(dict(zip(samples, sampled, strict=True)), channels)
    number_format = engine.fastest_format() if options.precision == "auto" else options.precision
    what = f"the results of a tile of {shape[0]} × {shape[1]} px"
    like = next(iter(bands.values()))
    with engine.computing(number_format):
        blends = with_memory(
            engine, what, lambda: {name: engine.blend(grid) for name in _layer_names(members, options)}
        )
        batches = _Batches(bands, grid, members, engine, options)
        batches.run(positions_of(shown), blends, (patch_size, number_format, options.tta))
        with step("segment: finish"):
            results, broken = {}, []
            for name in list(blends):
                blend = blends.pop(name)
                finished = with_memory(engine, what, partial(blend.finish, valid))
                broken.append(blend.broken)
                del blend
                if name == "probabilities" and options.calibration is not None:
                    finished = with_memory(engine, what, partial(options.calibration.apply, finished))
                results[name] = engine.give(finished, like)
            check_whole(engine.fetch(broken), shape[0])  # The device is waited for here alone.
            return results


def _choose_patch_size(shape: tuple[int, int], members: Mapping[str, Member], options: Options) -> int:
    """Return the patch size for a tile; where it is "auto", see :func:`darts_segmentation.grid.auto_patch_size`."""
    if options.patch_size != "auto":
        return options.patch_size
    multiple = math.lcm(_CONVENIENT_PX, *(member.output_stride for member in members.values()))
    trained = max((member.trained_px or 0 for member in members.values()), default=0)
    return auto_patch_size(shape, options.overlap, options.reflection, trained, multiple)


def _layer_names(members: Mapping[str, Member], options: Options) -> list[str]:
    names = ["probabilities"]
    if options.keep_members:
        names += [f"probabilities-{name}" for name in members]
    if options.keep_classes:
        names += [f"probabilities_{name}" for name in _other_names(members)]
    return list(dict.fromkeys(names))


def _other_names(members: Mapping[str, Member]) -> list[str]:
    """Return the classes that are not the target of each member that knows them."""
    return list(dict.fromkeys(name for member in members.values() for name in member.outputs.others))


class _Batches:
    """Takes the patches of one tile through the networks, in batches that the memory of the device holds."""

    def __init__(
        self,
        bands: Mapping[str, object],
        grid: PatchGrid,
        members: Mapping[str, Member],
        engine: Engine,
        options: Options,
    ) -> None:
        channels = distinct_channels(member.channels for member in members.values())
        self._patches = TilePatches(grid, channels, tuple(bands[channel.band] for channel in channels))
        self._selections = {
            name: [channels.index(channel) for channel in member.channels] for name, member in members.items()
        }
        self._members, self._engine, self._options = members, engine, options
        self._others = _other_names(members)
        self._loader: PatchLoader | None = None

    def run(self, positions: Sequence[tuple[int, int]], blends: Mapping[str, Blend], key: Hashable) -> None:
        """Predict patches and blend them.

        Cutting, copying, selecting and computing a batch are one unit, which is done again with half as many patches
        where memory does not suffice; blending takes none.

        Args:
            positions: Row and column of each patch.
            blends: Where the layers are added, by name.
            key: For what the engine remembers how many patches its memory holds.
        """
        engine, patch_size = self._engine, self._patches.shape[1]
        limit = engine.batch_limit(self._options.batch_size, patch_size)
        limit = min(limit, engine.limits.get(key, limit))
        done, freed = 0, False
        while done < len(positions):
            batch = positions[done : done + limit]
            try:
                layers = self._compute(batch, limit)
            except Exception as error:
                reason = memory_shortage(error)
                if not reason:
                    raise
            else:
                done, freed = done + len(batch), False
                with step("segment: blend"):
                    for name in list(layers):
                        blends[name].add(batch, layers.pop(name))
                continue
            # Outside the handler, for the traceback of the error holds on to what was allocated.
            self._loader = None
            if engine.free_memory() and not freed:
                freed = True
                continue
            limit = engine.limits[key] = _halved(engine, len(batch), patch_size, reason)
        self._loader = None

    def _compute(self, batch: Sequence[tuple[int, int]], limit: int) -> dict[str, Array]:
        """Return the layers of a batch, each (patches, y, x), by name."""
        with step("segment: cut patches"):
            if self._loader is None:
                self._loader = self._engine.loader(self._patches, limit)
            patches = self._loader.load(batch)
        layers: dict[str, Array] = {}
        counts: dict[str, int] = {}

        def add(name: str, layer: Array) -> None:
            if name in layers:
                layers[name] += layer
            else:
                layers[name] = layer
            counts[name] = counts.get(name, 0) + 1

        with step("segment: run network"):
            for name, member in self._members.items():
                fill_to = limit if member.fixed_batch else 0
                selected = _select(patches, self._selections[name])
                classes = class_probabilities(
                    member.network, member.outputs, selected, self._options.tta, fill_to, member.temperature
                )
                target = target_probability(classes, member.outputs)
                if self._options.keep_members:
                    add(f"probabilities-{name}", duplicate(target))
                if self._options.keep_classes:
                    for other in set(self._others) & set(member.outputs.classes):
                        channel = member.outputs.classes.index(other)
                        add(f"probabilities_{other}", duplicate(classes[:, channel]))
                add("probabilities", target)
            for name, count in counts.items():
                layers[name] /= count
            self._loader.keep_pace()
        return layers


def _halved(engine: Engine, count: int, patch_size: int, reason: str) -> int:
    """Return half of a number of patches that the memory of a device did not hold, rounded down, with a warning.

    Raises:
        GpuMemoryError: If it was only one.
    """
    if count == 1:
        raise GpuMemoryError(
            f"The memory of {engine.device} does not hold one patch of {patch_size} px ({reason}). Choose a smaller "
            "patch_size, a precision of 16 bits, or another device."
        )
    half = count // 2
    warnings.warn(
        f"The memory of {engine.device} does not hold {count} patches of {patch_size} px; going on with {half} at a "
        "time, for the tiles to come as well. Choose a smaller batch_size to avoid this.",
        BatchHalvedWarning,
        stacklevel=2,
    )
    return half


def _select(patches: Array, selection: Sequence[int]) -> Array:
    """Return the channels that a member wants, in its order, without a copy where it wants all as they are."""
    if list(selection) == list(range(patches.shape[1])):
        return patches
    return in_order(patches[:, list(selection)])
