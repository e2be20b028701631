"""The warnings of this package; its errors are those of darts_utils."""

from darts_utils import DartsWarning


class SunAngleWarning(DartsWarning):
    """The tile does not know where the sun stood; 225° as azimuth, or 25° above the horizon, takes its place."""


class ShortMarginWarning(DartsWarning):
    """The elevations end before features have what they look at around the tile; its border is not as its middle."""


class KernelCacheWarning(DartsWarning):
    """The compiled kernels of the CPU cannot be kept on disk; every process compiles them anew."""
