"""A product of the size of the Arctic, that knows for each of its chunks whether it is there."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import icechunk
import numpy as np
import zarr
from odc.geo.geobox import GeoBox

from darts_acquisition.cube.areas import AreaLike, chunks_of, describe_missing, product_windows
from darts_acquisition.cube.layout import ChunkState, lay_out
from darts_acquisition.cube.product import Chunk, CubeProduct, Window, aligned_window
from darts_acquisition.cube.repository import BRANCH, Location, check_list, create_repository, open_repository, reading
from darts_acquisition.cube.transaction import IDENTITIES, Snapshot, Transaction, check_arrays, identities_to_json
from darts_acquisition.errors import (
    CubeConflictError,
    CubeError,
    CubeExistsError,
    CubeNotFoundError,
    ForeignCubeError,
    MissingAuxiliaryDataError,
)
from darts_acquisition.io.settings import S3Settings
from darts_acquisition.tile import AnyPath, as_variable
from darts_utils import GridError, ParameterError, step

if TYPE_CHECKING:
    import xarray as xr


class Datacube:
    """One product in one Icechunk repository (Zarr v3): its whole extent as the grid, filled chunk by chunk.

    A chunk (`product.chunk_px` pixels square) is missing, filled, or empty at the provider. That state, and a digest of
    what a filled chunk holds, are written in the same transaction as the data, so a writer that dies leaves the cube as
    it was, and a reader sees the cube before a write or after it, never between. Each chunk is a shard of every
    variable's array, of which a read touches only those Zarr chunks that it needs.

    An area is a window of the cube's grid or a geobox made of its pixels; a GridError says that it is neither.

    Attributes:
        path: Folder of the repository, or its address in object storage.
        product: What the cube holds.
    """

    def __init__(self, location: Location, product: CubeProduct, repository: icechunk.Repository) -> None:
        self.path: Path | str = str(location) if location.folder is None else location.folder
        self.product = product
        self._location = location
        self._repository = repository

    @classmethod
    def create(cls, path: AnyPath, product: CubeProduct, *, s3: S3Settings | None = None) -> "Datacube":
        """Create a cube in which every chunk is missing. A process that dies meanwhile leaves no cube there.

        Args:
            path: Folder to create, or an empty one, or ``s3://bucket/prefix``.
            product: What the cube holds.
            s3: Which object storage; None for what the environment names.

        Raises:
            CubeExistsError: If there is something at the path.
            CubeError: If nothing can be written there.
            ParameterError: If the product's chunks do not fit together, or the path is an address of another kind.
        """
        if product.chunk_px < 1 or product.inner_px < 1 or product.chunk_px % product.inner_px:
            raise ParameterError(
                f"chunk_px is {product.chunk_px} and inner_px {product.inner_px}; the second must divide the first."
            )
        location = Location.parse(path, s3)
        create_repository(location, lambda session: lay_out(session, product), f"Create {product.collection}")
        return cls.open(path, s3=s3)

    @classmethod
    def open(cls, path: AnyPath, *, s3: S3Settings | None = None) -> "Datacube":
        """Open a cube; the arguments are those of `create`.

        Raises:
            CubeNotFoundError: If there is nothing at the path, or an empty folder.
            ForeignCubeError: If there is a datacube of smart-geocubes, which `import_cube` takes over.
            CubeError: If there is something else, or what may not be read, or a cube of a format that this version
                cannot read.
            ParameterError: If the path is an address of another kind.
        """
        location = Location.parse(path, s3)
        repository = open_repository(location)
        try:
            group = zarr.open_group(repository.readonly_session(BRANCH).store, mode="r")
            product = CubeProduct.from_attrs(group.attrs.asdict())
        except ForeignCubeError as error:
            raise ForeignCubeError(f"{location} is no datacube of DARTS. {error}") from error
        except (FileNotFoundError, CubeError) as error:  # no Zarr group, or not ours
            raise CubeError(f"{location} is no datacube of DARTS, or a damaged one: {error}") from error
        return cls(location, product, repository)

    @classmethod
    def open_or_create(cls, path: AnyPath, product: CubeProduct, *, s3: S3Settings | None = None) -> "Datacube":
        """Open the cube of a product, and create it where there is nothing. Several processes may do so at once.

        The arguments are those of `create`.

        Raises:
            CubeError: If there is something else at the path, or the cube of another product.
            ParameterError: If the path is an address of another kind.
        """
        try:
            cube = cls.open(path, s3=s3)
        except CubeNotFoundError:
            with contextlib.suppress(CubeExistsError):  # Another process was faster.
                cls.create(path, product, s3=s3)
            cube = cls.open(path, s3=s3)
        cube.check_holds(product)
        return cube

    def check_holds(self, product: CubeProduct) -> None:
        """Check that the cube holds a product.

        Raises:
            CubeError: If it holds another collection, or one on another grid.
        """
        if (self.product.collection, self.geobox) != (product.collection, product.geobox):
            raise CubeError(
                f"{self.path} holds {self.product.collection}; expected {product.collection}. "
                "A cube holds one product at one resolution: ask for those of this one, or name another place."
            )

    def __repr__(self) -> str:
        return f"<Datacube {self.product.collection} at {self.path}>"

    @property
    def geobox(self) -> GeoBox:
        """The whole grid of the product, most of which a cube usually does not hold."""
        return self.product.geobox

    def window(self, area: GeoBox, buffer: int = 0) -> Window:
        """Return the smallest window of the cube's grid that holds an area, cut off at the edges of the grid.

        The area may be in any CRS; `buffer` pixels of the cube are added on every side. ``cube.geobox[window]`` is the
        window's geobox. OutsideExtentError if the area lies wholly outside the grid, ParameterError if `buffer` is
        negative.

        Raises:
            GridError: If the area has no CRS, or crosses the edge of a grid that goes around the world, see `windows`.
        """
        windows = self.windows(area, buffer)
        if len(windows) > 1:
            raise GridError(
                f"The area crosses the antimeridian, where the grid of {self.product.collection} begins and ends; "
                "Datacube.windows returns the two windows that hold it."
            )
        return windows[0]

    def windows(self, area: GeoBox, buffer: int = 0) -> list[Window]:
        """Do as `window`; where an area crosses the edge of a world-wide grid, return both parts, the western first."""
        return product_windows(self.product, area, buffer)

    def states(self, area: GeoBox | Window) -> np.ndarray:
        """Return what the cube knows about the chunks that an area touches: 2-D uint8, one `ChunkState` per chunk."""
        block = self._part(area).in_chunks(self.product.chunk_px)
        with self._now() as snapshot:
            return snapshot.block(block)

    def states_of(self, chunks: Sequence[Chunk]) -> np.ndarray:
        """Return what the cube knows of chunks: 1-D uint8, a `ChunkState` each; ParameterError if one lies outside."""
        with self._now() as snapshot:
            return snapshot.states(self._inside(chunks))

    def missing_of(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Return those of some chunks that are neither filled nor known to be empty; errors as of `states_of`."""
        with self._now() as snapshot:
            return snapshot.missing(self._inside(chunks))

    def known(self) -> dict[Chunk, ChunkState]:
        """Return the chunks that are filled, or known to be empty, row by row. Costs nothing for those that are not."""
        with self._now() as snapshot:
            return snapshot.known()

    def identities(self, chunks: Sequence[Chunk] | None = None) -> dict[Chunk, str]:
        """Return for chunks (None for all known ones) what changes exactly when their content does; no pixel is read.

        A filled chunk has the digest of its content, 32 hexadecimal digits: the same in every cube that holds the same
        variables with the same values. One that was written by a release without digests has ``legacy:<cube>``, which
        copies of the cube share and no other cube, until that chunk itself is written. All others are ``empty`` or
        ``missing``. They come in the order of `chunks`, those of all row by row.

        Raises:
            ParameterError: If a chunk lies outside the cube.
        """
        with self._now() as snapshot:
            if chunks is None:
                known = snapshot.known()
                return snapshot.identities(self._repository, list(known), np.array(list(known.values()), "uint8"))
            wanted = [Chunk(*chunk) for chunk in self._inside(chunks)]
            return snapshot.identities(self._repository, wanted, snapshot.states(wanted))

    def chunks_of(self, area: AreaLike, buffer: int = 0) -> list[Chunk]:
        """List the chunks that an area touches, each once, row by row; of a tile's grid, those that loading it reads.

        The area is a grid, a geometry of odc.geo, a GeoDataFrame, or several of these, in any CRS; `buffer` pixels of
        the cube are added on every side. OutsideExtentError if it lies wholly outside the grid, GridError if it has no
        CRS, ParameterError if it is of another type, or empty, or `buffer` is negative.
        """
        return chunks_of(self.product, area, buffer)

    def check_lists(self) -> None:
        """Check that the cube's lists of what it holds can be read; CubeDamagedError if one cannot."""
        session = self._repository.readonly_session(BRANCH)
        for name in sorted(zarr.open_group(session.store, mode="r").array_keys()):
            check_list(self._location, session, name)

    def stored_bytes(self) -> int:
        """Return how many bytes the cube takes on its storage, history included."""
        return self._location.stored_bytes()

    def missing(self, area: GeoBox | Window) -> list[Chunk]:
        """List the chunks that an area touches and that are neither filled nor known to be empty, row by row."""
        return self._part(area).in_chunks(self.product.chunk_px).chunks(self.states(area) == ChunkState.MISSING)

    def chunk_geobox(self, chunk: Chunk) -> GeoBox:
        """Return the pixels of a chunk as a geobox; chunks at the lower and right edge of the grid end with it."""
        return self.geobox[self.product.chunk_window(chunk)]

    def read(
        self, area: GeoBox | Window, variables: Iterable[str] | None = None, *, how_to_fill: str = ""
    ) -> "xr.Dataset":
        """Read an area that is fully there: filled, or known to be empty, which reads as nodata.

        Args:
            area: A window of the cube's grid or a geobox made of its pixels.
            variables: Names of the variables to read; None for all of them.
            how_to_fill: Last sentence of the message where something is missing.

        Returns:
            Dataset with dimensions (y, x) on the cube's grid, CRS in `spatial_ref`, one variable per name, in the
            cube's data types. Its attribute `chunk_identities` says what the chunks held that it was read from, in the
            same state of the cube: JSON, ``{"row,column": identity}``, see `identities`.

        Raises:
            MissingAuxiliaryDataError: If a chunk that the area touches is missing.
            GridError: If the area is not part of the cube's grid.
            CubeDamagedError: If the storage has damaged what was written.
            ParameterError: If the cube has no variable of that name.
        """
        import xarray as xr

        window = self._part(area)
        known = {variable.name: variable for variable in self.product.variables}
        names = list(known if variables is None else variables)
        if unknown := [name for name in names if name not in known]:
            raise ParameterError(f"{self!r} has no variable {', '.join(unknown)}; it has {', '.join(known)}.")
        block = window.in_chunks(self.product.chunk_px)
        with self._now() as snapshot:
            states = snapshot.block(block)
        if missing := block.chunks(states == ChunkState.MISSING):
            problem = describe_missing(window, missing, self.product)
            raise MissingAuxiliaryDataError(f"{self!r}: {problem} {how_to_fill}".rstrip())
        with step(f"read {self.product.name} cube"), reading(self._location):
            values = snapshot.read([known[name] for name in names], window, states)
            identities = snapshot.identities(self._repository, block.chunks(), states.ravel())
        arrays = {name: as_variable(values[name], self.geobox[window], known[name].attrs) for name in names}
        attrs = {"collection": self.product.collection, "version": self.product.version}
        return xr.Dataset(arrays, attrs=attrs | {IDENTITIES: identities_to_json(identities)})

    def write(
        self, area: GeoBox | Window, arrays: "Mapping[str, object] | xr.Dataset", *, complete: bool = False
    ) -> list[Chunk]:
        """Write all variables of an area in one transaction, and record which chunks are filled by it.

        A chunk becomes filled where the area covers it whole. Where it covers a part, the data are kept and the chunk
        stays filled or missing as it was, unless `complete` declares it filled; one that was empty is missing then.

        Args:
            area: A window of the cube's grid or a geobox made of its pixels: ``cube.geobox[cube.window(tile.geobox)]``.
            arrays: For each variable of the cube an array of the area's shape and the variable's dtype. Not changed.
            complete: The provider has nothing beyond what is written here and was written before in the chunks that
                the area touches, so all of them become filled. What was never written in them is nodata.

        Returns:
            The chunks that are filled now and were not before, row by row.

        Raises:
            GridError: If the area is not part of the cube's grid.
            ParameterError: If a variable is absent or unknown, or an array has another shape or dtype.
            ValueRangeError: If `dem` holds what is no elevation: -9999, or NaN where `arcticdem_data_mask` is 1.
            CubeConflictError: If another process has written the same chunks meanwhile.
            CubeDamagedError: If a chunk of which a part is written is damaged elsewhere.
        """
        window = self._part(area)
        return self._begin().write(window, check_arrays(window, arrays, self.product), complete=complete)

    def complete(self, contents: Mapping[Chunk, Mapping[str, np.ndarray] | None]) -> list[Chunk]:
        """Write whole chunks in one transaction, as far as they are still missing, and return those, row by row.

        Of each chunk there is an array of the chunk's shape for each variable of the cube, or None where the provider
        has nothing. Several processes may do so at once, also with the same chunks: what another one has written
        meanwhile is left as it is.

        Raises:
            ParameterError: If a variable, a shape or a dtype is not that of the cube, or a chunk lies outside it.
            ValueRangeError: If an elevation is none, -9999 for example, or its mask is not 0 and 1.
            CubeBusyError: If another process has been writing for too long.
            CubeError: If the storage fails.
        """
        checked = {
            chunk: check_arrays(self.product.chunk_window(chunk), arrays, self.product) if arrays is not None else {}
            for chunk, arrays in zip(self._inside(contents), contents.values(), strict=True)
        }
        for _ in contents:
            with contextlib.suppress(CubeConflictError):  # Another process has completed one of them: less to do.
                return self._begin().complete(checked)
        return self._begin().complete(checked) if checked else []

    def forget(self, chunks: Iterable[Chunk]) -> None:
        """Drop some chunks in one transaction: their data go, and they are missing, so that they are fetched again.

        ParameterError if a chunk lies outside the cube, CubeConflictError if another process has written it meanwhile.
        """
        if dropped := self._inside(sorted(set(chunks))):
            self._begin().forget(dropped)

    def mark_empty(self, chunks: Iterable[Chunk]) -> None:
        """Record in one transaction that the provider has nothing in some chunks; they read as nodata from then on.

        ParameterError if a chunk is filled or outside the cube, CubeConflictError if another process has written it.
        """
        if marked := self._inside(sorted(set(chunks))):
            self._begin().mark_empty(marked)

    @contextlib.contextmanager
    def _now(self) -> Iterator[Snapshot]:
        with reading(self._location):
            yield Snapshot(self._repository.readonly_session(BRANCH), self.product)

    def _begin(self) -> Transaction:
        return Transaction(self._location, self._repository, self.product)

    def _inside(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        inside, (rows, cols) = list(chunks), self.product.window.in_chunks(self.product.chunk_px)
        for chunk in inside:
            if not (rows.start <= chunk[0] < rows.stop and cols.start <= chunk[1] < cols.stop):
                raise ParameterError(f"{chunk} lies outside the cube, which has {rows.stop} × {cols.stop} of them.")
        return inside

    def _part(self, area: GeoBox | Window) -> Window:
        if not isinstance(area, Window):
            return aligned_window(area, self.geobox)
        if area.intersection(self.product.window) != area:
            raise GridError(f"{area} is not within the datacube, which has {self.geobox.shape} pixels (rows, columns).")
        return area
