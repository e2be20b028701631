"""A set of changes to a datacube: data, and the states and digests of chunks, all or none."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition.cube.digests import digest_key, digest_of, first_snapshot
from darts_acquisition.cube.grid import Chunk, Window, chunk_window
from darts_acquisition.cube.layout import DIGEST, STATE, add_digests
from darts_acquisition.cube.product import CubeProduct
from darts_acquisition.cube.reading import read_arrays, run_async
from darts_acquisition.cube.repository import BRANCH, Location, commit, writing
from darts_acquisition.errors import CubeConflictError
from darts_utils import ParameterError

if TYPE_CHECKING:
    import icechunk
    import xarray as xr


class Transaction:
    """Changes that nobody sees before `commit`, and nobody ever if that does not come.

    Args:
        place: Where the repository lies.
        repository: The repository.
        product: What the cube holds.
    """

    def __init__(self, place: Location, repository: "icechunk.Repository", product: CubeProduct) -> None:
        self._place = place
        self._product = product
        self._session, self._group = _begin(place, repository)
        while DIGEST not in self._group:  # A cube of an earlier release.
            with writing(place):
                add_digests(self._group, first_snapshot(repository, self._session.snapshot_id))
            with contextlib.suppress(CubeConflictError):  # Another process has done it.
                commit(place, self._session, "Make room for digests")
            self._session, self._group = _begin(place, repository)

    def put(self, window: Window, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays into a window of the grid."""
        with writing(self._place):
            for name, values in arrays.items():
                self._group[name][window] = values

    def clear(self, chunks: Iterable[Chunk]) -> None:
        """Take data and digests of some chunks out of the cube; what is put there afterwards is not merged with them.

        A damaged chunk could not be written over otherwise: writing reads what is there first.
        """
        names = [variable.name for variable in self._product.variables]
        places = list(chunks)
        keys = [f"{name}/c/{chunk.row}/{chunk.col}" for chunk in places for name in names]
        keys += [digest_key(chunk) for chunk in places]

        async def delete() -> None:
            for key in keys:
                await self._session.store.delete(key)

        with writing(self._place):
            run_async(delete)

    def block(self, block: Window) -> np.ndarray:
        """Return the states of a rectangle of chunks, 2-D uint8."""
        with writing(self._place):
            return np.asarray(self._group[STATE][block])

    def states(self, chunks: Sequence[Chunk]) -> np.ndarray:
        """Return the states of some chunks, 1-D uint8."""
        rows, cols = np.array(chunks).T
        with writing(self._place):
            return np.asarray(self._group[STATE].vindex[rows, cols])

    def set_states(self, chunks: Sequence[Chunk], states: "np.ndarray | int") -> None:
        """Set the states of some chunks."""
        if chunks:
            rows, cols = np.array(chunks).T
            with writing(self._place):
                self._group[STATE].vindex[rows, cols] = np.broadcast_to(states, len(chunks)).astype("uint8")

    def set_digests(self, chunks: Iterable[Chunk], window: Window, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the digests of chunks that are filled now; those that were put in part are read back as a whole.

        Args:
            chunks: The chunks.
            window: Pixels that were put.
            arrays: What was put there.

        Raises:
            CubeDamagedError: If what a chunk held before is damaged.
        """
        from zarr.core.buffer import default_buffer_prototype

        digests = {chunk: digest_of(self._content(chunk, window, arrays), self._product) for chunk in chunks}
        make_buffer = default_buffer_prototype().buffer.from_bytes

        async def store() -> None:
            for chunk, digest in digests.items():
                await self._session.store.set(digest_key(chunk), make_buffer(digest))

        with writing(self._place):
            run_async(store)

    def _content(self, chunk: Chunk, window: Window, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        whole = chunk_window(chunk, self._product.chunk_px, self._product.geobox)
        if window.intersection(whole) == whole:
            return {name: values[whole.relative_to(window)] for name, values in arrays.items()}
        with writing(self._place):
            return read_arrays(
                self._session.store, self._product, self._product.variables, whole, np.ones((1, 1), bool)
            )

    def commit(self, message: str) -> None:
        """Make the changes permanent, see `darts_acquisition.cube.repository.commit`."""
        commit(self._place, self._session, message)


def _begin(place: Location, repository: "icechunk.Repository") -> tuple["icechunk.Session", Any]:
    import zarr

    with writing(place):
        session = repository.writable_session(BRANCH)
        return session, zarr.open_group(session.store, mode="r+")


def check_arrays(
    window: Window, arrays: "Mapping[str, Any] | xr.Dataset", product: CubeProduct
) -> dict[str, np.ndarray]:
    """Return the arrays to write, if there is one for each variable of a product, of the right shape and data type.

    Args:
        window: Pixels that they are for.
        arrays: Arrays by name.
        product: What the cube holds.

    Returns:
        The arrays by name.

    Raises:
        ParameterError: If one is absent, unknown, or of another shape or data type.
    """
    names = [variable.name for variable in product.variables]
    given = [str(name) for name in arrays]
    if sorted(given) != sorted(names):
        raise ParameterError(
            f"Got the variables {', '.join(given)}; {product.collection} needs all of {', '.join(names)}."
        )
    values = {}
    for variable in product.variables:
        array = np.asarray(arrays[variable.name])
        if array.shape != window.shape or array.dtype != np.dtype(variable.dtype):
            raise ParameterError(
                f"{variable.name} is {array.dtype} of shape {array.shape}; expected {variable.dtype} of shape "
                f"{window.shape}, which the area has."
            )
        values[variable.name] = array
    return values
