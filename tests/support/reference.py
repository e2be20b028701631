"""Reference results of a package, kept beside its tests, that tell when its RESULTS_VERSION was not raised."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

MAKE = "DARTS_MAKE_REFERENCE"
TOLERANCE = 2e-5
"""Largest difference of floats, absolute up to 1 and relative above: what processors and libraries differ by."""
HEAVY = ("torch", "xarray", "rasterio", "pandas", "scipy", "numba", "cupy")
LARGEST = 100_000
"""Bytes that a file of reference results may have."""


def check_reference(file: Path, results: Mapping[str, np.ndarray], version: int, constant: str) -> None:
    """Fail unless results are those of a file and the file was made with this version.

    With the environment variable DARTS_MAKE_REFERENCE=1 the file is made again, which fails as long as numbers differ
    and the version is still the same.

    Args:
        file: The file, ``.npz``.
        results: Arrays by name; integers, booleans and texts are compared exactly, floats within `TOLERANCE`.
        version: What the package says.
        constant: Where the version stands, for example "darts_export.version.RESULTS_VERSION".
    """
    making = os.environ.get(MAKE) == "1"
    command = f"{MAKE}=1 pytest tests/{file.parent.parent.name}/test_results_version.py"
    if not file.is_file():
        assert making, f"There are no reference results {file}; make them: {command}"
        write_reference(file, results, version)
    with np.load(file) as stored:
        reference = {name: stored[name] for name in stored.files}
    made_with = int(reference.pop("version"))
    changed = differences(reference, results)
    if making and (made_with != version or changed.keys() <= results.keys() - reference.keys()):
        write_reference(file, results, version)
        return
    assert not changed or made_with != version, (
        f"Results differ from those of {constant} = {version}. If that is meant, raise {constant} and make the "
        f"reference again: {command}. {changed}"
    )
    assert made_with == version, (
        f"The reference was made with {constant} = {made_with}, which is {version} now; make it again: {command}"
    )


def differences(reference: Mapping[str, np.ndarray], results: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Say, by name, what differs between reference and results."""
    changed = dict.fromkeys(sorted(reference.keys() - results.keys()), "is no longer there")
    changed |= dict.fromkeys(sorted(results.keys() - reference.keys()), "is new")
    for name in sorted(reference.keys() & results.keys()):
        before, now = reference[name], np.asarray(results[name])
        if (before.dtype.kind, before.shape) != (now.dtype.kind, now.shape) or (
            now.dtype.kind != "U" and before.dtype != now.dtype
        ):
            changed[name] = f"was {before.dtype} {before.shape}, is {now.dtype} {now.shape}"
        elif now.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                off = np.abs(before.astype(np.float64) - now) / np.maximum(1, np.abs(before))
            same = (before == now) | (np.isnan(before) & np.isnan(now)) | (off <= TOLERANCE)
            if not same.all():
                largest = np.nanmax(off[~same], initial=0)
                changed[name] = f"{np.count_nonzero(~same)} of {now.size} differ, by up to {largest:.3g}"
        elif not np.array_equal(before, now):
            changed[name] = f"{np.count_nonzero(before != now)} of {now.size} differ"
    return changed


def write_reference(file: Path, results: Mapping[str, np.ndarray], version: int) -> None:
    """Write a file of reference results; the same results give the same bytes."""
    file.parent.mkdir(exist_ok=True)
    np.savez_compressed(file, version=np.int64(version), **dict(sorted(results.items())))
    size = file.stat().st_size
    assert size < LARGEST, f"{file} has {size} bytes; make its inputs smaller"


def waves(shape: tuple[int, int], *lengths: tuple[int, int, int]) -> np.ndarray:
    """Make a surface of folds, (y, x) int64 from integers alone, so that it is the same everywhere.

    Args:
        shape: Rows and columns.
        lengths: For each fold its slope by row and by column, and its height.
    """
    row, column = np.indices(shape)
    folds = [abs((row * down + column * right) % (2 * height) - height) for down, right, height in lengths]
    return sum(folds, np.zeros(shape, np.int64))


def assert_light(
    package: str, heavy: tuple[str, ...] = ("torch", "xarray", "rasterio", "pandas", "scipy", "numba")
) -> None:
    """Fail where reading the version of a package's results imports a heavy library."""
    code = (
        f"import sys; from {package}.version import RESULTS_VERSION; "
        f"found = set({HEAVY}) & set(sys.modules); assert not found, found; "
        f"import {package}; from importlib.metadata import version; "
        f"assert {package}.RESULTS_VERSION == RESULTS_VERSION; "
        f"assert {package}.__version__ == version({package.replace('_', '-')!r})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.fail(run.stderr)
