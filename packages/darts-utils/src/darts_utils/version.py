"""The version of the results of this package, and how each package tells its own version."""

from collections.abc import Callable

RESULTS_VERSION: int = 1
"""Version of the numbers that this package gives, which are the valid ranges and the normalisation of bands.

Raised by hand whenever a number changes by more than rounding, so that finished results count as outdated; a release
that changes none keeps it. A test compares the numbers with reference results, and fails where this was forgotten.
"""


def lazy_version(module: str, distribution: str) -> Callable[[str], str]:
    """Make a module's ``__getattr__`` that looks the version of its distribution up when somebody asks for it.

    Args:
        module: Name of the module.
        distribution: Name of the distribution that it belongs to.

    Returns:
        A function that knows ``__version__`` and no other name.
    """

    def get(name: str) -> str:
        if name != "__version__":
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version(distribution)

    return get
