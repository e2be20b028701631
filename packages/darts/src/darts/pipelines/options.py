"""Describe the fields of a pipeline once: type, default, help text, and what a change of it means.

The command's options, the configuration file and the fingerprint of a result are all made from these descriptions.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from darts_utils import DefaultPaths

AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""A path that means the same wherever a configuration is read again."""


def _place(path: Any) -> Any:
    if not isinstance(path, str | os.PathLike):
        return path
    text = os.fspath(path)
    return text if "://" in text else str(Path(text).expanduser().absolute())


CubePlace = Annotated[Path | str, BeforeValidator(_place)]
"""Where a datacube lies: a folder, as an absolute path, or ``s3://bucket/prefix``."""


def option(
    default: Any = ...,
    *,
    help: str,  # noqa: A002 - the word that readers of a command line expect
    panel: str,
    affects_results: bool = False,
    factory: Callable[[], Any] | None = None,
    **constraints: Any,
) -> Any:
    """Declare a field of a pipeline.

    Args:
        default: Default value.
        help: What it means, one sentence; stands in the command's help.
        panel: Heading under which the command's help shows it.
        affects_results: Whether a tile computed with another value counts as not computed.
        factory: Makes the default, for mutable ones.
        **constraints: What pydantic checks, for example ``ge=0``.

    Returns:
        The field's description, to be assigned in the class body.
    """
    extra: JsonDict = {"panel": panel, "affects_results": affects_results}
    if factory is not None:
        return Field(default_factory=factory, description=help, json_schema_extra=extra, **constraints)
    return Field(default=default, description=help, json_schema_extra=extra, **constraints)


@dataclass(frozen=True)
class Option:
    """One field of a pipeline, as its class declares it.

    Attributes:
        name: Name of the field.
        annotation: Its type.
        default: Its default value.
        help: What it means.
        panel: Heading under which the help shows it.
        affects_results: Whether results depend on it.
    """

    name: str
    annotation: Any
    default: Any
    help: str
    panel: str
    affects_results: bool


def options_of(pipeline: type) -> Iterator[Option]:
    """List the fields of a pipeline class that were declared with :func:`option`, in their order."""
    descriptions: dict[str, FieldInfo] = pipeline.__pydantic_fields__  # type: ignore[attr-defined]
    for name, info in descriptions.items():
        extra = info.json_schema_extra
        if not isinstance(extra, dict) or "panel" not in extra:
            continue
        yield Option(
            name=name,
            annotation=info.annotation,
            default=info.get_default(call_default_factory=True, validated_data={}),
            help=info.description or "",
            panel=str(extra["panel"]),
            affects_results=bool(extra["affects_results"]),
        )


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

    Args:
        pipeline: The pipeline's class.
        values: Values by name; what is absent takes its default.

    Returns:
        The pipeline.

    Raises:
        pydantic.ValidationError: If a value is wrong or a name unknown.
    """
    roots = {field.name for field in fields(DefaultPaths)}
    folders = {name: value for name, value in values.items() if name in roots}
    others = {name: value for name, value in values.items() if name not in roots}
    return pipeline(default_dirs=DefaultPaths(**folders), **others)
