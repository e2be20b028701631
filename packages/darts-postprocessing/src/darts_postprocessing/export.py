"""Make a segmented tile ready for export."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from darts_postprocessing.backends import Backend, compute_on
from darts_postprocessing.checks import above_one, check_pixels, check_probabilities, check_threshold
from darts_postprocessing.grids import dims_fault, in_memory, known, like, on_grid_of
from darts_utils import (
    DeviceLike,
    MissingBandError,
    ParameterError,
    band_attrs,
    check_dataset,
    check_quality,
    check_units,
    class_of,
    quality_fault,
    range_sample,
    step,
    to_host,
)

if TYPE_CHECKING:
    import xarray as xr

QualityLevel: TypeAlias = Literal[0, 1, 2, "none", "low_quality", "high_quality"]
"""Lowest quality that counts, as a number or as a name."""

_LEVELS: dict[int | str, int] = {0: 0, 1: 1, 2: 2, "none": 0, "low_quality": 1, "high_quality": 2}


def prepare_export(
    tile: "xr.Dataset",
    bin_threshold: float = 0.5,
    mask_erosion_size: int = 10,
    min_object_size: int = 32,
    quality_level: QualityLevel = 0,
    ensemble_subsets: Sequence[str] = (),
    device: DeviceLike = None,
    edge_erosion_size: int | None = None,
    edge_objects: Literal["clip", "remove"] = "clip",
) -> "xr.Dataset":
    """Add the extent of reliable results and the slumps inside it to a tile, and mask its probabilities with it.

    The extent is where ``quality_data_mask >= quality_level``; for a level above 0 it is then eroded, see
    :func:`erode_mask`. For level 0 it is the whole tile.

    Args:
        tile: Tile with ``quality_data_mask`` (uint8: 0 invalid, 1 low, 2 high quality), ``probabilities`` and for each
            subset ``probabilities-{subset}`` (float, 0…1, NaN where unknown), each with two dimensions in any order;
            any CRS. So are ``probabilities_{class}`` of other classes, which it may have. What one of them declares to
            be no data, counts as NaN; a quality of NaN is never usable. Lazy (dask) values are computed. Not changed.
        bin_threshold: Probability above which a pixel belongs to an object, 0…1.
        mask_erosion_size: Radius in pixels of the disk that erodes the extent.
        min_object_size: Fewest pixels of an object; one of exactly this size stays.
        quality_level: Lowest quality that counts: 0 or "none", 1 or "low_quality", 2 or "high_quality". The pipelines
            of darts-nextgen take 1 where nothing is said; the default here trusts every pixel.
        ensemble_subsets: Names of the ensemble's members that have probabilities of their own.
        device: As for :func:`erode_mask`.
        edge_erosion_size: Width in pixels of the border of the tile that the extent leaves out, for a level above 0;
            None means `mask_erosion_size`, 0 means no border.
        edge_objects: What happens to an object that reaches out of the extent. "clip" cuts it there: objects are made
            of the masked probabilities, and a part inside stays if it has `min_object_size` pixels. "remove" drops it
            whole: objects are made of all probabilities, and those with a pixel outside the extent go.

    Returns:
        A new tile with ``extent`` (uint8, 1 where reliable), ``probabilities``, ``probabilities-{subset}`` and
        ``probabilities_{class}`` (dtype as given, NaN outside the extent), ``binarized_segmentation`` and
        ``binarized_segmentation-{subset}`` (bool). These are new arrays, on the GPU where what they are made of is; all
        other variables are kept as they are. Of other classes no objects are made.

    Raises:
        InputTypeError: If `tile` is no Dataset.
        MissingBandError: If the tile lacks a variable that is needed.
        ParameterError: If an argument is out of its range, or a variable does not have two dimensions.
        ValueRangeError: If probabilities are percent, or anything else than probabilities: one above 1 is enough; or if
            the quality has other values than 0, 1 and 2, 255 for missing pixels that it does not declare for example.

    Examples:
        >>> import numpy as np, xarray as xr
        >>> tile = xr.Dataset(
        ...     {
        ...         "quality_data_mask": (("y", "x"), np.uint8([[2, 2, 2, 2, 0]])),
        ...         "probabilities": (("y", "x"), np.float32([[0.1, 0.9, 0.9, 0.9, 0.9]])),
        ...     }
        ... )
        >>> options = {"mask_erosion_size": 1, "edge_erosion_size": 0, "min_object_size": 2, "device": "cpu"}
        >>> clipped = prepare_export(tile, quality_level="high_quality", **options)
        >>> clipped["probabilities"].values
        array([[0.1, 0.9, 0.9, nan, nan]], dtype=float32)
        >>> clipped["binarized_segmentation"].values
        array([[False,  True,  True, False, False]])
        >>> removed = prepare_export(tile, quality_level="high_quality", edge_objects="remove", **options)
        >>> removed["binarized_segmentation"].values
        array([[False, False, False, False, False]])
    """
    check_dataset(tile)
    level = _check_level(quality_level)
    if edge_objects not in ("clip", "remove"):
        raise ParameterError(f"edge_objects is {edge_objects!r}; expected 'clip' or 'remove'.")
    bin_threshold = check_threshold("bin_threshold", bin_threshold, highest=1)
    min_object_size = check_pixels("min_object_size", min_object_size)
    size = check_pixels("mask_erosion_size", mask_erosion_size)
    edge_size = size if edge_erosion_size is None else check_pixels("edge_erosion_size", edge_erosion_size)
    names = _probability_names(tile, ensemble_subsets)

    loaded = tile[["quality_data_mask", *names]].compute()
    loaded = loaded.assign({name: known(loaded[name]) for name in names})
    quality = _checked(loaded, names, in_memory(loaded["quality_data_mask"]))

    def compute(backend: Backend) -> "dict[str, xr.DataArray]":
        results: dict[str, xr.DataArray] = {}
        with step("erode mask"):
            mask = backend.at_least(backend.to_device(quality.data), level)
            if level > 0:
                mask = backend.erode(mask, size, edge_size)
        extent = like(quality, mask)
        results["extent"] = like(quality, backend.give_back(mask, quality.data), band_attrs("extent"))
        for name in names:
            probs = loaded[name]
            inside = on_grid_of(extent, probs).data
            with step("mask probabilities"):
                values = backend.to_device(probs.data)
                masked = backend.mask_out(values, inside)
                results[name] = like(probs, backend.give_back(masked, probs.data))
            if class_of(name) is not None:
                continue
            with step("find objects"):
                clip = edge_objects == "clip"
                objects = backend.binarize(
                    masked if clip else values, bin_threshold, min_object_size, None if clip else inside
                )
            target = name.replace("probabilities", "binarized_segmentation", 1)
            results[target] = like(probs, backend.give_back(objects, probs.data), band_attrs(target))
        return results

    return tile.assign(compute_on(device, compute, *(loaded[name].data for name in names), quality.data))


def _checked(tile: "xr.Dataset", names: Sequence[str], quality: "xr.DataArray") -> "xr.DataArray":
    """Return the quality, NaN where it declares that it is none; a GPU is waited for once.

    Raises:
        ValueRangeError: If it is none, or the probabilities cannot be any.
    """
    asked: dict[str, object] = {"quality": quality_fault(quality.data)}
    for name in names:
        asked |= {f"sample of {name}": range_sample(tile[name].data), f"above in {name}": above_one(tile[name].data)}
    answers = to_host(asked)
    values = check_quality(quality.data, quality.attrs, quality.encoding, answers["quality"])
    for name in names:
        check_probabilities(name, answers[f"sample of {name}"], answers[f"above in {name}"])
    return quality if values is quality.data else quality.copy(data=values)


def _check_level(quality_level: QualityLevel) -> int:
    try:
        return _LEVELS[quality_level]
    except (KeyError, TypeError) as error:
        known = ", ".join(map(repr, _LEVELS))
        raise ParameterError(f"quality_level is {quality_level!r}; expected one of {known}.") from error


def _probability_names(tile: "xr.Dataset", ensemble_subsets: Sequence[str]) -> list[str]:
    """Return the names of the tile's probabilities.

    Raises:
        MissingBandError: If the tile lacks one of them, or the quality mask.
        ParameterError: If `ensemble_subsets` is a string, or probabilities are not float or not 2-D.
    """
    if isinstance(ensemble_subsets, str):
        raise ParameterError(f"ensemble_subsets is the string {ensemble_subsets!r}; expected a list of names.")
    names = ["probabilities", *(f"probabilities-{subset}" for subset in ensemble_subsets)]
    names += [str(name) for name in tile.data_vars if class_of(str(name)) is not None]
    for name in ["quality_data_mask", *names]:
        if name not in tile:
            present = ", ".join(map(str, tile.data_vars)) or "none"
            raise MissingBandError(f"The tile has no variable {name!r}; it has {present}.")
    for name in names:
        if np.issubdtype(tile[name].dtype, np.integer):
            check_probabilities(name, tile[name])
        check_units(name, tile[name].attrs, taker="postprocessing")
        if not np.issubdtype(tile[name].dtype, np.floating):
            raise ParameterError(f"{name} has dtype {tile[name].dtype}; expected float, which can be NaN.")
        if tile[name].ndim != 2:
            raise ParameterError(f"{name} {dims_fault(tile[name])}")
    return names
