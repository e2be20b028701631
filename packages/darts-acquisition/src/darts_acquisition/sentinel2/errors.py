"""The errors and warnings of Sentinel-2 acquisition."""

from darts_acquisition.errors import ChecksumError
from darts_utils import DartsError, DartsWarning

__all__ = [
    "AreaError",
    "ChecksumError",
    "RawStoreError",
    "RepairedGeometryWarning",
    "SceneNotStoredError",
    "WideEdgeWarning",
]


class AreaError(DartsError, ValueError):
    """An area of interest cannot be used: it is empty, has no CRS, or cannot be read."""


class SceneNotStoredError(DartsError, LookupError):
    """A scene, or a band of it, is not in the local store, and nothing may be fetched."""


class RawStoreError(DartsError, OSError):
    """The local store of a scene is damaged, or was written by another version."""


class RepairedGeometryWarning(DartsWarning):
    """An area of interest held invalid geometries, which were repaired."""


class WideEdgeWarning(DartsWarning):
    """An area of interest has an edge of more than 180 degrees of longitude, read as crossing the antimeridian."""
