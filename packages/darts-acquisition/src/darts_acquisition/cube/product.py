"""What a datacube holds: a product on its whole grid, its variables, its chunks, and the values that can be."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.errors import CubeError, ForeignCubeError
from darts_utils import ValueRangeError, row_blocks

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FORMAT = 1
"""Version of the layout of a datacube; raised when old code could misread a new cube."""


SMART_GEOCUBES = ("loaded_patches", "loaded_tiles")
"""Attributes by which a datacube of smart-geocubes is known: they list what was loaded, the present one first."""


@dataclass(frozen=True)
class CubeVariable:
    """One variable of a datacube.

    Attributes:
        name: Name of the array in the cube.
        dtype: Data type of its values, the same on disk and in memory.
        nodata: Value where the provider has nothing.
        long_name: What the values are, for people.
        units: Unit of the values, None where they have none.
    """

    name: str
    dtype: str
    nodata: float
    long_name: str
    units: str | None = None

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes of the variable in a Dataset."""
        attrs = {"long_name": self.long_name}
        return attrs if self.units is None else attrs | {"units": self.units}


@dataclass(frozen=True)
class CubeProduct:
    """A product that a datacube holds.

    Attributes:
        name: Short name, for example "arcticdem".
        version: Version as the provider counts it.
        collection: The provider's name for the data set.
        geobox: The whole grid of the product, north-up. Outside it the provider has nothing.
        variables: The variables, all on the grid.
        chunk_px: Edge of a bookkeeping chunk in pixels: chunks are what is absent, filled or empty.
        inner_px: Edge in pixels of the Zarr chunks within the shard that such a chunk is; divides `chunk_px`.
    """

    name: str
    version: str
    collection: str
    geobox: "GeoBox"
    variables: tuple[CubeVariable, ...]
    chunk_px: int = 3600
    inner_px: int = 600

    def to_attrs(self) -> dict[str, Any]:
        """Return what a cube stores about its product, as JSON values."""
        affine = self.geobox.affine
        return {
            "darts_cube_format": FORMAT,
            "product": self.name,
            "version": self.version,
            "collection": self.collection,
            "crs": str(self.geobox.crs),
            "transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
            "shape": list(self.geobox.shape),
            "chunk_px": self.chunk_px,
            "inner_px": self.inner_px,
            "variables": [
                asdict(each) | {"nodata": None if each.nodata != each.nodata else each.nodata}
                for each in self.variables
            ],
        }

    @classmethod
    def from_attrs(cls, attrs: dict[str, Any]) -> "CubeProduct":
        """Read what `to_attrs` wrote.

        Raises:
            ForeignCubeError: If they are those of a datacube of smart-geocubes.
            CubeError: If the attributes are not those of a datacube, or of one that this version cannot read.
        """
        from affine import Affine
        from odc.geo.geobox import GeoBox

        found = attrs.get("darts_cube_format")
        if found is None and any(name in attrs for name in SMART_GEOCUBES):
            raise ForeignCubeError(
                f"It is a datacube of smart-geocubes ({attrs.get('title')}), which is not read in its place; an import "
                "takes it over into a new datacube."
            )
        if found != FORMAT:
            raise CubeError(
                f"Expected a datacube of format {FORMAT}, found "
                f"{'none' if found is None else f'format {found}'}; a newer darts-acquisition may be able to read it."
            )
        try:
            return cls(
                name=attrs["product"],
                version=attrs["version"],
                collection=attrs["collection"],
                geobox=GeoBox(tuple(attrs["shape"]), Affine(*attrs["transform"]), attrs["crs"]),
                variables=tuple(
                    CubeVariable(
                        entry["name"],
                        entry["dtype"],
                        math.nan if entry["nodata"] is None else entry["nodata"],
                        entry["long_name"],
                        entry["units"],
                    )
                    for entry in attrs["variables"]
                ),
                chunk_px=attrs["chunk_px"],
                inner_px=attrs["inner_px"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CubeError(f"The attributes of the datacube are damaged: {error!r}.") from error


LOWEST_M, HIGHEST_M = -500.0, 9000.0
"""Beyond the shore of the Dead Sea and Mount Everest, whatever the elevations are counted from."""


def check_elevations(arrays: Mapping[str, np.ndarray]) -> None:
    """Pass elevations that can be some; every pixel counts, for terrain features are made of each.

    Args:
        arrays: What is to be written, by name; without `dem` and `arcticdem_data_mask` nothing is looked at.

    Raises:
        ValueRangeError: If an elevation lies outside −500…9000 m, or is NaN where the mask says that it was measured,
            or the mask has other values than 0 and 1.
    """
    if not {"dem", "arcticdem_data_mask"} <= set(arrays):
        return
    dem, mask = arrays["dem"], arrays["arcticdem_data_mask"]
    if mask.size and mask.max() > 1:
        raise ValueRangeError(
            f"arcticdem_data_mask holds {mask.max()}; expected 1 where the elevation was measured and 0 elsewhere."
        )
    blocks = [slice(*ends) for ends in row_blocks(0, *dem.shape)]
    if any(_impossible(dem[rows], mask[rows]).any() for rows in blocks):
        wrong = _impossible(dem, mask)
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        said = "measured" if mask[row, column] else "not measured"
        raise ValueRangeError(
            f"dem is {dem[row, column]:g} at row {row}, column {column} of what is to be written, {said} according to "
            f"arcticdem_data_mask, and no elevation at {np.count_nonzero(wrong)} pixels in all; expected metres from "
            f"{LOWEST_M:g} to {HIGHEST_M:g}. Where there is none, make dem NaN and the mask 0 "
            f"(`known = (dem >= {LOWEST_M:g}) & (dem <= {HIGHEST_M:g}); dem[~known] = np.nan; mask[~known] = 0`)."
        )


def _impossible(dem: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if dem.size and dem.min() >= LOWEST_M and dem.max() <= HIGHEST_M:  # neither is true where one is NaN
        return np.zeros(1, bool)
    wrong = ~((dem >= LOWEST_M) & (dem <= HIGHEST_M))
    wrong &= (mask == 1) | ~np.isnan(dem)
    return wrong
