"""The whole tile as NetCDF, to look at what the stages made."""

import errno
import json
import shutil
from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from darts_export.jsonable import to_json


def write_debug(path: Path, tile: xr.Dataset) -> None:
    """Write every variable, coordinate and attribute of a tile as NetCDF 4, compressed without loss.

    Args:
        path: The file to write.
        tile: The tile. Not changed. Attributes that NetCDF cannot hold become JSON text.

    Raises:
        OSError: If the file cannot be written.
    """
    free = shutil.disk_usage(path.parent).free
    if tile.nbytes > free:
        # HDF5 may bring the process down where a file cannot grow, so it is not tried.
        raise OSError(errno.ENOSPC, f"{path.name} may need {tile.nbytes / 1e6:.0f} MB")
    plain = tile.copy()
    plain.attrs = _attributes(tile.attrs)
    for variable in plain.variables.values():
        variable.attrs = _attributes(variable.attrs)
        # How the values were stored where they came from must not change them here.
        kept = {"grid_mapping": variable.encoding["grid_mapping"]} if "grid_mapping" in variable.encoding else {}
        variable.encoding = kept | ({"zlib": True, "complevel": 1} if variable.ndim else {})
    plain.to_netcdf(path, engine="h5netcdf", format="NETCDF4")


def _attributes(attrs: Mapping[Hashable, object]) -> dict[str, object]:
    return {str(name): _attribute(value, f"attribute {name}") for name, value in attrs.items()}


def _attribute(value: object, where: str) -> object:
    if isinstance(value, str | int | float | np.number) and not isinstance(value, bool):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        return value
    return json.dumps(to_json(value, where), ensure_ascii=False)
