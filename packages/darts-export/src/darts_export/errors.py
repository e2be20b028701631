"""The errors of this package."""

from darts_utils import DartsError


class ExportError(DartsError, OSError):
    """A file or folder could not be written. Nothing half-written is left under the final name."""


class ExportTargetError(DartsError, FileExistsError):
    """The target folder exists and holds files that no export wrote."""


class ManifestError(DartsError, FileNotFoundError):
    """A folder holds no readable manifest of an export."""
