"""The errors and warnings of Sentinel-2 acquisition."""

from darts_acquisition.errors import SceneReadError
from darts_utils import DartsError, DartsWarning


class AreaError(DartsError, ValueError):
    """An area of interest cannot be used: it is empty, has no CRS, or cannot be read."""


class SceneNotStoredError(DartsError, LookupError):
    """A scene, or a band of it, is not in the local store, and nothing may be fetched."""


class RawStoreError(DartsError, OSError):
    """The local store of a scene is damaged, or was written by another version."""


class ChecksumError(SceneReadError):
    """A downloaded file has another size or checksum than the provider says, each time that it was fetched."""


class RepairedGeometryWarning(DartsWarning):
    """An area of interest held invalid geometries, which were repaired."""


class WideEdgeWarning(DartsWarning):
    """An area of interest has an edge of more than 180 degrees of longitude, read as crossing the antimeridian."""
