"""Auxiliary data, around a tile from datacubes that fill as they are used, and their products by name."""

from darts_acquisition.auxiliary.arcticdem import RESOLUTIONS, arcticdem_product
from darts_acquisition.auxiliary.tcvis import TRENDS, tcvis_product
from darts_acquisition.cube.product import CubeProduct
from darts_utils import ParameterError


def product_named(name: str) -> CubeProduct:
    """Return a product by the name that users write: ``arcticdem-2m``, ``tcvis-2000-2019``.

    ParameterError if there is none.
    """
    resolutions = {f"arcticdem-{resolution}m": resolution for resolution in RESOLUTIONS}
    trends = {f"tcvis-{trend}": trend for trend in TRENDS}
    if name in resolutions:
        return arcticdem_product(resolutions[name])
    if name in trends:
        return tcvis_product(trends[name])
    raise ParameterError(f"product is {name!r}; expected one of {', '.join([*resolutions, *trends])}.")
