"""Training as the passes and the bridge say it: what on, how long, by which loss, what goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from graphopt.deadline import Deadline
from graphopt.errors import PassError, UsageError
from graphopt.graph.graph import Graph
from graphopt.numerics.scores import PatternName
from graphopt.options import Option, Options
from graphopt.progress import Progress
from graphopt.tasks.task import Task

if TYPE_CHECKING:
    from graphopt.data.samples import Samples

__all__ = [
    "ClassWeights",
    "Hard",
    "Ignore",
    "LossOptions",
    "NMPattern",
    "PruningOptions",
    "Reach",
    "Sparsity",
    "TrainOptions",
    "Training",
]

_LEAST_STEPS = 500

Hard = Annotated[
    Literal["auto", "cross-entropy", "binary-cross-entropy", "mse", "huber"],
    Option(
        "distance to labels; auto: cross-entropy for classes, binary-cross-entropy for yes or no"
        " and several labels, mse for numbers"
    ),
]
Ignore = Annotated[
    int | None,
    Option("label that is left out; without it -100 and 255 where they are no class"),
]
ClassWeights = Annotated[
    Literal["none", "balanced"], Option("balanced: rare classes count more, all classes the same")
]
Sparsity = Annotated[float, Option("share of the weights to be zero", low=0, high=1)]
NMPattern = Annotated[
    PatternName, Option("at most N of M neighbours along the inputs stay, instead of a share")
]
Reach = Annotated[
    Literal["local", "global"], Option("share of each layer, or of all layers together")
]


@dataclass(frozen=True)
class Training:
    """What the run offers to a pass that trains.

    Attributes:
        samples: What to train on, with or without labels.
        teacher: The model whose answers count; never to be edited.
        seed: Of all random numbers.
        threads: Threads of torch and onnxruntime; 0 for all cores.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoints: Folder in which the state is kept to be taken up later; None for nowhere.
        progress: Told what is going on, how far it is and how far it goes.
        tasks: What the user said of outputs, by name.
        deadline: When it ends before its last step.
    """

    samples: Samples
    teacher: Graph
    seed: int = 0
    threads: int = 0
    device: str = "auto"
    checkpoints: Path | None = None
    progress: Progress | None = None
    tasks: Mapping[str, Task] = field(default_factory=dict)
    deadline: Deadline = field(default_factory=Deadline)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """How a model is trained; a pass that trains is one of these.

    Without ``epochs`` and ``steps`` it is one epoch, but not fewer than 500 steps. ``batch`` is
    over all processes, its parts run one after another. SGD has momentum 0.9; the decay of weights
    is decoupled for Adam, L2 for SGD.
    """

    name: ClassVar[str] = "training"
    epochs: Annotated[
        float | None, Option("passes over the training samples", low=0, low_open=True)
    ] = None
    steps: Annotated[
        int | None, Option("optimizer steps, in place of epochs", low=1, high=100_000_000)
    ] = None
    batch: Annotated[int, Option("in an optimizer step", low=1, high=65536, unit="samples")] = 64
    accumulate: Annotated[
        int, Option("parts that a batch is cut into, to save memory", low=1, high=65536)
    ] = 1
    optimizer: Annotated[Literal["adam", "sgd"], Option("how weights are moved")] = "adam"
    lr: Annotated[float, Option("highest learning rate", low=0, low_open=True)] = 1e-3
    weight_decay: Annotated[float, Option("decay of the weights", low=0, high=1)] = 0.0
    warmup: Annotated[float, Option("share of the steps in which the rate climbs", 0, 1)] = 0.05
    clip_norm: Annotated[
        float | None, Option("largest norm of the gradient", low=0, low_open=True)
    ] = None
    ema: Annotated[
        float,
        Option("decay of the kept average of the weights; 0 for none", 0, 1, high_open=True),
    ] = 0.0
    held_out: Annotated[
        float, Option("share not trained on, that decides what is kept", 0, 0.5)
    ] = 0.05
    evaluations: Annotated[int, Option("looks at the held-out part", low=1, high=10_000)] = 10
    patience: Annotated[
        int | None, Option("looks without gain after which it ends", low=1, high=10_000)
    ] = None
    batch_norm: Annotated[
        Literal["batch", "frozen", "insert"],
        Option(
            "statistics that BatchNormalization takes; insert: of the batch, and give one to"
            " each Conv that has lost it in the export, for the time of the training"
        ),
    ] = "batch"
    dropout: Annotated[bool, Option("let Dropout drop")] = False
    flip: Annotated[bool, Option("mirror half of the pictures")] = False
    shift: Annotated[int, Option("move pictures by at most", low=0, high=4096, unit="pixels")] = 0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Option("what products are computed in; auto: bfloat16 on a GPU"),
    ] = "auto"
    keep_zeros: Annotated[bool, Option("weights that are zero stay zero")] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.steps is not None:
            raise UsageError(f"{self.name}: give epochs or steps, not both")

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


@dataclass(frozen=True, kw_only=True)
class LossOptions(Options):
    """Weights and forms of the parts of L = alpha L_hard + beta L_soft + gamma L_features.

    ``gamma`` counts where ``features`` names tensors that both models have. What an output means
    decides how it is compared; labels settle that where nothing else does.
    """

    name: ClassVar[str] = "loss"
    alpha: Annotated[float, Option("weight of the labels in the loss", low=0)] = 0.0
    beta: Annotated[float, Option("weight of the teacher's outputs", low=0)] = 1.0
    gamma: Annotated[float, Option("weight of the inner tensors in features", low=0)] = 1.0
    soft: Annotated[
        Literal["auto", "kl", "cosine", "mse"],
        Option("distance to the teacher; auto: kl for scores, cosine for embeddings, else mse"),
    ] = "auto"
    hard: Hard = "auto"
    ignore: Ignore = None
    class_weights: ClassWeights = "none"
    temperature: Annotated[float, Option("softens the classes for kl", low=0, low_open=True)] = 4.0
    features: Annotated[
        tuple[str, ...], Option("inner tensors to match too; blocks: all residual sums")
    ] = ()
    pair: Annotated[
        tuple[str, ...],
        Option("outputs that belong together whatever their names, STUDENT=TEACHER"),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class PruningOptions(Options):
    """How many weights become zero in the course of a training, which and when.

    With ``regrow`` removed weights go on being trained out of sight, by the gradient at zero, and
    come back where they are stronger than others; rounds then go on to the end.

    Source: Zhu and Gupta (2017), section 3, for the schedule; Sanh, Wolf and Rush, Movement Pruning
    (2020), section 4: the sum of -w * g over the steps, g being the gradient; Molchanov et al.,
    Importance Estimation for Neural Network Pruning (2019), equation 8: the mean of (w * g)^2 since
    the last round; Lin et al., Dynamic Model Pruning with Feedback (2020), section 4, for
    ``regrow``.
    """

    name: ClassVar[str] = "pruning"
    sparsity: Sparsity = 0.5
    pattern: NMPattern = "none"
    scope: Reach = "global"
    criterion: Annotated[
        Literal["magnitude", "movement", "taylor", "snip"], Option("what decides who goes")
    ] = "magnitude"
    schedule: Annotated[
        Literal["cubic", "even", "once"], Option("course from no zeros to all of them")
    ] = "cubic"
    rounds: Annotated[int, Option("how often weights go on the way", low=1, high=1_000_000)] = 50
    until: Annotated[
        float, Option("share of the steps after which the last go", 0, 1, low_open=True)
    ] = 0.6
    regrow: Annotated[bool, Option("weights that went may come back in a later round")] = False
    min_score: Annotated[
        float | None,
        Option("take no more once the held-out score is below, and repair", 0, 100, unit="%"),
    ] = None
