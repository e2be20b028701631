"""Fit a temperature on ground that the models were not trained on."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from darts_evaluation.probability import calibration_error
from darts_segmentation import Calibration, ModelFile, hash_model, read_model, save_model, write_ensemble
from darts_segmentation.calibration import FIELD
from darts_segmentation.classes import Outputs
from darts_segmentation.device import choose_device
from darts_segmentation.forward import class_probabilities, target_probability
from darts_segmentation.network import load_network, place_network
from darts_training.errors import SamplesError, writing
from darts_training.folds import Block, Folds, count_blocks, divide
from darts_training.labels import SLUMP, UNLABELLED
from darts_training.result import ITEM, RECORD
from darts_training.samples import Samples, TileSamples
from darts_training.seen import folds_of, home_of, read_record, seen_blocks, seen_in
from darts_utils import DeviceLike, write_atomically

_MOST_PIXELS = 4_000_000
_LOG_RANGE = 4.0
"""Temperatures between e^-4 and e^4 are tried."""
_PERCENTS = 101


@dataclass(frozen=True)
class Calibrated:
    """A calibration.

    Attributes:
        path: The new model folder, or the ``ensemble.json``.
        calibration: Temperature, and calibration errors on blocks that it was not fitted on.
        blocks: Blocks that it was fitted on.
        pixels: Pixels that it was fitted on.
    """

    path: Path
    calibration: Calibration
    blocks: int
    pixels: int


def calibrate(
    models: Sequence[Path | str],
    samples: Samples,
    out: Path | str,
    *,
    block_m: float = 1000.0,
    device: "DeviceLike | torch.device" = None,
    batch_size: int = 8,
    seed: int = 0,
) -> Calibrated:
    """Fit the temperature of a model, or of the mean of several, and write the calibrated model.

    Blocks that a model was trained on, or one that it went on from, are left out, as ``training.json`` tells. Half of
    the others serve to fit, half to measure the error before and after.

    Args:
        models: Model files or folders.
        samples: Labelled samples with the bands and scaling of the models.
        out: Folder of the new model, which may be that of the old one; ``training.json`` there names the new model. For
            several models an ``ensemble.json``, or the folder for it.
        block_m: Edge of the blocks, metres, where no model tells which it was trained on.
        device: As for :class:`darts_segmentation.SMPSegmenter`.
        batch_size: Patches at a time.
        seed: Seed of the choice of pixels, where there are more than four million.

    Returns:
        What was fitted, and where the model is.

    Raises:
        SamplesError: If the samples have other bands, or too little labelled ground is left on which no model was
            trained.
        ModelFileError: If a model cannot be used.
        WritingError: If the model cannot be written.
    """
    out = Path(out)
    opened = {_name(Path(path)): read_model(path) for path in models}
    if len(opened) < len(models) or not models:
        raise SamplesError("Two models have one name, or there is none; name each model once.")
    for path, model in zip(models, opened.values(), strict=True):
        _check_bands(Path(path), model, samples)
    folds, allowed = _unseen(models, samples, block_m)
    slump, other = (Counter({k: v for k, v in each.items() if k in allowed}) for each in count_blocks(samples, folds))
    try:
        halves = replace(folds, fold_of=divide(slump, other, 2), count=2, buffer=0.0)
    except SamplesError as error:
        raise SamplesError(
            f"Of these samples {len({*slump, *other})} blocks of ground were not trained on, {len(slump)} of them with "
            "slumps; expected slumps and other ground in two halves, one to fit the temperature and one to measure it. "
            "Label more ground, or calibrate on samples of other ground; smaller blocks (block_m) help where they are "
            "not those of the training, which training.json keeps."
        ) from error
    target = choose_device(device)
    parts = _predict(list(opened.values()), samples, halves, target, batch_size, np.random.default_rng(seed))
    temperature = fit_temperature(parts[0].probability_at, parts[0].truth)
    before, after = (parts[1].error(value) for value in (1.0, temperature))
    found = Calibration(temperature, round(before, 5), round(after, 5))
    with writing(out):
        path = _write(opened, models, out, found)
    return Calibrated(path, found, len(halves.blocks([0])), len(parts[0].truth))


def fit_temperature(probability_at: Callable[[float], NDArray[np.floating]], truth: NDArray[np.bool_]) -> float:
    """Return the temperature with the least negative log-likelihood (Guo et al. 2017, section 4.2).

    Args:
        probability_at: Returns the probability of each pixel at a temperature, 1-D.
        truth: Whether each is slump, 1-D bool.

    Returns:
        The temperature, between e^-4 and e^4.
    """

    def cost(log_temperature: float) -> float:
        p = np.clip(np.asarray(probability_at(float(np.exp(log_temperature))), np.float64), 1e-12, 1 - 1e-12)
        return float(-np.where(truth, np.log(p), np.log1p(-p)).mean())

    found = minimize_scalar(cost, bounds=(-_LOG_RANGE, _LOG_RANGE), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


@dataclass(frozen=True)
class _Pixels:
    """Labelled pixels of one half.

    Attributes:
        scores: Logits (pixels, classes) of one model, or mean probabilities (pixels,) of several.
        truth: Whether each is slump.
        outputs: What the classes mean; None for probabilities.
    """

    scores: NDArray[np.float32]
    truth: NDArray[np.bool_]
    outputs: Outputs | None

    def probability_at(self, temperature: float) -> NDArray[np.floating]:
        scores = torch.from_numpy(self.scores)
        if self.outputs is None:
            return Calibration(temperature).apply(scores.double()).numpy()
        logits = scores.double()[:, :, None, None]
        found = class_probabilities(lambda given: given, self.outputs, logits, temperature=temperature)
        return target_probability(found, self.outputs).flatten().numpy()

    def error(self, temperature: float) -> float:
        percent = np.clip(np.round(100 * self.probability_at(temperature)), 0, 100).astype(np.int64)
        slump, other = (np.bincount(percent[each], minlength=_PERCENTS) for each in (self.truth, ~self.truth))
        return calibration_error(slump, other)


def _predict(
    models: list[ModelFile],
    samples: Samples,
    halves: Folds,
    device: torch.device,
    batch_size: int,
    rng: np.random.Generator,
) -> list[_Pixels]:
    """Return the pixels of both halves, each pixel of a tile once."""
    networks = [place_network(load_network(model.card, model.state_dict), device) for model in models]
    outputs = models[0].card.outputs if len(models) == 1 else None
    total = sum(int((tile.read_labels() != UNLABELLED).sum()) for tile in samples.tiles)
    share, size = min(1.0, _MOST_PIXELS / max(total, 1)), samples.format.patch_size
    scores: list[list[NDArray]] = [[], []]
    truths: list[list[NDArray]] = [[], []]
    for tile in samples.tiles:
        taken = np.zeros(tile.shape, bool)
        batch: list[tuple[NDArray, NDArray, list[NDArray]]] = []
        for index in range(len(tile)):
            values, labels = tile.read(index)
            fresh = (labels != UNLABELLED) & _first(taken, tile, index, size)
            if share < 1:
                fresh &= rng.random(fresh.shape) < share
            parts = [fresh & halves.inside(tile, index, size, [half]) for half in (0, 1)]
            if parts[0].any() or parts[1].any():
                batch.append((values.astype(np.float32), labels == SLUMP, parts))
            if batch and (len(batch) == batch_size or index == len(tile) - 1):
                given = _scores(networks, models, np.stack([values for values, _, _ in batch]), device, outputs)
                for each, (_, truth, chosen) in zip(given, batch, strict=True):
                    for half in (0, 1):
                        scores[half].append(each[chosen[half]])
                        truths[half].append(truth[chosen[half]])
                batch = []
    return [_Pixels(np.concatenate(scores[half]), np.concatenate(truths[half]), outputs) for half in (0, 1)]


def _scores(
    networks: list[Callable[[torch.Tensor], torch.Tensor]],
    models: list[ModelFile],
    patches: NDArray,
    device: torch.device,
    outputs: Outputs | None,
) -> NDArray[np.float32]:
    """Return logits (patches, y, x, classes) of one model, or mean probabilities (patches, y, x) of several."""
    with torch.inference_mode():
        given = torch.from_numpy(patches).to(device).contiguous(memory_format=torch.channels_last)
        if outputs is not None:
            return networks[0](given).float().permute(0, 2, 3, 1).cpu().numpy()
        total = torch.zeros((), device=device)
        for network, model in zip(networks, models, strict=True):
            found = class_probabilities(network, model.card.outputs, given)
            total = total + target_probability(found, model.card.outputs)
        return (total / len(networks)).cpu().numpy()


def _first(taken: NDArray[np.bool_], tile: TileSamples, index: int, size: int) -> NDArray[np.bool_]:
    """Return which pixels of a patch lie in the tile and in no patch before, and note them."""
    row, column = int(tile.rows[index]), int(tile.columns[index])
    result = np.zeros((size, size), bool)
    top, left = max(row, 0), max(column, 0)
    part = taken[top : row + size, left : column + size]
    result[top - row : top - row + part.shape[0], left - column : left - column + part.shape[1]] = ~part
    part[:] = True
    return result


def _unseen(models: Sequence[Path | str], samples: Samples, block_m: float) -> tuple[Folds, set[Block]]:
    """Return the blocks of ground that no model was trained on."""
    records = [record for path in models if (record := read_record(Path(path))) is not None]
    known = [(record, theirs) for record in records if (theirs := folds_of(record)) is not None]
    if any(record["folds"] is None and record["samples"] == samples.digest for record in records):
        raise SamplesError("A model was trained on all of these samples; calibrate it on others.")
    crs = samples.tiles[0].crs if samples.tiles else ""
    folds = known[0][1] if known else Folds(crs, (block_m, block_m), 0.0, {}, 2)
    seen: set[Block] = set()
    for record, theirs in known:
        if (theirs.crs, theirs.size, theirs.origin) != (folds.crs, folds.size, folds.origin):
            raise SamplesError("The models were trained with other blocks each; calibrate them one by one.")
        seen |= seen_blocks(record, theirs)
    slump, other = count_blocks(samples, folds)
    allowed = {*slump, *other} - seen
    earlier = [each for record in records for each in record.get("earlier", [])]
    allowed -= seen_in(earlier, samples.digest, folds, sorted(allowed))
    if not allowed:
        raise SamplesError("All labelled ground of these samples was trained on; calibrate on other samples.")
    return folds, allowed


def _check_bands(path: Path, model: ModelFile, samples: Samples) -> None:
    theirs = [(band, *map(float, model.card.normalization[band])) for band in model.card.bands]
    ours = [(channel.band, channel.low, channel.high) for channel in samples.format.channels]
    if theirs != ours:
        raise SamplesError(
            f"{path} takes {', '.join(model.card.bands)}, and the samples show {', '.join(band for band, *_ in ours)}, "
            "or scale them otherwise; make samples for this model."
        )


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.name


def _write(opened: dict[str, ModelFile], models: Sequence[Path | str], out: Path, found: Calibration) -> Path:
    if len(opened) > 1:
        file = out if out.suffix == ".json" else out / "ensemble.json"
        return write_ensemble(file, dict(zip(opened, map(Path, models), strict=True)), found)
    model = next(iter(opened.values()))
    save_model(out, model.state_dict, replace(model.card, calibration=found))
    source, target = home_of(Path(models[0])), home_of(out)
    if out.suffix != ".safetensors" or source.resolve() == target.resolve():
        record = read_record(source)
        if record is not None:
            record["sha256"] = hash_model(out)
            write_atomically(target / RECORD, (json.dumps(record, indent=2) + "\n").encode())
        if (source / ITEM).is_file():
            write_atomically(target / ITEM, _calibrated_item(source / ITEM, found))
    return out


def _calibrated_item(file: Path, found: Calibration) -> bytes:
    try:
        item = json.loads(file.read_text("utf-8"))
        item["properties"][FIELD] = found.to_json()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SamplesError(f"{file} is no STAC Item ({error!r}); train the model again, or remove it.") from error
    return (json.dumps(item, indent=2) + "\n").encode()
