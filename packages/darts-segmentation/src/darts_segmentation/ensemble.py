"""Segment tiles with several networks and average them."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from darts_segmentation.calibration import Calibration
from darts_segmentation.engine import Engine, EngineName, NumberFormat, Precision
from darts_segmentation.engines import make_engine
from darts_segmentation.ensemblefile import read_ensemble
from darts_segmentation.errors import RepeatedModelWarning
from darts_segmentation.forward import Augmentation
from darts_segmentation.grid import DEFAULT_PATCH_SIZE
from darts_segmentation.predict import Options, PatchSize, check_output_stride
from darts_segmentation.repeats import group_repeats
from darts_segmentation.result import SPREAD_NAME, segment
from darts_segmentation.segmenter import SMPSegmenter
from darts_utils import Device, DeviceLike, InputTypeError, ParameterError

if TYPE_CHECKING:
    import torch
    import xarray as xr

    from darts_segmentation.card import ModelCard


class EnsembleV1:
    """Segments tiles with several networks, and averages their probabilities.

    Each patch is cut and scaled once for all members.

    Args:
        model_dict: Model files by name of the member, in any of the formats of :class:`SMPSegmenter`. The names stand
            in the variables ``probabilities-{name}``.
        device: As in :class:`SMPSegmenter`, the same for all members.
        compile: As in :class:`SMPSegmenter`.
        engine: As in :class:`SMPSegmenter`.

    Raises:
        InputTypeError: If `model_dict` is no mapping, or a value in it no path.
        ParameterError: If there is no model, a name is blank, or a name is "std"; if `device` names no device.
        ModelFileError: If a model file cannot be used, see :class:`SMPSegmenter`.
        UnknownBandError: If a model needs a band that the band table does not know.
        DeviceError: If a GPU was asked for and does not work, or does not fit the engine.
        MissingLibraryError: If the library of the engine is not installed.
        ConversionError: If OpenVINO cannot run a network.

    Warns:
        RepeatedModelWarning: If two members are the same model, or one is what the other was converted into.

    Examples:
        >>> ensemble = EnsembleV1({"v1": "RTS_v1.pt", "v2": "RTS_v2.pt"}, device="cuda")  # doctest: +SKIP
        >>> ensemble.required_bands  # doctest: +SKIP
        ['red', 'green', 'blue', 'nir', 'ndvi', 'slope']
        >>> tile = ensemble.segment_tile(tile, keep_inputs=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        model_dict: Mapping[str, Path | str],
        device: "DeviceLike | torch.device" = None,
        *,
        compile: bool = False,  # noqa: A002  # public name
        engine: EngineName = "torch",
    ) -> None:
        _check_names(model_dict)
        self._calibration: Calibration | None = None
        # Once: "auto" might choose another GPU after the first network is there.
        shared = make_engine(device, engine)
        self._segmenters = {name: SMPSegmenter.__new__(SMPSegmenter) for name in model_dict}
        for name, path in model_dict.items():
            self._segmenters[name]._open(path, shared, compile_it=compile)
        paths = {name: Path(path) for name, path in model_dict.items()}
        hashes = {name: str(sha256) for name, sha256 in self.model_hashes.items()}
        _warn_of_repeats(group_repeats(paths, hashes, self.cards.__getitem__))

    @classmethod
    def from_segmenters(cls, segmenters: Mapping[str, SMPSegmenter]) -> "EnsembleV1":
        """Make an ensemble of segmenters that share a device.

        Args:
            segmenters: Segmenters by name of the member.

        Raises:
            InputTypeError: If `segmenters` is no mapping.
            ParameterError: If there is none, a name is blank or "std", or they do not share a device.
        """
        _check_names(segmenters)
        devices = sorted({str(segmenter.device) for segmenter in segmenters.values()})
        if len(devices) > 1:
            raise ParameterError(f"The members of the ensemble are on {' and '.join(devices)}; expected one device.")
        ensemble = cls.__new__(cls)
        ensemble._segmenters = dict(segmenters)
        ensemble._calibration = None
        return ensemble

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        device: "DeviceLike | torch.device" = None,
        *,
        compile: bool = False,  # noqa: A002  # public name
        engine: EngineName = "torch",
    ) -> "EnsembleV1":
        """Open an ensemble that :func:`write_ensemble` wrote: its calibration is applied to the mean of the members.

        A member's own calibration is not applied, neither inside nor to ``probabilities-{name}``.

        Args:
            path: The ``ensemble.json``.
            device: As in :class:`SMPSegmenter`.
            compile: As in :class:`SMPSegmenter`.
            engine: As in :class:`SMPSegmenter`.

        Raises:
            ModelFileError: If the file or a member cannot be used, or a member is another one now.
            ParameterError: If `device` names no device.
            DeviceError: If a GPU was asked for and does not work.
        """
        file = read_ensemble(path)
        ensemble = cls(file.members, device, compile=compile, engine=engine)
        ensemble._calibration = file.calibration
        if file.calibration is not None:
            for segmenter in ensemble._segmenters.values():
                segmenter._member = replace(segmenter._member, temperature=None)
        return ensemble

    @property
    def cards(self) -> "dict[str, ModelCard]":
        """Model cards of the members, by name."""
        return {name: segmenter.card for name, segmenter in self._segmenters.items()}

    @property
    def model_names(self) -> list[str]:
        """Names of the members, in the order given."""
        return list(self._segmenters)

    @property
    def model_hashes(self) -> dict[str, str | None]:
        """SHA-256 of each model by name, see :func:`hash_model`."""
        return {name: segmenter.model_hash for name, segmenter in self._segmenters.items()}

    @property
    def device(self) -> "torch.device | Device":
        """Where the networks run; a ``torch.device`` where torch runs them."""
        return self._engine.device

    @property
    def _engine(self) -> Engine:
        return next(iter(self._segmenters.values()))._engine

    def threads(self, number: int) -> AbstractContextManager[None]:
        """Return a context in which the networks use so many threads of the CPU; their sums depend on it."""
        return self._engine.threads(number)

    @property
    def required_bands(self) -> list[str]:
        """Bands that a tile must have: those of the first member in its order, then what others need beyond them."""
        bands = (band for segmenter in self._segmenters.values() for band in segmenter.required_bands)
        return list(dict.fromkeys(bands))

    def number_format(self, precision: Precision) -> NumberFormat:
        """Return the number format that a precision means on this device: "auto" the fastest, any other itself.

        Raises:
            ParameterError: If the device cannot compute in it.
        """
        number_format = self._engine.fastest_format() if precision == "auto" else precision
        with self._engine.computing(number_format):
            return number_format

    def check_patch_size(self, patch_size: PatchSize) -> None:
        """Raise a ParameterError if a member cannot take patches of a size in pixels; names a size that it takes."""
        if patch_size == "auto":
            return
        for name, segmenter in self._segmenters.items():
            check_output_stride(patch_size, segmenter._member.output_stride, name)

    def segment_tile(
        self,
        tile: "xr.Dataset",
        patch_size: PatchSize = DEFAULT_PATCH_SIZE,
        overlap: int = 256,
        batch_size: int = 8,
        reflection: int = 0,
        keep_inputs: bool = False,  # public position
        *,
        precision: Precision = "fp32",
        tta: Augmentation | None = None,
        keep_classes: bool = False,
    ) -> "xr.Dataset":
        """Return the tile with the members' mean probability of a thaw slump at every pixel.

        Args:
            tile: As in :meth:`SMPSegmenter.segment_tile`, with at least :attr:`required_bands`. Not changed.
            patch_size: As in :meth:`SMPSegmenter.segment_tile`.
            overlap: As in :meth:`SMPSegmenter.segment_tile`.
            batch_size: As in :meth:`SMPSegmenter.segment_tile`.
            reflection: As in :meth:`SMPSegmenter.segment_tile`.
            keep_inputs: Also return the probabilities of each member and their standard deviation.
            precision: As in :meth:`SMPSegmenter.segment_tile`.
            tta: As in :meth:`SMPSegmenter.segment_tile`.
            keep_classes: Also return the probabilities of other classes, each the mean over the members that know it.

        Returns:
            A new tile: everything in `tile`, plus ``probabilities``, float32 (y, x), 0…1. It is NaN exactly where a
            member has no valid value in any of its bands, so that every number rests on all members. With `keep_inputs`
            also ``probabilities-{name}`` of each member and ``probabilities-std``, with `keep_classes` also
            ``probabilities_{class}``, NaN at the same pixels.

        Raises:
            InputTypeError: If `tile` is no Dataset.
            MissingBandError: If the tile lacks a band.
            GridError: If a band does not lie on (y, x), or the tile is empty or not north-up.
            ValueRangeError: If a band cannot be in the unit that a model takes.
            ParameterError: If an option cannot work, or a network cannot take patches of this size.
            OutputError: If a network returns NaN.
            GpuMemoryError: If the memory of the device does not hold a single patch, or the result.
        """
        options = Options(
            patch_size=patch_size,
            overlap=overlap,
            batch_size=batch_size,
            reflection=reflection,
            precision=precision,
            tta=tta,
            keep_members=keep_inputs,
            keep_classes=keep_classes,
            calibration=self._calibration,
        )
        members = {name: segmenter._member for name, segmenter in self._segmenters.items()}
        return segment(tile, members, self._engine, options)


def _check_names(members: object) -> None:
    if not isinstance(members, Mapping):
        raise InputTypeError(
            f"Expected models by name, such as {{'v1': 'slumps.safetensors'}}, but got the {type(members).__name__} "
            f"{members!r:.80}; `EnsembleV1.from_file` opens an ensemble.json, and `SMPSegmenter` a single model."
        )
    if not members:
        raise ParameterError("An ensemble needs at least one model; found none.")
    wrong = [name for name in members if not isinstance(name, str) or not name.strip() or name == SPREAD_NAME]
    if wrong:
        raise ParameterError(f"A model is named {wrong[0]!r}; expected a text that is not blank, nor {SPREAD_NAME!r}.")


def _warn_of_repeats(groups: Sequence[Sequence[str]]) -> None:
    for group in groups:
        names = " and ".join(map(repr, group))
        warnings.warn(
            f"The members {names} of the ensemble are the same model, which weighs {len(group)} times in the mean; "
            "name each model once.",
            RepeatedModelWarning,
            stacklevel=3,
        )
