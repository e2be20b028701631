"""Understand the published kinds of checkpoints: where they keep architecture, bands and weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darts_segmentation.archive import HOW_TO_CONVERT, check_stored, load_checkpoint
from darts_segmentation.card import ModelCard
from darts_segmentation.classes import CLASS_FIELDS
from darts_segmentation.errors import ModelCardError, UnsafeModelError
from darts_segmentation.plain import Placeholder, plain

_LIGHTNING_PREFIX = "model."
_COMPILED_PREFIX = "_orig_mod."


def read_checkpoint(path: Path, described: Mapping[str, object]) -> tuple[str, ModelCard, dict[str, Any]]:
    """Read a checkpoint of DARTS v1, DARTS v2 or Lightning.

    Their networks were trained on bands that are scaled by the ranges of the band table, so the card names those.
    ``norm_factors`` of v1 files describe how the bands were stored on disk, and do not matter here.

    Args:
        path: A file that ``torch.save`` wrote.
        described: Fields of the card (`classes`, `target`, `activation`) that replace those of ``config``.

    Returns:
        Name of the kind, model card, state dict.

    Raises:
        UnsafeModelError: If the file contains more than data.
        BrokenModelError: If it is damaged.
        ModelCardError: If it lacks the architecture, the bands or the weights.
        UnknownBandError: If it names a band that the band table does not know.
    """
    content = load_checkpoint(path)
    if isinstance(content, Placeholder):
        raise UnsafeModelError(
            f"{path} holds an object of {content.full_name}, which only its own code could make use of. Nothing was "
            f"run. {HOW_TO_CONVERT}"
        )
    if not isinstance(content, Mapping):
        raise ModelCardError(
            f"{path} holds a {type(content).__name__}; expected a dict with 'config' and 'statedict' (DARTS), or with "
            "'hyper_parameters' and 'state_dict' (Lightning)."
        )
    try:
        kind, config, state_dict = _parts(content)
        card = ModelCard(
            name=path.stem,
            architecture=_plain_entry(config, "model"),
            bands=_bands_of(config),
            patch_size=_patch_size(config),
            description=f"Read from a checkpoint of kind {kind}.",
            **_classes(config, described),
        )
    except ModelCardError as error:
        raise ModelCardError(f"{path}: {error}") from error
    check_stored(path, state_dict)
    return kind, card, state_dict


def _parts(content: Mapping[object, object]) -> tuple[str, Mapping[str, Any], dict[Any, Any]]:
    """Return the kind of a checkpoint, its config as plain data, and its state dict."""
    is_lightning = "hyper_parameters" in content
    key = "state_dict" if is_lightning else "statedict"
    config = _plain_entry(_plain_entry(content, "hyper_parameters") if is_lightning else content, "config")
    # torch.compile puts its prefix wherever the compiled part begins.
    state_dict = {
        name.replace(_COMPILED_PREFIX, "") if isinstance(name, str) else name: tensor
        for name, tensor in _entry(content, key, content.get(key)).items()
    }
    if not is_lightning:
        return "DARTS v1" if "input_combination" in config else "DARTS v2", config, state_dict
    own = [name for name in state_dict if isinstance(name, str) and name.startswith(_LIGHTNING_PREFIX)]
    if not own:
        raise ModelCardError(f"No weight in 'state_dict' is named {_LIGHTNING_PREFIX!r}…; it has {_some(state_dict)}.")
    return "Lightning", config, {name.removeprefix(_LIGHTNING_PREFIX): state_dict[name] for name in own}


def _some(content: Mapping[object, object]) -> str:
    return ", ".join(repr(str(name)[:40]) for name in list(content)[:10]) or "nothing"


def _plain_entry(content: Mapping[Any, Any], key: str) -> Mapping[Any, Any]:
    return _entry(content, key, plain(content.get(key)))


def _entry(content: Mapping[object, object], key: str, value: object) -> Mapping[object, object]:
    """Return the value of an entry if it is there, and a dict."""
    if key not in content:
        raise ModelCardError(f"The checkpoint lacks {key!r}; it has {_some(content)}.")
    if not isinstance(value, Mapping):
        raise ModelCardError(f"{key!r} in the checkpoint is a {type(value).__name__}; expected a dict.")
    return value


def _classes(config: Mapping[str, object], described: Mapping[str, object]) -> dict[str, Any]:
    named = isinstance(config.get("classes"), list | tuple)
    return ({name: config.get(name) for name in CLASS_FIELDS} if named else {}) | dict(described)


def _patch_size(config: Mapping[str, object]) -> int | None:
    size = config.get("patch_size")
    return size if isinstance(size, int) and size > 0 else None


def _bands_of(config: Mapping[str, object]) -> list[str]:
    given = {key: config[key] for key in ("bands", "input_combination") if key in config}
    if not given:
        raise ModelCardError("The checkpoint's config lacks 'bands' (or 'input_combination', as DARTS v1 calls it).")
    lists = {key: band_names(value) for key, value in given.items()}
    unreadable = [key for key, names in lists.items() if names is None]
    if unreadable:
        raise ModelCardError(f"{unreadable[0]!r} in the checkpoint's config holds no list of band names.")
    first, *others = [names for names in lists.values() if names is not None]
    if any(other != first for other in others):
        raise ModelCardError("The checkpoint's config has 'bands' and 'input_combination', and they differ.")
    return first


def band_names(value: object) -> list[str] | None:
    """Find the list of band names in what a checkpoint has for bands.

    Args:
        value: Plain data: a list of names, or of dicts or tuples with a name; or a dict with the list, under ``bands``
            or as the only list of names in it.

    Returns:
        The names, None where there is no list of them or more than one.

    Examples:
        >>> band_names({"bands": ["red", "ndvi"], "factors": [1.0, 2.0]})
        ['red', 'ndvi']
        >>> band_names([["red"]]) is None
        True
    """
    if isinstance(value, Mapping):
        parts = [value["bands"]] if "bands" in value else list(value.values())
        found = [names for names in map(_names_in, parts) if names]
        return found[0] if len(found) == 1 else None
    return _names_in(value)


def _names_in(value: object) -> list[str] | None:
    if not isinstance(value, list | tuple):
        return None
    names = [name for name in map(_name_of, value) if name is not None]
    return names if names and len(names) == len(value) else None


def _name_of(item: object) -> str | None:
    """Return the name of a band from its name, a dict with it, or the arguments of the object that it was."""
    if isinstance(item, Mapping):
        item = item.get("name")
    if isinstance(item, tuple):
        item = next((part for part in item if isinstance(part, str)), None)
    return item if isinstance(item, str) else None
