"""Describe the fields of a pipeline once: type, default, help text, and what a change of it means.

The command's options, the configuration file, the checks of values and the fingerprint of a result are all made from
these descriptions.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from darts_utils import DefaultPaths

AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""A path that means the same wherever a configuration is read again."""


def _location(path: object) -> object:
    if not isinstance(path, str | os.PathLike):
        return path
    text = os.fspath(path)
    return text if "://" in text else str(Path(text).expanduser().absolute())


CubeLocation = Annotated[Path | str, BeforeValidator(_location)]
"""Where a datacube lies: a folder, as an absolute path, or ``s3://bucket/prefix``."""

_KEY = "darts"


def option(
    default: object = dataclasses.MISSING,
    *,
    help: str,  # noqa: A002 - the word that readers of a command line expect
    panel: str = "Input and output",
    affects_results: bool = False,
    factory: Callable[[], object] | None = None,
    **constraints: object,
) -> Any:
    """Declare a field of a pipeline.

    Args:
        default: Default value; without one and without a `factory` the field has to be given.
        help: What it means, one sentence; stands in the command's help.
        panel: Heading under which the command's help shows it.
        affects_results: Whether a tile computed with another value counts as not computed.
        factory: Makes the default, for mutable ones.
        **constraints: What pydantic checks, for example ``ge=0``.

    Returns:
        A field of a dataclass, to be assigned in the class body.
    """
    described = {"help": help, "panel": panel, "affects_results": affects_results, "constraints": constraints}
    made: dict[str, Any] = {"default": default} if factory is None else {"default_factory": factory}
    return dataclasses.field(**made, kw_only=True, metadata={_KEY: described})


@dataclass(frozen=True)
class Option:
    """One field of a pipeline, as its class declares it.

    Attributes:
        name: Name of the field.
        annotation: Its type, with what checks it.
        default: Its default value.
        help: What it means.
        panel: Heading under which the help shows it.
        affects_results: Whether results depend on it.
        constraints: What pydantic checks.
    """

    name: str
    annotation: object
    default: object
    help: str
    panel: str
    affects_results: bool
    constraints: Mapping[str, Any]


def options_of(pipeline: type) -> Iterator[Option]:
    """List the fields of a pipeline class that were declared with :func:`option`, in their order."""
    hints = get_type_hints(pipeline, include_extras=True)
    for field in fields(pipeline):
        if _KEY in field.metadata:
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            yield Option(field.name, hints[field.name], default, **field.metadata[_KEY])


@functools.cache
def _checks_of(pipeline: type) -> type[BaseModel]:
    """Make a model of pydantic out of the fields that were declared with :func:`option`."""
    declared = {
        item.name: (_without_truth_values(item.annotation), Field(**item.constraints)) for item in options_of(pipeline)
    }
    return create_model(pipeline.__name__, __config__=ConfigDict(extra="forbid"), **declared)  # type: ignore[call-overload]


def _without_truth_values(annotation: object) -> object:
    """Let no true or false pass for a number, as it would, being an int for Python."""
    kinds = set(_kinds_within(annotation))
    if not kinds & {int, float} or bool in kinds:
        return annotation

    def refuse(value: object) -> object:
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, bool):
                raise ValueError(f"should be a number, not {str(each).lower()}")  # noqa: TRY004 - what pydantic reports
        return value

    return Annotated[annotation, BeforeValidator(refuse)]


def _kinds_within(annotation: object) -> Iterator[object]:
    """Yield the types that an annotation is made of: of a union, of a list, behind checks and among literals."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
        return
    yield annotation
    for part in get_args(annotation):
        yield from _kinds_within(part) if not isinstance(part, BeforeValidator | AfterValidator) else ()


def check_values(pipeline: object) -> None:
    """Check the fields of a pipeline that were declared with :func:`option`, and bring them into their types, in place.

    Raises:
        pydantic.ValidationError: If a value cannot be.
    """
    checks = _checks_of(type(pipeline))  # type: ignore[arg-type]
    checked = checks.model_validate({name: getattr(pipeline, name) for name in checks.model_fields})
    for name in checks.model_fields:
        setattr(pipeline, name, getattr(checked, name))


class _Resolved:
    """Marks a value that took the place of None when a pipeline was made, and is not what was given."""

    marked = True


class _ResolvedPath(_Resolved, type(Path())):  # type: ignore[misc]
    """Paths that are made from it, as those of its files, are of its class and not marked."""

    marked = False

    def __reduce__(self) -> tuple[Callable[[Path], Path], tuple[Path]]:
        plain = Path(str(self))
        return (resolved if self.marked else Path, (plain,))


class _ResolvedText(_Resolved, str):
    __slots__ = ()


class _ResolvedNumber(_Resolved, int):
    __slots__ = ()


class _ResolvedList(_Resolved, list[Any]):
    pass


_KINDS: tuple[tuple[type, type], ...] = (
    *((Path, _ResolvedPath), (str, _ResolvedText)),
    *((int, _ResolvedNumber), (list, _ResolvedList)),
)
Value = TypeVar("Value")


def resolved(value: Value) -> Value:
    """Return a value that stands where None was given, equal to `value`; see :func:`given`."""
    for kind, marks in _KINDS:
        if isinstance(value, kind):
            marked = marks(value)
            marked.marked = True
            return marked
    return value


def given(value: Value) -> Value | None:
    """Return a field's value as it was given: None where it was resolved."""
    return None if isinstance(value, _Resolved) and value.marked else value


Unresolved = BeforeValidator(given)
"""What checks a field that is resolved where it is None: it is None again where a resolved value is handed on."""


PATH_OPTIONS = {
    "darts_dir": "Root of the fast and the large folder; else DARTS_DATA_DIR, else the working directory.",
    "fast_dir": "Folder of models and training; else DARTS_FAST_DATA_DIR, else the darts folder.",
    "large_dir": "Folder of datacubes, images and results; else DARTS_LARGE_DATA_DIR, else the darts folder.",
}
"""The three roots of :class:`darts_utils.DefaultPaths` as options of their own, with their help."""


def known_keys(*pipelines: type) -> set[str]:
    """Name everything that a configuration may set for one of these pipelines."""
    return {item.name for pipeline in pipelines for item in options_of(pipeline)} | set(PATH_OPTIONS)


def build(pipeline: type, values: dict[str, Any]) -> Any:
    """Make a pipeline from flat values, the three folders among them.

    Raises:
        pydantic.ValidationError: If a value is wrong or a name unknown.
    """
    folders = {field.name: values[field.name] for field in fields(DefaultPaths) if field.name in values}
    others = {name: value for name, value in values.items() if name not in folders}
    return pipeline(default_dirs=DefaultPaths(**folders), **others)
