"""Understand the published kinds of checkpoints: where they keep architecture, bands and weights."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from darts_segmentation.archive import StandIn, check_stored, load_checkpoint
from darts_segmentation.card import ModelCard
from darts_segmentation.errors import ModelCardError

_LIGHTNING_PREFIX = "model."
_COMPILED_PREFIX = "_orig_mod."


def read_checkpoint(path: Path) -> tuple[str, ModelCard, dict[str, Any]]:
    """Read a checkpoint of DARTS v1, DARTS v2 or Lightning.

    Their networks were trained on bands that are scaled by the ranges of the band table, so the card names those.
    ``norm_factors`` of v1 files describe how the bands were stored on disk, and do not matter here.

    Args:
        path: A file that ``torch.save`` wrote.

    Returns:
        Name of the kind, model card, state dict.

    Raises:
        UnsafeModelError: If the file contains more than data.
        BrokenModelError: If it is damaged.
        ModelCardError: If it lacks the architecture, the bands or the weights.
        UnknownBandError: If it names a band that the band table does not know.
    """
    content = load_checkpoint(path)
    if not isinstance(content, Mapping):
        raise ModelCardError(
            f"{path} holds a {type(content).__name__}; expected a dict with 'config' and 'statedict' (DARTS), or with "
            "'hyper_parameters' and 'state_dict' (Lightning)."
        )
    kind, config, states = _parts(path, content)
    try:
        card = ModelCard(
            name=path.stem,
            architecture=_entry(config, "model", Mapping),
            bands=_bands_of(config),
            patch_size=_patch_size(config),
            description=f"Read from a checkpoint of kind {kind}.",
        )
    except ModelCardError as error:
        raise ModelCardError(f"{path}: {error}") from error
    check_stored(path, states)
    return kind, card, states


def _parts(path: Path, content: Mapping[Any, Any]) -> tuple[str, Mapping[str, Any], dict[str, Any]]:
    try:
        if "hyper_parameters" in content:
            config = _entry(_entry(content, "hyper_parameters", Mapping), "config", Mapping)
            states = _entry(content, "state_dict", Mapping)
            own = {
                k.removeprefix(_LIGHTNING_PREFIX): v for k, v in states.items() if str(k).startswith(_LIGHTNING_PREFIX)
            }
            kind = "Lightning"
        else:
            config = _entry(content, "config", Mapping)
            own = dict(_entry(content, "statedict", Mapping))
            kind = "DARTS v1" if "input_combination" in config else "DARTS v2"
    except ModelCardError as error:
        raise ModelCardError(f"{path}: {error}") from error
    return kind, config, {_plain_name(name): tensor for name, tensor in own.items()}


def _plain_name(name: Any) -> Any:
    """Return the name that a weight has in a network that is not compiled."""
    return name.removeprefix(_COMPILED_PREFIX) if isinstance(name, str) else name


def _entry(content: Mapping[Any, Any], key: str, kind: type) -> Any:
    if key not in content:
        found = ", ".join(repr(str(name)[:40]) for name in list(content)[:10])
        raise ModelCardError(f"The checkpoint lacks {key!r}; it has {found or 'nothing'}.")
    value = content[key]
    if not isinstance(value, kind):
        raise ModelCardError(f"{key!r} in the checkpoint is a {type(value).__name__}; expected a dict.")
    return value


def _patch_size(config: Mapping[str, Any]) -> int | None:
    size = config.get("patch_size")
    return size if isinstance(size, int) and size > 0 else None


def _bands_of(config: Mapping[str, Any]) -> list[str]:
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


def band_names(value: Any) -> list[str] | None:
    """Find the list of band names in what a checkpoint has for bands.

    Args:
        value: A list of names; a dict with the list under ``bands``; or the stand-in for a foreign object that holds
            the list, of names or of objects with a name.

    Returns:
        The names, None where there is no list of them or more than one.

    Examples:
        >>> band_names({"bands": ["red", "ndvi"], "factors": [1.0, 2.0]})
        ['red', 'ndvi']
        >>> band_names([["red"]]) is None
        True
    """
    return _band_names(value, _DEEPEST)


# A pickle can share one dict among others so often that following them all would never end.
_DEEPEST = 5
_WIDEST = 16


def _band_names(value: Any, depth: int) -> list[str] | None:
    if depth == 0:
        return None
    if isinstance(value, StandIn):
        state = value.state if isinstance(value.state, tuple) else (value.state,)
        return next(filter(None, (_band_names(part, depth - 1) for part in (*state, *value.arguments))), None)
    if isinstance(value, Mapping):
        if "bands" in value:
            return _band_names(value["bands"], depth - 1)
        found = list(filter(None, (_band_names(part, depth - 1) for part in islice(value.values(), _WIDEST))))
        return found[0] if len(found) == 1 else None
    if not isinstance(value, list | tuple):
        return None
    names = [name for name in map(_name_of, value) if name is not None]
    return names if names and len(names) == len(value) else None


def _name_of(item: Any) -> str | None:
    """Return the name of a band from its name, a dict with it, or the stand-in for a foreign object."""
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping):
        return item["name"] if isinstance(item.get("name"), str) else None
    if not isinstance(item, StandIn):
        return None
    # Attributes come as a dict, those of a class with slots as the second of two.
    parts = [*(item.state if isinstance(item.state, list | tuple) else (item.state,)), *item.arguments]
    return next((_name_of(part) for part in parts if isinstance(part, str | Mapping)), None)
