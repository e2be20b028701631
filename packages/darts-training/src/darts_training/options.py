"""How to train: plain data, checked."""

import math
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from darts_utils import ParameterError

LossName: TypeAlias = Literal["dice", "tversky"]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a network is trained.

    Attributes:
        arch: Architecture of segmentation_models_pytorch.
        encoder: Its encoder. Weights begin at random: nothing is fetched.
        architecture: Further arguments of the architecture.
        epochs: Rounds, each of `steps_per_epoch` batches; the learning rate falls over all of them.
        steps_per_epoch: Batches of a round, None for as many as there are patches to train on, divided by `batch_size`.
        batch_size: Patches of a batch.
        crop: Edge in pixels of what is cut out of a patch at random, None for the whole patch.
        slump_share: Share of the cuts that hold a slump for certain.
        learning_rate: Highest learning rate of AdamW.
        weight_decay: Its weight decay.
        warmup: Share of all batches over which the learning rate rises.
        overlap_loss: "dice" (Milletari et al. 2016) or "tversky" (Salehi et al. 2017, with 0.3 for false alarms and 0.7
            for misses), to which the focal loss is added.
        focal_gamma: Exponent of the focal loss (Lin et al. 2017), 0 for cross entropy.
        brightness: By how much the optical bands are scaled, up or down; a fifth of it is how much they are shifted.
        ema: Decay of the moving average of the weights, which becomes the model; 0 for none.
        patience: Rounds without a better F1 of objects on the validation blocks after which training ends; the best
            round becomes the model. None or 0 for no validation blocks: all rounds are done, and the last becomes the
            model.
        min_object_px: Objects and slumps of fewer pixels do not count as objects in validation.
        seed: Seed of everything random.
        threads: Threads on the CPU, on whose number the last digits depend; None for all usable CPUs.

    Raises:
        ParameterError: If a value cannot work.
    """

    arch: str = "unet"
    encoder: str = "resnet34"
    architecture: tuple[tuple[str, object], ...] = ()
    epochs: int = 50
    steps_per_epoch: int | None = None
    batch_size: int = 8
    crop: int | None = None
    slump_share: float = 0.5
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.1
    overlap_loss: LossName = "dice"
    focal_gamma: float = 2.0
    brightness: float = 0.1
    ema: float = 0.99
    patience: int | None = 10
    min_object_px: int = 32
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "patience", self.patience or None)
        least = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1, "crop": 1, "patience": 1, "threads": 1, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < low):
                raise ParameterError(f"{name} is {value!r}; expected a whole number, at least {low}.")
        for name, high in {"slump_share": 1, "warmup": 1, "ema": 1, "brightness": 1}.items():
            if not 0 <= getattr(self, name) <= high or (name == "ema" and self.ema == 1):
                raise ParameterError(f"{name} is {getattr(self, name)!r}; expected 0 to {high}.")
        if not 0 < self.learning_rate < math.inf:
            raise ParameterError(f"learning_rate is {self.learning_rate!r}; expected more than 0.")
        for name in ("weight_decay", "focal_gamma", "min_object_px"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ParameterError(f"{name} is {getattr(self, name)!r}; expected a number, at least 0.")
        if self.overlap_loss not in ("dice", "tversky"):
            raise ParameterError(f"overlap_loss is {self.overlap_loss!r}; expected 'dice' or 'tversky'.")
        if self.batch_size == 1:
            raise ParameterError("batch_size is 1, of which batch normalisation learns nothing; expected at least 2.")

    def to_json(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return asdict(self) | {"architecture": dict(self.architecture)}
