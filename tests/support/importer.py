"""An import of a small datacube of smart-geocubes, for processes that are killed while they do it."""

from support.arcticdem import small_product

PRODUCT = small_product(128, 192)
"""Six chunks of ArcticDEM at 32 m."""
IMPORTS = [
    *("support.importer", "darts_acquisition.imports.importing", "darts_acquisition.imports.smart_geocubes"),
    *("filelock", "numpy", "odc.geo.xr", "zarr"),
]
"""What an import needs and may be forked."""


def import_small_cube(origin: str, target: str) -> list[int]:
    """Import; return how many chunks were filled, empty, there before, incomplete and damaged."""
    from darts_acquisition import import_cube
    from darts_acquisition.imports import importing, smart_geocubes

    for module in (importing, smart_geocubes):
        module.product_named = lambda _: PRODUCT
    report = import_cube(origin, target)
    return [report.filled, report.empty, report.present, report.incomplete, len(report.damaged)]
