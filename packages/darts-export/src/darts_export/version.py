"""The version of this package, as the files carry it."""

from importlib.metadata import version

VERSION = version("darts-export")
