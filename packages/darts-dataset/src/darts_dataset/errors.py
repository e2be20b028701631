"""The errors and warnings of this package."""

from darts_utils import DartsError, DartsWarning


class DatasetError(DartsError, ValueError):
    """A dataset cannot be made out of what was given, or a folder holds none."""


class LeftOutWarning(DartsWarning):
    """Results of a tile are damaged or incomplete and were left out."""


class CloudyGroundWarning(DartsWarning):
    """Ground under clouds, shadows or snow counts as seen, so that slumps there look gone."""


class MixedResultsWarning(DartsWarning):
    """Results were made by several models, or with several settings, and what differs between them may be that."""
