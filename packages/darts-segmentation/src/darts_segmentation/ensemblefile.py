"""An ensemble as a file: its members by name and hash, and the calibration of their mean."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from darts_segmentation.calibration import FIELD, Calibration
from darts_segmentation.errors import ModelCardError, ModelNotFoundError, ModelWeightsError
from darts_segmentation.store import hash_model
from darts_utils import write_atomically

_VERSION = 1
_VERSION_FIELD = "darts:ensemble_version"


@dataclass(frozen=True)
class EnsembleFile:
    """What an ``ensemble.json`` says.

    Attributes:
        members: Model files by name, which exist and are those that the ensemble was made of.
        hashes: SHA-256 of each, see :func:`hash_model`.
        calibration: What is applied to the mean of the members; their own calibration is not.
    """

    members: Mapping[str, Path]
    hashes: Mapping[str, str]
    calibration: Calibration | None

    @property
    def sha256(self) -> str:
        """What identifies the ensemble: members by name, and calibration."""
        parameter = None if self.calibration is None else self.calibration.parameter
        text = json.dumps({"members": dict(self.hashes), "parameter": parameter}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def is_ensemble_file(path: Path | str) -> bool:
    """Tell whether a path is meant to be an ensemble.

    Args:
        path: The path; nothing is read.

    Returns:
        Whether it is named ``.json``.
    """
    return Path(path).suffix == ".json"


def read_ensemble(path: Path | str) -> EnsembleFile:
    """Read an ensemble, whose members lie where they lay when it was written: beside it, or at absolute paths.

    Args:
        path: The file.

    Returns:
        Members and calibration.

    Raises:
        ModelNotFoundError: If the file or a member is not there.
        ModelCardError: If it cannot be understood.
        ModelWeightsError: If a member is another one now.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFoundError(f"There is no file {path}; give an ensemble that exists.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        version = content[_VERSION_FIELD]
        members = {str(each["name"]): path.parent / each["file"] for each in content["members"]}
        hashes = {str(each["name"]): str(each["sha256"]) for each in content["members"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelCardError(
            f"{path} is no ensemble ({error!r}); expected JSON with {_VERSION_FIELD!r} and 'members', each with "
            "'name', 'file' and 'sha256'."
        ) from error
    if version != _VERSION:
        raise ModelCardError(f"{path} has layout version {version!r}, this release reads {_VERSION}.")
    if not members or len(members) < len(content["members"]):
        raise ModelCardError(f"{path} names {len(content['members'])} members; expected at least one, each name once.")
    for name, member in members.items():
        if hash_model(member) != hashes[name]:
            raise ModelWeightsError(
                f"The member {name!r} of {path}, {member}, is not the model that the ensemble was made of: its "
                "SHA-256 differs. Put the right model there, or calibrate again."
            )
    return EnsembleFile(members, hashes, Calibration.from_json(content.get(FIELD)))


def write_ensemble(path: Path | str, members: Mapping[str, Path], calibration: Calibration | None = None) -> Path:
    """Write an ensemble; it appears complete or not at all.

    Args:
        path: The file, named ``.json``. Members in its folder or below are named relative to it, so that the folder can
            be moved.
        members: Model files by name, in the formats of :class:`SMPSegmenter`.
        calibration: What is applied to the mean of the members.

    Returns:
        The path.

    Raises:
        ModelNotFoundError: If a member is not there.
        ModelCardError: If the path has another ending.
    """
    path = Path(path)
    if not is_ensemble_file(path):
        raise ModelCardError(f"An ensemble is to be written as {path}; expected a name that ends in .json.")
    home = path.parent.resolve()
    described: list[dict[str, object]] = []
    for name, member in members.items():
        whole = Path(member).resolve()
        file = whole.relative_to(home) if whole.is_relative_to(home) else whole
        described.append({"name": name, "file": file.as_posix(), "sha256": hash_model(member)})
    content: dict[str, object] = {_VERSION_FIELD: _VERSION, "members": described}
    if calibration is not None:
        content[FIELD] = calibration.to_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return path
