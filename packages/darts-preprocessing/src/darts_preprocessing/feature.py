"""What a feature is: its band, what it needs, its margin and its kernels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from darts_preprocessing.backends import Interior
from darts_preprocessing.backends.interface import Array
from darts_preprocessing.grid import Length, to_window
from darts_preprocessing.nodes import Nodes
from darts_utils import Band

if TYPE_CHECKING:
    import xarray as xr

    from darts_preprocessing.backends.jit import Kernel


@dataclass(frozen=True)
class Request:
    """What the caller says about features, before anything is read.

    Attributes:
        attrs: Attributes of the tile.
        options: What was given to :func:`preprocess_v2` or to the function of one feature, by name.
        cell: Side of a cell in metres; NaN where the grid is not known.
    """

    attrs: Mapping[Hashable, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    cell: float = float("nan")


@dataclass(frozen=True)
class Inputs:
    """What a kernel works on.

    Attributes:
        xp: The module of the arrays: numpy, or cupy.
        arrays: What the feature needs, by name, (y, x), contiguous: float32, NaN where there is no data. ``dem`` has a
            margin around the interior, the others have the interior's shape.
        interior: Where the tile lies in ``dem``.
        cell: Side of a cell in metres.
        settings: What :attr:`Feature.prepare` made of the request, by feature.
        north: Returns where true north is on the interior; None where grid north is taken for it.
    """

    xp: ModuleType
    arrays: Mapping[str, Array]
    interior: Interior
    cell: float = float("nan")
    settings: Mapping[str, Any] = field(default_factory=dict)
    north: Callable[[], Nodes] | None = None

    def __getitem__(self, name: str) -> Array:
        """Return an array by name."""
        return self.arrays[name]

    @property
    def core(self) -> Interior:
        """The earlier name of `interior`."""
        return self.interior


Compute: TypeAlias = "Callable[[Inputs, Sequence[str]], dict[str, Any]]"


@dataclass(frozen=True, eq=False)
class Kernels:
    """What computes a feature, or several in one pass: those that have the same kernels.

    Attributes:
        cpu: Takes inputs of numpy and the names of the features that are wanted; returns their values by name, (y, x)
            of the interior's shape and the dtype of the band.
        gpu: Likewise with whole-array operations of ``inputs.xp``, where the inputs lie.
        compiled: The kernels that `cpu` calls, which may be compiled ahead.
    """

    cpu: Compute
    gpu: Compute
    compiled: tuple[Kernel, ...] = ()

    @classmethod
    def of_one(
        cls,
        cpu: Callable[[Inputs], Array],
        gpu: Callable[[Inputs], Array] | None = None,
        compiled: tuple[Kernel, ...] = (),
    ) -> Kernels:
        """Make them of functions that return the values of one feature; `gpu` None means that `cpu` takes both."""
        return cls(
            lambda inputs, names: {names[0]: cpu(inputs)},
            lambda inputs, names: {names[0]: (gpu or cpu)(inputs)},
            compiled,
        )


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A variable that preprocessing computes.

    Attributes:
        band: Its row of the band table: name, range, unit, no data.
        definition: What it is, in a line of Markdown.
        needs: Names of what it is computed from: bands of the tile, variables of auxiliary data, other features. What
            is computed from other features is computed pixel by pixel.
        kernels: What computes it; None where it is resampled from auxiliary data.
        auxiliary: The auxiliary data whose variable of the same name it is.
        is_cubic: Whether that is resampled by cubic convolution, or else takes the nearest cell.
        prepare: Turns the request into the feature's settings, and raises where it cannot be met.
        margin: Cells around a cell that it looks at, or a function of the settings that returns them.
        describe: Returns attributes of the result, given the request and the settings.
        by_default: Whether it is computed where nobody names features.
        function: Computes it alone, for a Dataset.
    """

    band: Band
    definition: str
    needs: tuple[str, ...] = ()
    kernels: Kernels | None = None
    auxiliary: Literal["arcticdem", "tcvis"] | None = None
    is_cubic: bool = True
    prepare: Callable[[Request], object] | None = None
    margin: int | Callable[[Any], int] = 0
    describe: Callable[[Request, Any], dict[str, str]] | None = None
    by_default: bool = False
    function: Callable[..., xr.Dataset] | None = None

    def reach(self, request: Request) -> int:
        """Return how many cells around a cell it looks at."""
        if not callable(self.margin):
            return self.margin
        return self.margin(None if self.prepare is None else self.prepare(request))

    @property
    def name(self) -> str:
        """Name of the variable."""
        return self.band.name


def window_of(default: Length) -> Callable[[Request], int]:
    """Return what turns a request into the side of a square window in cells, see :func:`to_window`."""
    return lambda request: to_window(request.options.get("window", default), request.cell, "window")
