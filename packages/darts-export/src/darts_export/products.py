"""What can be exported: the names in `bands`, the variables that each needs, and the files that it gives."""

import difflib
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from darts_export.raster_styles import companions_of
from darts_utils import BANDS, TREND_BANDS, MissingBandError, ParameterError, UnknownBandError, class_of

DEFAULT_EXPORT_BANDS = ("probabilities", "binarized", "polygonized", "extent", "thumbnail")
"""What is exported where the caller does not say: the default of the pipelines."""

COLOURS = ("red", "green", "blue")
OPTICAL = (*COLOURS, "nir")
ITEM_FILE = "item.json"
COLLECTION_FILE = "collection.json"
METADATA_FILE = "darts_inference.json"
THUMBNAIL_FILE = "thumbnail.jpg"
PREVIEW_FILE = "preview.tif"
DEBUG_FILE = "darts_inference_debug.nc"
MEANS = ("slope", "relative_elevation", "ndvi")
"""Features whose mean each object has, where the tile has them."""


@dataclass(frozen=True)
class Product:
    """One result: one raster, one pair of vector files, or one other file.

    Attributes:
        kind: "raster", "classes", "optical", "objects", "extent", "thumbnail" or "metadata"; decides who writes it.
        files: Names of the files.
        variables: Variables of the tile that it needs.
        model: Member of the ensemble that it belongs to, None for the ensemble as a whole.
        optional: Variables that it makes use of where the tile has them.
        companions: Files that only say how a program draws it. A finished export may lack them.
    """

    kind: str
    files: tuple[str, ...]
    variables: tuple[str, ...]
    model: str | None = None
    optional: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()


def _suffix(model: str | None) -> str:
    return "" if model is None else f"-{model}"


def _probabilities(model: str | None) -> Product:
    name = f"probabilities{_suffix(model)}"
    file = f"{name}.tif"
    return Product("raster", (file,), (name,), model, companions=companions_of(file))


def _binarized(model: str | None) -> Product:
    end = _suffix(model)
    file = f"binarized{end}.tif"
    seen_by = ("extent", f"probabilities{end}")
    return Product("classes", (file,), (f"binarized_segmentation{end}",), model, seen_by, companions_of(file))


def _polygonized(model: str | None) -> Product:
    end = _suffix(model)
    files = (f"prediction_segments{end}.gpkg", f"prediction_segments{end}.parquet")
    variables = (f"binarized_segmentation{end}", f"probabilities{end}")
    return Product("objects", files, variables, model, ("extent", *MEANS))


# What every file system takes: no separators, quotes, wildcards, control characters or leading dot.
_FILE_NAME = re.compile(r"""[^/\\<>:"|?*.\x00-\x1f][^/\\<>:"|?*\x00-\x1f]*""")

# File systems take 255 bytes; programs put ".aux.xml" or "-journal" behind a name.
_NAME_BYTES = 255 - len(".aux.xml")

_PER_MODEL: dict[str, Callable[[str | None], Product]] = {
    "probabilities": _probabilities,
    "binarized": _binarized,
    "polygonized": _polygonized,
}
_SINGLE: dict[str, Product] = {
    "extent": Product("extent", ("prediction_extent.gpkg", "prediction_extent.parquet"), ("extent",)),
    "thumbnail": Product("thumbnail", (THUMBNAIL_FILE,), COLOURS),
    "optical": Product("optical", ("optical.tif",), OPTICAL),
    "dem": Product("raster", ("dem.tif",), ("slope", "relative_elevation")),
    "tcvis": Product("raster", ("tcvis.tif",), TREND_BANDS),
    "metadata": Product("metadata", (METADATA_FILE,), ()),
}

EXPORT_BANDS = (*_PER_MODEL, *_SINGLE)
"""The names in `bands` that stand for a product of their own; every other name is that of a variable of the tile."""


def plan_products(bands: Iterable[str], ensemble_subsets: Iterable[str] = ()) -> list[Product]:
    """List the products that `bands` asks for, in an order that does not depend on that of the arguments.

    Args:
        bands: Names of products or of variables of the tile. Repeated names count once.
        ensemble_subsets: Members of the ensemble whose own probabilities, binarized and polygonized results are asked
            for as well.

    Returns:
        The products, no file twice.

    Raises:
        ParameterError: If a name cannot be part of a file name, two differ in nothing that every file system tells
            apart, or an argument is a single string.
    """
    names = set(listed_names(bands, "bands"))
    models: list[str | None] = [None, *sorted(set(listed_names(ensemble_subsets, "ensemble_subsets")))]
    plan = [make(model) for name, make in _PER_MODEL.items() if name in names for model in models]
    plan += [product for name, product in _SINGLE.items() if name in names]
    taken = {file for product in plan for file in product.files}
    for name in sorted(names.difference(EXPORT_BANDS)):
        if f"{name}.tif" not in taken:
            companions = companions_of(f"{name}.tif") if is_percent(name) else ()
            plan.append(Product("raster", (f"{name}.tif",), (name,), companions=companions))
    _check_file_names(file for product in plan for file in product.files)
    return plan


