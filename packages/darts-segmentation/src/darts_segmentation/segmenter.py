"""Segment tiles with one network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_segmentation.bands import Channel, get_bands
from darts_segmentation.card import ModelCard
from darts_segmentation.engine import Member, Options, predict_tile
from darts_segmentation.executor import Executor, make_executor
from darts_segmentation.forward import Augmentation
from darts_segmentation.modelfile import hash_model, read_model
from darts_segmentation.network import load_network, place_network
from darts_segmentation.precision import Precision
from darts_segmentation.result import with_probabilities
from darts_utils import DeviceLike

if TYPE_CHECKING:
    import torch
    import xarray as xr


class SMPSegmenter:
    """Segments tiles with one network of segmentation_models_pytorch.

    Args:
        model_checkpoint: The model: a folder or a ``.safetensors`` file in our own format, a ``.pt`` file of DARTS v1
            or v2, or a Lightning ``.ckpt`` file. Nothing in it is executed, and nothing is fetched.
        device: "cpu", "cuda", "cuda:1", "auto", a GPU index, a ``torch.device``, or None: the GPU where one works.
        compile: Let ``torch.compile`` compile the network while the first tile is segmented. Takes a minute or more,
            and pays in long runs.

    Raises:
        ModelFileError: If the file is absent, broken, unsafe, or describes a model that cannot be built. The subclass
            and the message say which.
        UnknownBandError: If the model needs a band that the band table does not know.
        ParameterError: If `device` names no device.
        DeviceError: If a GPU was asked for and does not work.

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
    ) -> None:
        model = read_model(model_checkpoint)
        network = load_network(model.card, model.states)
        self._set_up(network, model.card, make_executor(device), compile_it=compile)
        self._model_hash: str | None = hash_model(model_checkpoint)

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
            network: Takes float32 of shape (patches, bands, y, x) and returns logits of shape (patches, 1, y, x). It is
                moved to the device and put into evaluation mode.
            card: Describes it. Of the architecture only the bands are used.
            device: As in the constructor.
            compile: As in the constructor.

        Raises:
            ParameterError: If `device` names no device.
            DeviceError: If a GPU was asked for and does not work.
        """
        segmenter = cls.__new__(cls)
        segmenter._set_up(network, card, make_executor(device), compile_it=compile)
        segmenter._model_hash = None
        return segmenter

    def _set_up(self, network: Any, card: ModelCard, executor: Executor, *, compile_it: bool) -> None:
        self._card = card
        self._executor = executor
        runnable, divisor = place_network(network, executor.device, compile_it=compile_it)
        channels = tuple(Channel(band, *card.normalization[band]) for band in card.bands)
        self._member = Member(runnable, channels, divisor, fixed_batch=compile_it)

    @property
    def card(self) -> ModelCard:
        """The model card; made from ``config`` for models in other formats."""
        return self._card

    @property
    def device(self) -> "torch.device":
        """Where the network runs."""
        return self._executor.device

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
        tile: "xr.Dataset",
        patch_size: int = 1024,
        overlap: int = 256,
        batch_size: int = 8,
        reflection: int = 0,
        *,
        precision: Precision = "fp32",
        tta: Augmentation | None = None,
    ) -> "xr.Dataset":
        """Return the tile with the probability of a thaw slump at every pixel.

        Args:
            tile: The tile with at least :attr:`required_bands`, each on (y, x), in the unit of the band table, NaN
                where missing, of any size from 1 × 1 px. Not changed.
            patch_size: Edge length of the patches that the network sees, in pixels.
            overlap: Pixels that neighbouring patches share and over which they are blended, at most half of
                `patch_size`.
            batch_size: Patches that the device computes at a time, at most. The CPU takes fewer where more would only
                take memory; the GPU goes on with half of it where its memory does not suffice.
            reflection: Pixels of the mirrored border around the tile, more than the one that is always there.
            precision: "fp32" (float32 throughout, the same result each time), "bf16", "fp16", or "auto", the fastest of
                these on the device.
            tta: Test-time augmentation: None, or "d4" for the mean over the eight flips and rotations of each patch.

        Returns:
            A new tile: everything in `tile`, plus ``probabilities``, float32 (y, x), 0…1, NaN exactly where none of the
            model's bands has a valid value.

        Raises:
            MissingBandError: If the tile lacks a band.
            GridError: If a band does not lie on (y, x), or the tile is empty.
            ParameterError: If an option cannot work, or the network cannot take patches of this size.
            OutputError: If the network returns NaN.
            GpuMemoryError: If the memory of the GPU does not hold a single patch.
        """
        options = Options(
            patch_size=patch_size,
            overlap=overlap,
            batch_size=batch_size,
            reflection=reflection,
            precision=precision,
            tta=tta,
        )
        bands = get_bands(tile, self._card.bands)
        prediction = predict_tile(bands, {self._card.name: self._member}, self._executor, options)
        return with_probabilities(tile, prediction)
