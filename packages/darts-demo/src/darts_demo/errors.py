"""Errors of landscapes and sample areas."""

from darts_utils import DartsError


class SampleAreaError(DartsError, FileExistsError):
    """A sample area cannot be made where something else is."""