def _check_file_names(files: Iterable[str]) -> None:
    """Raise where a name is too long, or two would be one file on a file system that ignores case."""
    seen: dict[str, str] = {}
    for file in files:
        size = len(os.fsencode(file))
        if size > _NAME_BYTES:
            raise ParameterError(
                f"The file {file[:60]}… would have a name of {size} bytes; expected at most {_NAME_BYTES}. "
                f"Give the model or variable a shorter name."
            )
        other = seen.setdefault(folded(file), file)
        if other != file:
            raise ParameterError(
                f"The files {other} and {file} differ only by case or accents' encoding, and are one file on macOS and "
                f"Windows; rename one of the models or variables."
            )


def folded(file: str) -> str:
    """Return a name in the form in which file systems that ignore case compare it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", file).casefold())


def planned_files(bands: Iterable[str], ensemble_subsets: Iterable[str] = (), debug: bool = False) -> list[str]:
    """List the files that a finished export of `bands` has beside the manifest, sorted; others it may lack.

    Args:
        bands: See :func:`plan_products`.
        ensemble_subsets: See :func:`plan_products`.
        debug: Whether the whole tile is written as NetCDF as well.

    Returns:
        Names of files, ``item.json`` among them.

    Raises:
        ParameterError: See :func:`plan_products`.

    Examples:
        >>> planned_files(["extent"])
        ['item.json', 'prediction_extent.gpkg', 'prediction_extent.parquet']
    """
    plan = plan_products(bands, ensemble_subsets)
    extra = {ITEM_FILE, DEBUG_FILE} if debug else {ITEM_FILE}
    return sorted(extra.union(*(product.files for product in plan)))


def export_variables(bands: Iterable[str]) -> set[str]:
    """Name the variables of a tile that an export of `bands` is made of.

    Args:
        bands: Names of products (:data:`EXPORT_BANDS`) or of variables.

    Returns:
        Names of variables.

    Raises:
        ParameterError: See :func:`plan_products`.

    Examples:
        >>> sorted(export_variables(["dem", "ndvi"]))
        ['ndvi', 'relative_elevation', 'slope']
    """
    return {name for product in plan_products(bands) for name in product.variables}


def check_export_bands(
    bands: Iterable[str], variables: Iterable[str] | None = None, ensemble_subsets: Iterable[str] = ()
) -> None:
    """Raise unless every name in `bands` can be exported; costs nothing and reads no data.

    Args:
        bands: Names of products (:data:`EXPORT_BANDS`) or of variables.
        variables: Names of the variables that the tile has or will have. None means every variable of the band table.
        ensemble_subsets: Members of the ensemble whose own results are asked for as well.

    Raises:
        UnknownBandError: If a name is neither that of a product nor that of a variable; the message lists the known.
        MissingBandError: If `variables` is given and lacks one that a product needs.
        ParameterError: If an argument is a single string, if the name of a variable or model cannot be part of a file
            name (``rts:v2``), or if two files would have names that differ only by case.

    Examples:
        >>> check_export_bands(["probabilities", "slope"])
        >>> check_export_bands(["probabilites"])
        Traceback (most recent call last):
            ...
        darts_utils.errors.UnknownBandError: Export band 'probabilites' is unknown; did you mean 'probabilities'? ...
    """
    names = listed_names(bands, "bands")
    known_variables = set(BANDS) if variables is None else set(variables)
    known = [*EXPORT_BANDS, *sorted(known_variables.difference(EXPORT_BANDS))]
    for name in names:
        if name in known or (variables is None and _is_made_by_models(name)):
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UnknownBandError(f"Export band {name!r} is unknown{hint} Known are: {', '.join(known)}.")
    plan = plan_products(names, ensemble_subsets)
    if variables is not None:
        require_variables(plan, known_variables)


def require_variables(plan: Sequence[Product], variables: Collection[str]) -> None:
    """Raise unless every variable that the plan needs is there.

    Raises:
        MissingBandError: The message names the missing variable and the file that needs it.
    """
    for product in plan:
        missing = [name for name in product.variables if name not in variables]
        if missing:
            raise MissingBandError(
                f"{product.files[0]} needs {', '.join(missing)}, which the tile lacks; it has "
                f"{', '.join(sorted(variables)) or 'no variable'}. Take that result out of the export bands, or run "
                f"the stage that writes the variable."
            )


def is_percent(name: str) -> bool:
    """Tell whether a variable of a tile holds probabilities, which are written as whole percent.

    Args:
        name: Name of the variable.

    Returns:
        Whether it holds those of slumps, of a member of an ensemble, or of another class. The deviation over an
        ensemble is no probability, and too small for whole percent.

    Examples:
        >>> [is_percent(f"probabilities{end}") for end in ("", "-tcvis", "_detachment", "-std")]
        [True, True, True, False]
    """
    of_slumps = name.split("-", 1)[0] == "probabilities" and name != "probabilities-std"
    return of_slumps or class_of(name) is not None


def _is_made_by_models(name: str) -> bool:
    of_slumps = name.split("-", 1)[0] in ("probabilities", "binarized_segmentation")
    return of_slumps or class_of(name) is not None


def listed_names(names: Iterable[str], argument: str) -> list[str]:
    """List names that can be part of a file name.

    Raises:
        ParameterError: If one cannot, or `names` is a single string.
    """
    if isinstance(names, str):
        raise ParameterError(f"{argument} is the string {names!r}; expected a list, for example [{names!r}].")
    listed = [str(name) for name in names]
    for name in listed:
        if not _FILE_NAME.fullmatch(name):
            raise ParameterError(
                f"{argument} contains {name!r}, which cannot be part of a file name; "
                f"expected names without path separators, quotes, wildcards or a leading dot."
            )
    return listed
