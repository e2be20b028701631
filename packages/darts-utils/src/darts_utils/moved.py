"""Say where a name of the original DARTS is here, to code that still imports it."""

from collections.abc import Callable, Mapping
from typing import Any


def moved_names(module: str, replacements: Mapping[str, str], others: Callable[[str], Any] | None = None) -> Callable:
    """Make a module's ``__getattr__`` that tells who imports a name of the original DARTS what to use instead.

    Args:
        module: Name of the module.
        replacements: What to use here, by the name there; for example ``{"load_s2_from_gee": "darts_acquisition.…"}``.
        others: Finds all other names; None where there are none.

    Returns:
        A function that raises ImportError for the names in `replacements`, since an AttributeError would lose its
        message in ``from module import name``.
    """

    def get(name: str) -> Any:
        if name in replacements:
            raise ImportError(f"{module}.{name} is of the original DARTS; use {replacements[name]} here.", name=module)
        if others is not None:
            return others(name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get
