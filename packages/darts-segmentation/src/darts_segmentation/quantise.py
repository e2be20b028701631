"""Turn a network into one of eight-bit integers, and refuse it where the map is no longer the same."""

import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from darts_segmentation.bands import Channel, TilePatches, get_bands, valid_pixels
from darts_segmentation.card import ModelCard
from darts_segmentation.errors import MissingLibraryError, QuantisationError
from darts_segmentation.forward import class_probabilities, target_probability
from darts_segmentation.grid import PatchGrid
from darts_segmentation.program import openvino_program, program_card
from darts_segmentation.programfile import (
    check_program_folder,
    import_openvino,
    read_program,
    without_telemetry,
    write_program,
)
from darts_segmentation.values import check_values
from darts_segmentation.vino import NumpyLoader, OpenVinoEngine, OpenVinoNetwork
from darts_utils import ParameterError
from darts_utils.staging import replaced_folder

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger(__name__)

LEAST_IOU = 0.97
"""Least intersection over union of the maps of the network and of its quantised form."""

_PATCH_PX = 256
_MOST_PATCHES = 128
_Patch = tuple[NDArray[np.float32], NDArray[np.bool_]]

ReadPatch = Callable[[], _Patch]
"""Returns a patch as the network gets it, float32 (bands, y, x) of 0…1, and bool (y, x), where maps are compared."""


@dataclass(frozen=True)
class QuantisationCost:
    """What quantising a network changed, on patches that were not used for it.

    Attributes:
        iou: Intersection over union of the two maps at a probability of 0.5.
        mean_difference: Mean absolute difference of the probabilities.
        patches: Number of patches that were compared.
        pixels: Pixels that either map calls a thaw slump.
    """

    iou: float
    mean_difference: float
    patches: int
    pixels: int


def quantise_model(
    path: Path | str, tiles: Iterable[xr.Dataset | ReadPatch], out: Path | str, *, least_iou: float = LEAST_IOU
) -> QuantisationCost:
    """Write a model as a program of OpenVINO that computes with eight-bit integers where that keeps the map.

    The ranges of its numbers are learnt from patches of the tiles; on other patches its map is compared with that of
    the network in float32. Whether a network bears it depends on the network: some lose their map. Needs
    ``pip install "darts-segmentation[quantise]"``, which whoever runs the result does not.

    Args:
        path: The model, in any format that :class:`SMPSegmenter` reads.
        tiles: Tiles like those that it will see, as for :meth:`SMPSegmenter.segment_tile`, with thaw slumps on them.
            At most 128 patches are used, of the size that the network was trained with, or 256 px; half of them to
            learn from, every second one to compare. In place of a tile may stand a function that reads a patch of
            training data, see :data:`ReadPatch`.
        out: Folder to write, see :func:`openvino_program`. Its card holds the cost as metrics ``int8_iou``,
            ``int8_mean_difference`` and ``int8_patches``. A program that is there is replaced.
        least_iou: Least intersection over union of the maps, 0…1.

    Returns:
        The cost.

    Raises:
        ModelFileError: If the model cannot be read.
        MissingLibraryError: If OpenVINO or nncf is not installed.
        ParameterError: If `out` cannot be written to, or `least_iou` is no share.
        MissingBandError: If a tile lacks a band.
        QuantisationError: If the map changes too much, the tiles do not suffice to tell, or a patch of training data is
            none that the network could get. Nothing is written.
    """
    if not 0 <= least_iou <= 1:
        raise ParameterError(f"least_iou is {least_iou!r}; expected a number from 0 to 1.")
    out = Path(out)
    check_program_folder(out)
    nncf = _import_nncf()
    folder = openvino_program(path)
    card = program_card(path, folder)
    engine = OpenVinoEngine("cpu")
    program = read_program(folder, engine.core)
    patches = _draw_patches(tiles, card)
    learnt, compared = patches[::2], patches[1::2]
    if not compared:
        raise QuantisationError(f"The tiles have {len(patches)} patches with data; expected at least 2, better 128.")
    logger.info("The ranges of %s are learnt from %d patches.", card.name, len(learnt))
    quantised = _quantise(nncf, program, [patch for patch, _ in learnt])
    exact, rough = (_mapper(OpenVinoNetwork(each, engine, card.name), card, engine) for each in (program, quantised))
    cost = _compare(exact, rough, compared)
    if not cost.pixels:
        raise QuantisationError(
            f"Neither map shows a thaw slump on the {cost.patches} patches that are compared; give tiles with slumps."
        )
    if cost.iou < least_iou:
        raise QuantisationError(
            f"Quantised, {card.name!r} draws another map: the intersection over union with the map of the network in "
            f"float32 is {cost.iou:.3f} on {cost.patches} patches; expected at least {least_iou}. It was not written."
        )
    figures = {
        "int8_iou": round(cost.iou, 5),
        "int8_mean_difference": round(cost.mean_difference, 6),
        "int8_patches": float(cost.patches),
    }
    with replaced_folder(out) as new:
        write_program(quantised, new, replace(card, metrics={**card.metrics, **figures}).to_json())
    return cost


