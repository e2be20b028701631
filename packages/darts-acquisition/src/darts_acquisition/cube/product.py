"""What a datacube holds: the product's name and version, its whole grid, its variables and its chunks."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from darts_acquisition.errors import CubeError, ForeignCubeError

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
