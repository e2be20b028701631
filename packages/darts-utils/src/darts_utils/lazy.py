"""Let a package look up a public name, or its version, when somebody asks for it."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import lazy_loader


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
        return version(distribution)

    return get


def lazy_names(
    package: str, file: str, distribution: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make a package's ``__getattr__``, ``__dir__`` and ``__all__`` from its ``__init__.pyi``.

    The stub names each public name once, for people, for type checkers and for this function; the module that defines
    a name is imported when somebody asks for it, so that using one function does not load what the others need.

    Args:
        package: Name of the package, its ``__name__``.
        file: Path of its ``__init__.py``, its ``__file__``.
        distribution: Name of the distribution that it belongs to.

    Returns:
        The three of them; modules of the package and ``__version__`` are known too, though not among ``__all__``.
    """
    get, names, public = lazy_loader.attach_stub(package, file)
    public.sort(key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    others = lazy_version(package, distribution)

    def get_name(name: str) -> Any:
        if name in public:
            return get(name)
        if not name.startswith("_") and find_spec(f"{package}.{name}"):  # `package.module`, without importing it before
            return import_module(f"{package}.{name}")
        return others(name)

    return get_name, names, public
