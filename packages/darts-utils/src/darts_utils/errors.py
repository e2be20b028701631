"""The roots of the error and warning trees, and the members that more than one stage raises."""


class DartsError(Exception):
    """Base of every error that DARTS raises on purpose.

    Each subclass also derives from the standard class that people already catch.
    """

    def __str__(self) -> str:
        # KeyError would show the repr of its argument; a message is a sentence.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class ParameterError(DartsError, ValueError):
    """An argument has a value that cannot work."""


class MissingBandError(DartsError, KeyError):
    """A tile lacks a variable that this step needs."""


class UnknownBandError(DartsError, KeyError):
    """A band name that the band table does not know."""


class GridError(DartsError, ValueError):
    """A grid is absent, not north-up, not projected, or does not fit another one."""


class ValueRangeError(DartsError, ValueError):
    """A band holds values that cannot be in the unit they are taken for: integers of a file, percent, fill values."""


class InputTypeError(DartsError, TypeError):
    """An argument is of another kind than this function takes: an array where a Dataset is meant, for example."""


class DeviceError(DartsError, RuntimeError):
    """A GPU was asked for and does not work here."""


class NoDataError(DartsError, ValueError):
    """A scene holds no data at all, so that there is nothing to map: no failure, and no reason to retry."""


class ManifestError(DartsError, FileNotFoundError):
    """A folder holds no readable manifest of an export."""


class DartsWarning(UserWarning):
    """Base of every warning that DARTS gives.

    ``warnings.simplefilter("error", DartsWarning)`` forbids them all, and so does ``python -W error::UserWarning``, an
    option that Python reads before it can import this class.
    """


class DeviceFallbackWarning(DartsWarning):
    """A GPU was asked for, does not work here, and the CPU does the work instead."""


class BandDeclarationWarning(DartsWarning):
    """An installed package declares bands in a way that cannot be read; they are not known."""


class MovedFolderWarning(DartsWarning):
    """A folder is used where an earlier release put it; the message names the move to make."""


class ArealScaleWarning(DartsWarning):
    """Areas in the CRS of a grid differ from those on the ground by more than 3 %."""
