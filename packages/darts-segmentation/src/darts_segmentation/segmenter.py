"""Segment tiles with one network."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from darts_segmentation.bands import Channel
from darts_segmentation.card import ModelCard
from darts_segmentation.engine import Engine, EngineName, LoadedModel, Precision, with_memory
from darts_segmentation.engines import make_engine
from darts_segmentation.forward import Augmentation
from darts_segmentation.grid import DEFAULT_PATCH_SIZE
from darts_segmentation.predict import Member, Options, PatchSize
from darts_segmentation.result import segment
from darts_segmentation.store import hash_model
from darts_utils import Device, DeviceLike, InputTypeError

if TYPE_CHECKING:
    import torch


class SMPSegmenter:
    """Segments tiles with one network of segmentation_models_pytorch.

    Args:
        model_checkpoint: The model: a folder or a ``.safetensors`` file in our own format, a ``.pt`` file of DARTS v1
            or v2, or a Lightning ``.ckpt`` file. Nothing in it is executed, and nothing is fetched.
        device: "cpu", "cuda", "cuda:1", "auto", a GPU index, a ``torch.device``, or None: the GPU where one works.
        compile: Let ``torch.compile`` compile the network while the first tile is segmented. Takes a minute or more,
            and pays in long runs. Only for torch: OpenVINO compiles every network.
        engine: What runs the network: "torch", or "openvino", which is faster on a CPU and needs no torch where the
            model is in our own format; ``pip install "darts-segmentation[openvino]"`` brings it. The first time that it
            meets a model, it translates it, which takes some seconds and torch; see
            :func:`darts_segmentation.openvino_program`.

    Raises:
        InputTypeError: If `model_checkpoint` is no path.
        ModelFileError: If the file is absent, broken, unsafe, or describes a model that cannot be built. The subclass
            and the message say which.
        UnknownBandError: If the model needs a band that the band table does not know.
        ParameterError: If `device` names no device.
        DeviceError: If a GPU was asked for and does not work, or does not fit the engine.
        MissingLibraryError: If the library of the engine is not installed.
        ConversionError: If OpenVINO cannot run the network.

    Examples:
        >>> segmenter = SMPSegmenter("models/slumps.safetensors", device="cpu")  # doctest: +SKIP
        >>> tile = segmenter.segment_tile(tile)  # doctest: +SKIP
    """

    def __init__(
        self,
        model_checkpoint: Path | str,
        device: "DeviceLike | torch.device" = None,
        *,
        compile: bool = False,  # noqa: A002  # public name
        engine: EngineName = "torch",
    ) -> None:
        self._open(model_checkpoint, make_engine(device, engine), compile_it=compile)

    def _open(self, path: Path | str, engine: Engine, *, compile_it: bool) -> None:
        if not isinstance(path, str | os.PathLike):
            raise InputTypeError(
                f"Expected the path of a model, but got the {type(path).__name__} {path!r:.80}; `EnsembleV1` takes "
                "several, and `SMPSegmenter.from_network` a network."
            )
        what = f"the network {Path(path).stem!r}"
        loaded = with_memory(engine, what, lambda: engine.load(Path(path), compile_it=compile_it))
        self._set_up(loaded, engine, fixed_batch=compile_it)
        self._model_hash: str | None = hash_model(path)

    @classmethod
    def from_network(
        cls,
        network: "torch.nn.Module",
        card: ModelCard,
        device: "DeviceLike | torch.device" = None,
        *,
        compile: bool = False,  # noqa: A002  # public name
    ) -> "SMPSegmenter":
        """Make a segmenter from a network in memory, one that is being trained for example.

        Args:
            network: Takes float32 of shape (patches, bands, y, x) and returns logits of shape (patches, classes, y, x).
                It is moved to the device and put into evaluation mode.
            card: Describes it. Of the architecture only bands and classes are used.
            device: As in the constructor.
            compile: As in the constructor.

        Raises:
            ParameterError: If `device` names no device, or the network ends in a sigmoid or softmax.
            DeviceError: If a GPU was asked for and does not work.
        """
        segmenter = cls.__new__(cls)
        segmenter._take_network(network, card, make_engine(device), compile_it=compile)
        return segmenter

    def _take_network(self, network: "torch.nn.Module", card: ModelCard, engine: Any, *, compile_it: bool) -> None:
        """Set up a network of torch that lies in memory."""
        from darts_segmentation.network import check_logits, output_stride_of

        check_logits(network, card.name)
        what = f"the network {card.name!r}"
        runnable = with_memory(engine, what, lambda: engine.prepare(network, compile_it=compile_it))
        self._set_up(LoadedModel(card, runnable, output_stride_of(network)), engine, fixed_batch=compile_it)
        self._model_hash = None

    def _set_up(self, model: LoadedModel, engine: Engine, *, fixed_batch: bool) -> None:
        self._card = card = model.card
        self._engine = engine
        channels = tuple(Channel(band, *card.normalization[band]) for band in card.bands)
        self._member = Member(
            model.network,
            channels,
            card.outputs,
            model.output_stride,
            fixed_batch=fixed_batch,
            trained_px=card.patch_size,
            temperature=None if card.calibration is None else card.calibration.parameter,
            pixel_size=card.pixel_size,
        )

    @property
    def card(self) -> ModelCard:
        """The model card; made from ``config`` for models in other formats."""
        return self._card

    @property
    def device(self) -> "torch.device | Device":
        """Where the network runs; a ``torch.device`` where torch runs it."""
        return self._engine.device

    @property
    def model_hash(self) -> str | None:
        """SHA-256 of the model, see :func:`hash_model`; None for a network that comes from memory."""
        return self._model_hash

    @property
    def required_bands(self) -> list[str]:
        """Bands that a tile must have, in the order of the network's input channels."""
        return list(self._card.bands)

    def segment_tile(
        self,
        tile: xr.Dataset,
        patch_size: PatchSize = DEFAULT_PATCH_SIZE,
        overlap: int = 256,
        batch_size: int = 8,
        reflection: int = 0,
        *,
        precision: Precision = "fp32",
        tta: Augmentation | None = None,
        keep_classes: bool = False,
    ) -> xr.Dataset:
        """Return the tile with the probability of a thaw slump at every pixel.

        Args:
            tile: The tile with at least :attr:`required_bands`, each on (y, x), in the unit of the band table, NaN
                where missing or equal to its attribute ``_FillValue`` or ``nodata``, of any size from 1 × 1 px; in the
                memory of the host or, as cupy arrays, of a GPU. Not changed.
            patch_size: Edge length of the patches that the network sees, in pixels; "auto" for the one near the size
                that the network was trained with, or near 1024 where that is smaller, with which it computes fewest
                pixels of this tile.
            overlap: Pixels that neighbouring patches share and over which they are blended, at most half of
                `patch_size`; with "auto" they share so many at least, and at most 512.
            batch_size: Patches that the device computes at a time, at most. The CPU takes fewer where more would only
                take memory; the GPU goes on with half of it where its memory does not suffice.
            reflection: Pixels of the mirrored border around the tile, more than the one that is always there.
            precision: "fp32" (float32 throughout, the same result each time), "bf16", "fp16", or "auto", the fastest of
                these on the device.
            tta: Test-time augmentation: None, or "d4" for the mean over the eight flips and rotations of each patch.
            keep_classes: Also return the probabilities of the classes that are not thaw slumps, where there are some.

        Returns:
            A new tile: everything in `tile`, plus ``probabilities``, float32 (y, x), 0…1, NaN exactly where none of the
            model's bands has a valid value; with `keep_classes` also ``probabilities_{class}``. They lie on the GPU
            where bands of the tile do.

        Raises:
            InputTypeError: If `tile` is no Dataset.
            MissingBandError: If the tile lacks a band.
            GridError: If a band does not lie on (y, x), or the tile is empty or not north-up.
            ValueRangeError: If a band cannot be in the unit that the model takes.
            ParameterError: If an option cannot work, or the network cannot take patches of this size.
            OutputError: If the network returns NaN.
            GpuMemoryError: If the memory of the device does not hold a single patch, or the result.
        """
        options = Options(
            patch_size=patch_size,
            overlap=overlap,
            batch_size=batch_size,
            reflection=reflection,
            precision=precision,
            tta=tta,
            keep_classes=keep_classes,
        )
        return segment(tile, {self._card.name: self._member}, self._engine, options)
