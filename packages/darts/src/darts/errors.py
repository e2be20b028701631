"""The errors of the pipelines and the command."""

from darts_utils import DartsError, DartsWarning


class ConfigurationError(DartsError, ValueError):
    """The configuration of a run cannot work; found before any tile is read."""


class NoTilesError(ConfigurationError, LookupError):
    """There is nothing to process where the configuration points."""


class FolderInUseError(ConfigurationError, BlockingIOError):
    """Another run writes into the folder of results."""


class SchedulerGoneError(DartsError, ConnectionError):
    """The scheduler of a cluster does not answer, or not any more."""


class NoWorkersError(ConfigurationError):
    """Every worker of a cluster was refused."""


class NoFileLocksWarning(DartsWarning):
    """The file system of the results has no locks, so a file that names host and process keeps other runs out."""


class IgnoredOptionWarning(DartsWarning):
    """An option was given that has no effect, because another one goes before it."""


class InputChangedError(DartsError, OSError):
    """A file was changed while it was read."""
