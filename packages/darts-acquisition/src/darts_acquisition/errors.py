"""The errors and warnings of acquisition. Errors are DartsErrors and the standard class that people already catch."""

from dataclasses import dataclass

from darts_utils import DartsError, DartsWarning, GridError, NoDataError


class SceneError(DartsError, ValueError):
    """A delivery is there, but its files are not what the provider's format says."""


class EmptySceneError(SceneError, NoDataError):
    """A scene can be read and holds no data: every pixel of its images is 0. There is nothing to map."""


class SceneNameError(SceneError):
    """A folder's name is neither that of a PlanetScope scene nor that of an orthotile."""


class SceneNotFoundError(DartsError, FileNotFoundError):
    """A folder, or a file that a delivery must have, is absent."""


class SceneReadError(DartsError, OSError):
    """A file of a delivery cannot be read: it is truncated, damaged, or no image at all."""


class ChecksumError(SceneReadError):
    """A downloaded file has another size or checksum than the provider says, each time that it was fetched."""


class SceneGridError(SceneError, GridError):
    """An image or a mask lies on a grid that no tile can have, or the two lie on different grids."""


class CubeError(DartsError, ValueError):
    """What lies at a path is no datacube of this package, or not the one that was asked for."""


class ForeignCubeError(CubeError):
    """What lies at a path is a datacube of smart-geocubes, which `import_cube` takes over."""


class CubeDamagedError(CubeError):
    """A part of a datacube has changed on its storage since it was written."""


class CubeNotFoundError(DartsError, FileNotFoundError):
    """There is no datacube at a path."""


class CubeExistsError(DartsError, FileExistsError):
    """There is something at the path where a datacube was to be created."""


class CubeConflictError(DartsError, RuntimeError):
    """Another process has written the same chunk of a datacube in the meantime; nothing of this write was kept."""


class CubeBusyError(DartsError, TimeoutError):
    """Another process has been writing to a datacube for longer than anybody waits."""


class MissingAuxiliaryDataError(DartsError, LookupError):
    """An area is not fully present in a datacube, or the datacube is absent."""


class OutsideExtentError(DartsError, ValueError):
    """An area lies wholly outside what a product covers."""


@dataclass(frozen=True)
class Failure:
    """What an error says about a request.

    Attributes:
        reason: A few words for people, without addresses and credentials.
        transient: A retry can succeed: too many requests (429), the service failed (5xx), or the connection was
            refused, lost or too slow. Nothing else.
        status: HTTP status, None where no answer came.
        retry_after_s: Seconds that the service asks to wait, None where it says nothing.
        login: The service refused the login (401, 403), or there is none.
    """

    reason: str
    transient: bool
    status: int | None = None
    retry_after_s: float | None = None
    login: bool = False


class ServiceError(DartsError, ConnectionError):
    """A service refused a request, or failed until the last attempt.

    Attributes:
        failure: What the last answer said; None where the answer itself was wrong.
    """

    def __init__(self, message: str, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.failure = failure


class LoginError(ServiceError, PermissionError):
    """A service refused the login, or there is none. The message says what to do."""


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
