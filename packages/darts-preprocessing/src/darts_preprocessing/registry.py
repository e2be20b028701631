"""The features by name, each found where it is defined, and what follows from what they need."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

from darts_preprocessing.backends import resampling_kernels
from darts_preprocessing.feature import Feature, Request
from darts_utils import BANDS, InputTypeError, ParameterError, declared_bands

if TYPE_CHECKING:
    from darts_preprocessing.backends.jit import Kernel

_PACKAGE = "darts_preprocessing.features"


class Registry(Mapping[str, Feature]):
    """Every variable that :func:`preprocess_v2` can compute, by name.

    Holds what the modules of ``darts_preprocessing.features`` define, and the features among the bands that other
    packages declare (:func:`darts_utils.declared_bands`). Spectral indices that none of these names are not listed, but
    are found by their name in lower case, as in a ``defaultdict``.

    Examples:
        >>> FEATURES["slope"].band.units, FEATURES["slope"].needs
        ('degree', ('dem',))
        >>> "wdrvi" in FEATURES, FEATURES["wdrvi"].needs
        (False, ('nir', 'red'))
    """

    @cached_property
    def _modules(self) -> list[ModuleType]:
        package = importlib.import_module(_PACKAGE)
        return [importlib.import_module(f"{_PACKAGE}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]

    @cached_property
    def own(self) -> dict[str, Feature]:
        """The features that this package defines, in the order of the band table."""
        found = [feature for module in self._modules for feature in getattr(module, "FEATURES", ())]
        ranks = {name: rank for rank, name in enumerate(BANDS.data_model)}
        found.sort(key=lambda feature: (ranks.get(feature.name, len(ranks)), feature.name))
        return {feature.name: feature for feature in found}

    @property
    def _declared(self) -> dict[str, Feature]:
        """The features that other packages define."""
        tables = (table for table in declared_bands() if table is not self)
        return {name: table[name] for table in tables for name in table if isinstance(table[name], Feature)}

    def __getitem__(self, name: str) -> Feature:
        feature = self.own.get(name) or self._declared.get(name)
        if feature is not None:
            return feature
        for module in self._modules:
            find: Callable[[str], Feature | None] | None = getattr(module, "find", None)
            if find is not None and (feature := find(name)) is not None:
                return feature
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.own | self._declared)

    def __len__(self) -> int:
        return len(self.own | self._declared)

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._declared

    def __repr__(self) -> str:
        return f"<Features: {', '.join(self)}>"


FEATURES = Registry()
"""Every variable that :func:`preprocess_v2` can compute, by name."""


def default_features() -> dict[str, Feature]:
    """Return what is computed where nobody names features, by name."""
    return {name: feature for name, feature in FEATURES.items() if feature.by_default}


def find_features(names: Collection[str]) -> dict[str, Feature]:
    """Return features by name, in the order of the registry.

    Args:
        names: Names of features, or one.

    Raises:
        InputTypeError: If they are no names.
        ParameterError: If a name is not known.
    """
    given = _listed(names)
    if wrong := [each for each in given if not isinstance(each, str)]:
        raise InputTypeError(
            f"Expected names of features, such as 'slope', but got the {type(wrong[0]).__name__} {wrong[0]!r:.80}."
        )
    wanted = set(given)
    found = {name: FEATURES[name] for name in FEATURES if name in wanted}
    unknown = []
    for name in sorted(wanted.difference(found)):
        try:
            found[name] = FEATURES[name]
        except KeyError:
            unknown.append(name)
    if unknown:
        near = [match for name in unknown for match in difflib.get_close_matches(name.lower(), FEATURES, n=1)]
        hint = f" Did you mean {' and '.join(map(repr, near))}?" if near else ""
        raise ParameterError(
            f"features names {', '.join(unknown)}, which is unknown.{hint} Known features: {', '.join(FEATURES)}, and "
            "the indices of spyndex."
        )
    return found


@dataclass(frozen=True)
class Needs:
    """What must be there to compute some features.

    Attributes:
        features: These features and those that they are computed from, each after what it needs.
        bands: Bands of the tile.
    """

    features: dict[str, Feature]
    bands: tuple[str, ...]

    @property
    def resampled(self) -> list[Feature]:
        """The features that are taken from auxiliary data."""
        return [feature for feature in self.features.values() if feature.auxiliary is not None]

    @property
    def auxiliary(self) -> set[str]:
        """The auxiliary data that is needed: "arcticdem", "tcvis"."""
        return {str(feature.auxiliary) for feature in self.resampled}

    @property
    def given(self) -> tuple[str, ...]:
        """What is computed from nothing else: bands of the tile, and variables of auxiliary data."""
        return (*self.bands, *(feature.name for feature in self.resampled))

    def margin(self, request: Request) -> int:
        """Return how many cells around a cell are looked at."""
        return max((feature.reach(request) for feature in self.features.values()), default=0)

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels of the CPU that compute the features, in the order in which they are needed."""
        computed = (feature.kernels for feature in self.features.values() if feature.kernels is not None)
        return list(dict.fromkeys(kernel for kernels in computed for kernel in kernels.compiled))

    @property
    def every_kernel(self) -> list[Kernel]:
        """These, and before them the kernels that resample auxiliary data."""
        resampling = [kernel for each in self.resampled for kernel in resampling_kernels(each.is_cubic)]
        return list(dict.fromkeys([*resampling, *self.kernels]))


def needs_of(features: Iterable[Feature]) -> Needs:
    """Return what some features are computed from, and that in turn.

    Args:
        features: The features themselves, such as ``FEATURES["slope"]``, not their names.

    Returns:
        The features with all that they need. A name that is no listed feature is that of a band of the tile.

    Raises:
        InputTypeError: If something else is given.

    Examples:
        >>> needs = needs_of([FEATURES["northness"], FEATURES["ndvi"]])
        >>> list(needs.features), needs.bands, needs.auxiliary
        (['dem', 'slope', 'aspect', 'northness', 'ndvi'], ('nir', 'red'), {'arcticdem'})
    """
    found: dict[str, Feature] = {}
    bands: dict[str, None] = {}

    def add(feature: Feature) -> None:
        for name in feature.needs:
            if name in FEATURES:
                add(FEATURES[name])
            else:
                bands[name] = None
        found.setdefault(feature.name, feature)

    for feature in _as_features(features):
        add(feature)
    return Needs(found, tuple(bands))


def _as_features(given: object) -> list[Feature]:
    features = _listed(given)
    for each in features:
        if not isinstance(each, Feature):
            raise InputTypeError(
                f"Expected features, such as FEATURES['slope'], but got the {type(each).__name__} {each!r:.80}; "
                "FEATURES holds them by name."
            )
    return features


def _listed(given: object) -> list:
    return [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
