"""Tell whether the auxiliary data that a tile was made from are what a cube holds now, without reading pixels.

A tile's manifest keeps, for each product, its name and version and the identity of every chunk that was read: a digest
of the chunk's content, or "legacy" and the cube where the cube keeps no digest of it.
"""

import json
import logging
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import darts_acquisition
from darts.run.trends import BY_YEAR, TrendCubes
from darts_utils import DartsError

if TYPE_CHECKING:
    import xarray as xr


logger = logging.getLogger(__name__)


def describe_auxiliary(read: "xr.Dataset") -> dict[str, Any]:
    """Describe what was read from a cube.

    Returns:
        ``product``, ``version`` and ``chunks``, the identities of the chunks by row and column ("12,7").
    """
    return {
        "product": read.attrs.get("collection", ""),
        "version": read.attrs.get("version", ""),
        "chunks": json.loads(read.attrs.get("chunk_identities", "{}")),
    }


class CubesNow:
    """What the cubes of a run hold now, asked for once each.

    Args:
        arcticdem: Folder or address of the ArcticDEM datacube.
        trends: The TCVIS datacubes.

    Attributes:
        by_year: Whether the year of a tile's image decides which trend the tile reads.
    """

    def __init__(self, arcticdem: str, trends: TrendCubes) -> None:
        self.by_year = trends.trend == BY_YEAR
        self._arcticdem = arcticdem
        self._trends = trends
        self._open = cache(_open)

    def change(self, before: Mapping[str, Any], year: int | None) -> str:
        """Name the first difference between what a tile was made from and what the cubes hold.

        Chunks that a cube does not hold, or a cube that is not there, would be fetched from the same product again and
        count as unchanged.

        Args:
            before: By name in manifests ("arcticdem", "tcvis"), what :func:`describe_auxiliary` returned.
            year: Year in which the tile's image was taken, None where that is not known.

        Returns:
            What changed, an empty string if nothing did.
        """
        for name, read in before.items():
            location = self._arcticdem
            if name == "tcvis":
                trends = self._trends
                wanted = {darts_acquisition.TRENDS[each]: trends.cubes[each] for each in trends.of_year(year)}
                if read.get("product") not in wanted:
                    return f"{name} was {read.get('product')}, is {' or '.join(wanted)}"
                location = wanted[read["product"]]
            found = self._open(location)
            if found is None:
                continue
            cube, known = found
            if (cube.product.collection, cube.product.version) != (read.get("product"), read.get("version")):
                held = f"{cube.product.collection} {cube.product.version}"
                return f"{name} was {read.get('product')} {read.get('version')}, is {held}"
            for chunk, identity in read.get("chunks", {}).items():
                if known.get(chunk, identity) != identity:
                    return f"chunk {chunk} of {name} has another content"
        return ""


def _open(location: str) -> "tuple[darts_acquisition.Datacube, dict[str, str]] | None":
    """Return a cube and the identities of its chunks; None where there is none, or one that cannot be read."""
    try:
        cube = darts_acquisition.Datacube.open(location)
        return cube, {f"{row},{col}": text for (row, col), text in cube.identities().items()}
    except darts_acquisition.CubeNotFoundError:
        return None
    except DartsError as error:
        # A run that needs the cube says so; results that are there are not doubted for it.
        logger.warning("%s cannot be compared with finished results: %s", location, error)
        return None
