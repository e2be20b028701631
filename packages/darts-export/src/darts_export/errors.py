"""The errors of this package."""

from darts_utils import DartsError, ManifestError

__all__ = ["ExportError", "ExportTargetError", "ManifestError"]


class ExportError(DartsError, OSError):
    """A file or folder could not be written. Nothing half-written is left under the final name."""


class ExportTargetError(DartsError, FileExistsError):
    """The target is a file, or a folder with files that an export must not replace. The message names them."""
