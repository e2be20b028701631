"""Train a network on samples."""

import copy
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from darts_evaluation import Evaluation
from darts_segmentation import model_paths
from darts_segmentation.device import choose_device
from darts_training.batches import TrainingSet, draw_batch
from darts_training.checkpoint import NAME as CHECKPOINT
from darts_training.checkpoint import Progress, load_checkpoint, save_checkpoint
from darts_training.errors import SamplesError, SeenGroundWarning, TrainingError, writing
from darts_training.folds import Folds
from darts_training.heldout import evaluate_held_out, object_f1, pixel_iou, predict_held_out
from darts_training.lock import training_lock
from darts_training.losses import loss_of
from darts_training.networks import Start, average, begin, predictor, repeatable
from darts_training.options import TrainingOptions
from darts_training.result import RECORD, TrainingMetadata, write_log, write_result
from darts_training.samples import Samples
from darts_training.seen import count_seen, past_of
from darts_utils import DeviceLike, remove_partials, usable_cpus

logger = logging.getLogger(__name__)

OnStep = Callable[[Progress, int], None]
"""Is told of each batch that is done: how far the training is, and how many batches there are in all."""

CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        path: Folder of the model.
        epochs: Rounds that were done.
        best_epoch: The round that became the model; the last one without validation blocks.
        evaluation: Figures on the test blocks, on which nothing was trained or chosen; None where all was trained on.
    """

    path: Path
    epochs: int
    best_epoch: int
    evaluation: Evaluation | None


def train(
    samples: Samples,
    out: Path | str,
    options: TrainingOptions | None = None,
    *,
    folds: Folds | None,
    test: Sequence[int] = (0,),
    base: Path | str | None = None,
    device: "DeviceLike | torch.device" = None,
    on_step: OnStep | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    texts: dict[str, Any] | None = None,
) -> Trained:
    """Train a network, or go on where a training was ended, and write it as a model that inference runs.

    Nothing is trained on the blocks of the test folds, nor, where `patience` is set, on those of the fold that follows
    the first of them, by which the best round is chosen; nor within the buffer of either.

    Args:
        samples: What to train on.
        out: Folder of the model.
        options: How; None for the defaults.
        folds: Divides the ground; None to train on all of it, without figures.
        test: Folds that are held out for the figures.
        base: Model to go on from: its architecture and weights. The samples must be made for its bands.
        device: As for :class:`darts_segmentation.SMPSegmenter`. On the CPU the same seed, options, samples and number
            of threads give the same weights.
        on_step: Is told how far the training is.
        checkpoint_seconds: How often the state is written, beside the end of each round.
        texts: Fields of the card: `name`, `license`, `description`, `version`.

    Returns:
        The model. Where `base` was trained on ground that is held out here, its figures flatter, which a
        `SeenGroundWarning` says.

    Raises:
        SamplesError: If the samples are damaged, or nothing is left to train on or to measure.
        TrainingError: If the folder holds another model or training, another process trains there, on whichever
            machine, there is no such fold, or the loss becomes NaN.
        WritingError: If something cannot be written.
    """
    options = options or TrainingOptions()
    out = Path(out)
    if folds is None and options.patience is not None:
        raise TrainingError("Without folds there are no validation blocks: set patience to None.")
    if options.crop is not None and options.crop > samples.format.patch_size:
        raise TrainingError(f"crop is {options.crop} px; patches have {samples.format.patch_size} px.")
    if folds is not None and (not test or not set(test) <= set(range(folds.count))):
        raise TrainingError(f"The test folds are {list(test)}; expected one or more of 0 to {folds.count - 1}.")
    validation = () if folds is None or options.patience is None else ((test[0] + 1) % folds.count,)
    if set(validation) & set(test) or (folds is not None and len({*test, *validation}) >= folds.count):
        raise TrainingError("No fold is left to train on; make more folds.")
    start = begin(samples.format, options, base, (texts or {}).get("name", out.absolute().name))
    metadata = TrainingMetadata.of(samples, options, folds, tuple(test), validation, start.origin)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        remove_partials(out)
    done = _finished(out, metadata)
    if done is not None:
        return done
    if base is not None and folds is not None:
        _warn_of_seen(Path(base), samples, folds, (*test, *validation))
    earlier = [] if base is None else past_of(Path(base))
    with ExitStack() as held:
        with writing(out):
            held.enter_context(training_lock(out))
        done = _finished(out, metadata)  # by another that has just ended
        if done is not None:
            return done
        work = _Training(samples, out, options, folds, metadata, start, choose_device(device), checkpoint_seconds)
        with repeatable(work.device, options.threads or usable_cpus()):
            progress = work.run(on_step or (lambda *_: None))
            network = work.chosen(progress)
            found = [] if folds is None else predict_held_out(
                samples, folds, test, predictor(network, start.card, work.device)
            )  # fmt: skip
        if folds is not None and not found:
            raise SamplesError(f"No ground of the test folds {list(test)} is labelled; nothing can be measured.")
        evaluation = evaluate_held_out(found, options.min_object_px) if found else None
        card = replace(start.card, **(texts or {}))
        _finished(out, metadata)  # refuses where a model has been put there meanwhile
        write_result(out, network, card, samples, metadata, progress, evaluation, earlier)
        (out / CHECKPOINT).unlink(missing_ok=True)
        return Trained(out, len(progress.history), progress.best_epoch or len(progress.history), evaluation)


def _warn_of_seen(base: Path, samples: Samples, folds: Folds, held: Sequence[int]) -> None:
    seen = count_seen(base, samples.digest, folds, held)
    if seen:
        warnings.warn(
            f"{base} was trained on ground in {seen} of the {len(folds.blocks(held))} blocks that are held out here; "
            "the figures flatter the model. Evaluate it on ground that neither has seen.",
            SeenGroundWarning,
            stacklevel=3,
        )


def _finished(out: Path, metadata: TrainingMetadata) -> Trained | None:
    """Return the model that is there already; None where there is none."""
    record = out / RECORD
    if not record.is_file():
        # Beside a checkpoint it is the model of a training that was killed while it wrote its result.
        if model_paths(out)[0].exists() and not (out / CHECKPOINT).exists():
            raise TrainingError(f"{out} holds a model that was not trained here; choose another folder.")
        return None
    try:
        content = json.loads(record.read_text("utf-8"))
        same = content["fingerprint"] == metadata.fingerprint
        done = Trained(out, int(content["epochs"]), int(content["best_epoch"]), None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{record} is damaged ({error!r}); choose another folder.") from error
    if not same:
        raise TrainingError(
            f"{out} holds a model that was trained with other options, samples or folds; choose another folder."
        )
    (out / CHECKPOINT).unlink(missing_ok=True)
    return done


class _Training:
    """A training under way."""

    def __init__(
        self,
        samples: Samples,
        out: Path,
        options: TrainingOptions,
        folds: Folds | None,
        metadata: TrainingMetadata,
        start: Start,
        device: torch.device,
        checkpoint_seconds: float,
    ) -> None:
        self.device = device
        self._samples, self._out, self._options, self._folds = samples, out, options, folds
        self._metadata, self._card, self._pause = metadata, start.card, checkpoint_seconds
        self._data = TrainingSet(samples, folds, (*metadata.test, *metadata.validation))
        self._epoch_steps = options.steps_per_epoch or math.ceil(len(self._data.items) / options.batch_size)
        self._total = options.epochs * self._epoch_steps
        self._start = start

    def run(self, on_step: OnStep) -> Progress:
        """Train until the rounds are done, or none has been better for long enough."""
        network = self._start.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network
        self._averaged = copy.deepcopy(network).eval().requires_grad_(False)
        options = self._options
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        parts = {"network": network, "averaged": self._averaged, "optimizer": self._optimizer}
        progress = load_checkpoint(self._out, self._metadata.fingerprint, self.device, **parts) or Progress()
        # The numbers depend on how many threads add them up: a training keeps those that it began with.
        progress.threads = progress.threads or torch.get_num_threads()
        torch.set_num_threads(progress.threads)
        saved, began, first = monotonic(), monotonic(), progress.step
        waited = 0.0
        with _Batches(self._data, options, progress.step, self._total, self.device.type == "cuda") as batches:
            for batch in batches:
                if self._is_over(progress):
                    break
                waited += batches.waited
                self._step(progress, *batch)
                if progress.step % self._epoch_steps == 0:
                    self._end_epoch(progress)
                if progress.step % self._epoch_steps == 0 or monotonic() - saved >= self._pause:
                    save_checkpoint(self._out, self._metadata.fingerprint, progress, **parts)
                    saved = monotonic()
                on_step(progress, self._total)
        seconds = max(monotonic() - began, 1e-9)
        images = (progress.step - first) * options.batch_size
        logger.info("%.1f patches per second; %.0f %% of the time for data.", images / seconds, 100 * waited / seconds)
        return progress

    def chosen(self, progress: Progress) -> torch.nn.Module:
        """Return the network that becomes the model."""
        if progress.best is not None:
            self._averaged.load_state_dict(progress.best)
        return self._averaged

    def _is_over(self, progress: Progress) -> bool:
        patience = self._options.patience
        return patience is not None and len(progress.history) - progress.best_epoch >= patience

    def _step(self, progress: Progress, x: NDArray[np.float32], y: NDArray[np.uint8]) -> None:
        options = self._options
        torch.manual_seed(options.seed * 1_000_003 + progress.step)  # what drops out, where something does
        rate = learning_rate(options, progress.step, self._total)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._network.train()
        values = torch.from_numpy(x).to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(y).to(self.device, non_blocking=True)
        mixed = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        with torch.autocast("cuda", dtype=torch.bfloat16) if mixed else nullcontext():
            logits = self._network(values)
        loss = loss_of(logits.float(), labels, gamma=options.focal_gamma, overlap=options.overlap_loss)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"The loss is {value} at step {progress.step}; choose a lower learning rate.")
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        average(self._averaged, self._network, options.ema, progress.step)
        progress.step += 1
        progress.losses.append(value)

    def _end_epoch(self, progress: Progress) -> None:
        epoch = len(progress.history) + 1
        row = {
            "epoch": epoch,
            "step": progress.step,
            "learning_rate": learning_rate(self._options, progress.step - 1, self._total),
            "loss": float(np.mean(progress.losses)),
        }
        if self._metadata.validation and self._folds is not None:
            predict = predictor(self._averaged, self._card, self.device)
            found = predict_held_out(self._samples, self._folds, self._metadata.validation, predict)
            score = (object_f1(found, self._options.min_object_px), pixel_iou(found))
            row |= {"object_f1": score[0], "iou": score[1]}
            if score > tuple(progress.best_score):
                progress.best_score, progress.best_epoch = score, epoch
                progress.best = {name: value.clone() for name, value in self._averaged.state_dict().items()}
        progress.history.append(row)
        progress.losses.clear()
        write_log(self._out, progress.history)


def learning_rate(options: TrainingOptions, step: int, total: int) -> float:
    """Return the learning rate of a step: it rises linearly, then falls as a cosine to 0 (Loshchilov and Hutter 2017).

    Examples:
        >>> options = TrainingOptions(learning_rate=1.0, warmup=0.5)
        >>> [round(learning_rate(options, step, 4), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
    """
    rising = round(options.warmup * total)
    if step < rising:
        return options.learning_rate * (step + 1) / rising
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(total - rising, 1)))


class _Batches:
    """Draws batches ahead in other threads."""

    def __init__(self, data: TrainingSet, options: TrainingOptions, first: int, total: int, fast: bool) -> None:
        self._draw = lambda step: draw_batch(data, options, step)
        self._first, self._total = first, total
        self._ahead = 2 * usable_cpus() if fast else 1
        self._pool = ThreadPoolExecutor(usable_cpus() if fast else 1)
        self.waited = 0.0

    def __enter__(self) -> "_Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
        waiting: dict[int, Future[tuple[NDArray[np.float32], NDArray[np.uint8]]]] = {}
        for step in range(self._first, self._total):
            for later in range(step, min(step + self._ahead + 1, self._total)):
                if later not in waiting:
                    waiting[later] = self._pool.submit(self._draw, later)
            before = monotonic()
            batch = waiting.pop(step).result()
            self.waited = monotonic() - before
            yield batch
