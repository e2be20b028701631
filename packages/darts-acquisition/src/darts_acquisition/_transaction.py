"""A set of changes to a datacube: data and the states of chunks, all or none."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darts_acquisition._layout import STATE
from darts_acquisition._reading import run_async
from darts_acquisition._storage import BRANCH, Location, commit, writing
from darts_acquisition.grid import Chunk, Window
from darts_acquisition.products import CubeProduct
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
        import zarr

        self._place = place
        self._names = [variable.name for variable in product.variables]
        with writing(place):
            self._session = repository.writable_session(BRANCH)
            self._group: Any = zarr.open_group(self._session.store, mode="r+")

    def put(self, window: Window, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays into a window of the grid."""
        with writing(self._place):
            for name, values in arrays.items():
                self._group[name][window] = values

    def clear(self, chunks: Iterable[Chunk]) -> None:
        """Take all data of some chunks out of the cube; what is put there afterwards is not merged with them.

        A damaged chunk could not be written over otherwise: writing reads what is there first.
        """
        keys = [f"{name}/c/{chunk.row}/{chunk.col}" for chunk in chunks for name in self._names]

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

    def commit(self, message: str) -> None:
        """Make the changes permanent, see `darts_acquisition._storage.commit`."""
        commit(self._place, self._session, message)


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
