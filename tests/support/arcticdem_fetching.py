"""What tests of fetching ArcticDEM share."""

import numpy as np

from darts_acquisition import Chunk, Datacube, Window
from darts_acquisition.auxiliary.arcticdem import ArcticDEMSource
from support.arcticdem import Provider

WHOLE = Window.of(0, 300, 0, 400)


def all_chunks(cube: Datacube) -> list[Chunk]:
    return [Chunk(int(row), int(col)) for row, col in np.ndindex(cube.states(cube.geobox).shape)]


def assert_equals_mosaic(cube: Datacube, provider: Provider, window: Window = WHOLE) -> None:
    read = cube.read(window)
    for name, expected in provider.truth(window).items():
        np.testing.assert_array_equal(read[name].values, expected, err_msg=name)


def source_of(provider: Provider, service, **limits) -> ArcticDEMSource:
    return ArcticDEMSource(provider.product, service.settings(**limits))


def assert_chunk_equals_mosaic(cube: Datacube, provider: Provider, chunk: Chunk) -> None:
    assert_equals_mosaic(cube, provider, cube.product.chunk_window(chunk))
