"""Find the models of a run: those that are named, or those of the default folder."""

import logging
from collections.abc import Sequence
from pathlib import Path

import darts_segmentation
from darts.errors import ConfigurationError
from darts.run.task import Engine
from darts_utils import DartsError

logger = logging.getLogger(__name__)

_MODEL_SUFFIXES = (".pt", ".ckpt", ".safetensors")


def find_models(model_files: Sequence[Path] | None, default_folder: Path, engine: Engine = "torch") -> dict[str, Path]:
    """Name the models of an ensemble.

    Args:
        model_files: Files or folders of models, or the one file of an ensemble, whose members are returned; None means
            every model in `default_folder`, each network once.
        default_folder: Where models lie by default.
        engine: What runs the networks; where one lies there as several kinds of file, that which it takes best.

    Returns:
        Paths by name; the name is that of the file without its ending.

    Raises:
        ConfigurationError: If there is none, one does not exist, two have the same name, or an ensemble's file is not
            the only one.
        ModelFileError: If an ensemble's file or a member of it cannot be used.
    """
    ensemble = find_ensemble(model_files)
    if ensemble is not None:
        return dict(darts_segmentation.read_ensemble(ensemble).members)
    if model_files is None:
        model_files = _each_once(models_in(default_folder), engine)
        if not model_files:
            raise ConfigurationError(
                f"No model in the default folder {default_folder}; put one there, or name one as model_files "
                "(--model-files)."
            )
    if not model_files:
        raise ConfigurationError("model_files is empty; name at least one model.")
    models: dict[str, Path] = {}
    for path in model_files:
        if not path.exists():
            raise ConfigurationError(f"The model file {path} does not exist; correct model_files (--model-files).")
        if not (path.is_file() or path.is_dir()):
            raise ConfigurationError(
                f"{path} is neither a file nor a folder, so no model; correct model_files (--model-files)."
            )
        name = path.stem if path.is_file() else path.name
        if name in models:
            raise ConfigurationError(f"Two models are called {name!r} ({models[name]} and {path}); rename one of them.")
        models[name] = path
    return models


def find_ensemble(model_files: Sequence[Path] | None) -> Path | None:
    """Return the file of an ensemble, where models are named by one; None where they are named one by one.

    Raises:
        ConfigurationError: If other models are named beside it.
    """
    files = [path for path in model_files or () if path.suffix == ".json"]
    if files and len(model_files or ()) > 1:
        raise ConfigurationError(f"{files[0]} is an ensemble, and other models are named beside it; name it alone.")
    return files[0] if files else None


def models_in(folder: Path) -> list[Path]:
    """List the models in a folder, in the order of their names."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if _looks_like_model(path)]


def _looks_like_model(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.safetensors")) or (path / "model.xml").is_file()
    return path.suffix in _MODEL_SUFFIXES


def _each_once(models: list[Path], engine: Engine) -> list[Path]:
    """Leave out models whose network is there in a file of another kind, too, which would weigh double."""
    try:
        groups = darts_segmentation.repeated_models({path: path for path in models}) if len(models) > 1 else []
    except DartsError as error:
        logger.debug("Models are not compared: %s", error)  # What is wrong with one is said where it is used.
        return models
    for group in groups:
        kept, *others = sorted(group, key=lambda path: _preference(path, engine))
        for path in others:
            logger.warning("%s is left out: it holds the same network as %s, which lies there, too.", path, kept.name)
        models = [path for path in models if path not in others]
    return models


def _preference(path: Path, engine: Engine) -> int:
    """Return how late an engine takes a model that lies there as several kinds of file."""
    if (path / "model.xml").is_file():
        return 0 if engine == "openvino" else 3
    return 1 if path.is_dir() or path.suffix == ".safetensors" else 2
