"""The errors and warnings of this package."""

from darts_utils import DartsError, DartsWarning


class LabelsError(DartsError, ValueError):
    """Labels or their area cannot be used: they are empty, have no CRS, or cannot be read."""


class PredictionsError(DartsError, ValueError):
    """There is nothing to evaluate: no finished results, or files that an evaluation needs are absent."""


class RepairedLabelsWarning(DartsWarning):
    """Labels held invalid or empty geometries, which were repaired or left out."""


class FewBlocksWarning(DartsWarning):
    """So few blocks of ground hold something that intervals promise more than they hold."""


class NoLabelAreaWarning(DartsWarning):
    """Nothing says where the labels are complete, so that nothing is said about false alarms."""