def _import_nncf() -> ModuleType:
    if importlib.util.find_spec("nncf") is None:
        raise MissingLibraryError(
            'Quantising needs nncf, which is not installed; `pip install "darts-segmentation[quantise]"` brings it.'
        )
    import_openvino()
    with without_telemetry():
        return importlib.import_module("nncf")


def _quantise(nncf: ModuleType, program: "openvino.Model", patches: Sequence[NDArray[np.float32]]) -> Any:
    """Return a program of eight-bit integers, but for its first and its last convolution, which bear it least."""
    names = [node.get_friendly_name() for node in program.get_ordered_ops() if "Convolution" in node.get_type_name()]
    ends = nncf.IgnoredScope(names=list(dict.fromkeys((names[0], names[-1]))))
    log = logging.getLogger("nncf")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return nncf.quantize(
            program,
            nncf.Dataset(patches),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(patches),
            fast_bias_correction=False,
            ignored_scope=ends,
        )
    finally:
        log.setLevel(level)


def _draw_patches(tiles: Iterable[xr.Dataset | ReadPatch], card: ModelCard) -> list[_Patch]:
    """Return patches that show something, as the network gets them, and where they are valid.

    Each patch draws a lot, and those with the lowest stay, in the order of their lots.
    """
    rng = np.random.default_rng(0)
    drawn: dict[float, _Patch] = {}
    for tile in tiles:
        for read in _patches_of(tile, card):
            lot = rng.random()
            if len(drawn) == _MOST_PATCHES:
                highest = max(drawn)
                if lot > highest:
                    continue
                del drawn[highest]
            values, counted = read()
            _check_patch(values, counted, len(card.bands))
            drawn[lot] = values[None], counted
    return [drawn[lot] for lot in sorted(drawn)]


def _check_patch(values: NDArray[np.float32], counted: NDArray[np.bool_], bands: int) -> None:
    """Refuse what a network never gets: ranges learnt from it would be wrong, and both maps wrong alike."""
    if values.shape[:-2] != (bands,) or values.shape[-2:] != counted.shape:
        raise QuantisationError(
            f"A patch has the shape {values.shape}, and where it is compared {counted.shape}; expected {bands} bands "
            "(bands, y, x), and (y, x)."
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise QuantisationError(f"A patch has values from {low:g} to {high:g}; expected bands scaled to 0…1.")


def _patches_of(tile: xr.Dataset | ReadPatch, card: ModelCard) -> Iterator[ReadPatch]:
    """Yield what reads each patch of a tile."""
    if callable(tile):
        yield tile
        return
    channels = tuple(Channel(band, *card.normalization[band]) for band in card.bands)
    bands = get_bands(tile, card.bands)
    check_values(bands, [channels])
    valid = valid_pixels(bands, [channels])
    grid = PatchGrid.plan((valid.shape[0], valid.shape[1]), card.patch_size or _PATCH_PX, 0, 0)
    loader = NumpyLoader(TilePatches(grid, channels, tuple(bands[band] for band in card.bands)), 1)

    def read(row: int, column: int) -> _Patch:
        shown = np.ix_(_indices(grid.y.source(row)), _indices(grid.x.source(column)))
        return loader.load([(row, column)])[0].copy(), valid[shown]

    for position in grid.with_valid_pixels(valid):
        yield partial(read, *position)


def _indices(source: slice | NDArray[np.intp]) -> NDArray[np.intp]:
    return np.arange(source.start, source.stop) if isinstance(source, slice) else source


def _mapper(
    network: OpenVinoNetwork, card: ModelCard, engine: OpenVinoEngine
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    def probability(patch: NDArray[np.float32]) -> NDArray[np.float32]:
        with engine.computing("fp32"):
            return target_probability(class_probabilities(network, card.outputs, patch), card.outputs)[0]

    return probability


def _compare(
    exact: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    rough: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    patches: Sequence[_Patch],
) -> QuantisationCost:
    both = either = pixels = 0
    difference = 0.0
    for patch, valid in patches:
        first, second = exact(patch)[valid], rough(patch)[valid]
        in_first, in_second = first >= 0.5, second >= 0.5
        both += int((in_first & in_second).sum())
        either += int((in_first | in_second).sum())
        difference += float(np.abs(first - second, dtype=np.float64).sum())
        pixels += first.size
    return QuantisationCost(both / max(either, 1), difference / max(pixels, 1), len(patches), either)
