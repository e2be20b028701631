"""The version of the results of this package."""

RESULTS_VERSION: int = 2
"""Version of the numbers that this package gives, which are extent, masked probabilities and objects.

Raised by hand whenever a number changes by more than rounding, so that finished results count as outdated; a release
that changes none keeps it. A test compares the numbers with reference results, and fails where this was forgotten.
"""
