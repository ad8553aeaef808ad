"""How a model is trained, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.errors import PassError

__all__ = ["TrainOptions"]

_LEAST_STEPS = 500


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained; what each means is told by the options of the passes.

    Attributes:
        epochs: Passes over the training part of the samples; None lets ``steps`` decide.
        steps: Optimizer steps; None lets ``epochs`` decide. Without both: one epoch, but not
            fewer than 500 steps.
        batch: Samples in an optimizer step, over all processes.
        accumulate: Parts that the batch is cut into, run one after another.
        optimizer: Adam, or SGD with momentum 0.9.
        lr: Highest learning rate.
        weight_decay: Decoupled for Adam, L2 for SGD.
        warmup: Share of the steps in which the rate climbs to ``lr``.
        clip_norm: Largest gradient norm; None for no limit.
        ema: Decay of the average of the weights that is kept in place of the last; 0 for none.
        held_out: Share of the samples that is not trained on and decides what is kept.
        evaluations: How often the held-out part is looked at.
        patience: Evaluations without gain after which training ends; None to go on.
        batch_norm: Statistics of BatchNormalization: of the batch, or frozen; or ``insert``,
            of the batch and with normalizations put where an exporter folded them away.
        dropout: Whether Dropout drops.
        flip: Mirror half of the pictures.
        shift: Pixels that pictures are shifted by at most.
        precision: What products are computed in: float32, bfloat16, or the latter on a GPU only.
        keep_zeros: Weights that are zero stay zero.
    """

    epochs: float | None
    steps: int | None
    batch: int
    accumulate: int
    optimizer: Literal["adam", "sgd"]
    lr: float
    weight_decay: float
    warmup: float
    clip_norm: float | None
    ema: float
    held_out: float
    evaluations: int
    patience: int | None
    batch_norm: Literal["batch", "frozen", "insert"]
    dropout: bool
    flip: bool
    shift: int
    precision: Literal["auto", "float32", "bfloat16"]
    keep_zeros: bool

    def total(self, steps_per_epoch: int) -> int:
        """Number of optimizer steps.

        Raises:
            PassError: The epochs do not make a single step.
        """
        if self.steps is not None:
            return self.steps
        if self.epochs is None:
            return max(steps_per_epoch, _LEAST_STEPS)
        total = round(self.epochs * steps_per_epoch)
        if total < 1:
            raise PassError(f"epochs={self.epochs:g} is less than one step; give steps=")
        return total
