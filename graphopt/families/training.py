"""What all passes have in common that train weights."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from graphopt.contract.curves import TrainingCurves
from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass, Training
from graphopt.contract.preconditions import Labels, Precondition, TrainingSamples, When
from graphopt.errors import PassError, SystemFailure, UsageError
from graphopt.facts.select import select
from graphopt.graph.graph import Graph

if TYPE_CHECKING:
    from graphopt.bridge.trainee import Trainee
    from graphopt.bridge.training.criterion import LossOptions
    from graphopt.bridge.training.hooks import Hook
    from graphopt.bridge.training.options import TrainOptions

__all__ = [
    "DistillingPass",
    "TrainingPass",
    "distilling_examples",
    "require_torch",
    "require_torch_for",
    "told",
    "training_examples",
]


@dataclass(frozen=True, kw_only=True)
class TrainingPass(Pass):
    """A pass that trains weights; its fields are the options that all of them have."""

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
    nodes: Annotated[
        tuple[str, ...], Option("train only nodes of these names or types", patterns=True)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Option("train no nodes of these names or types", patterns=True)
    ] = ()
    frozen: Annotated[
        tuple[str, ...], Option("tensors up to which onnxruntime computes and nothing is trained")
    ] = ()
    lossy: ClassVar[bool] = True
    joins: ClassVar[bool] = True

    requires: ClassVar[tuple[Precondition, ...]] = (TrainingSamples(),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.steps is not None:
            raise UsageError(f"{self.name}: give epochs or steps, not both")

    def training(self, context: Context) -> Training:
        """What the run offers for training; that it does is a precondition."""
        assert context.training is not None
        return context.training

    def train_options(self) -> TrainOptions:
        """The options that the training loop knows.

        Raises:
            SystemFailure: torch is missing.
        """
        require_torch(self.name)
        from graphopt.bridge.training.options import TrainOptions  # noqa: PLC0415 - torch is heavy

        names = [item.name for item in dataclasses.fields(TrainOptions)]
        return TrainOptions(**{name: getattr(self, name) for name in names})

    def trainee(self, graph: Graph, context: Context) -> Trainee:
        """The graph as a module, with the weights of the chosen nodes as its parameters.

        Raises:
            ModelError: A node cannot be computed in torch; the message names it.
            PassError: There is nothing to insert a normalization behind.
            SystemFailure: torch is missing.
            UsageError: A pattern or a frozen tensor names nothing.
        """
        require_torch(self.name)
        from graphopt.bridge.trainee import trainee  # noqa: PLC0415 - torch is heavy

        return trainee(
            graph,
            select(graph, self.nodes, self.exclude),
            self.training(context).samples,
            batch_norm=self.batch_norm,
            dropout=self.dropout,
            frozen=self.frozen,
        )

    def train(
        self,
        trainee: Trainee,
        context: Context,
        losses: LossOptions,
        hooks: Sequence[Hook] = (),
    ) -> TrainingCurves:
        """Train the module of a graph; it holds the best weights afterwards.

        Raises:
            PassError: The loss diverged before anything was gained.
        """
        from graphopt.bridge.training.setting import Setting  # noqa: PLC0415
        from graphopt.bridge.training.train import train  # noqa: PLC0415

        training = self.training(context)
        setting = Setting(
            self.name,
            repr(self),
            training.seed,
            training.threads,
            training.device,
            training.checkpoints,
            training.progress,
        )
        options = self.train_options()
        curves = train(
            trainee.module,
            trainee.graph,
            training.teacher,
            training.samples,
            losses,
            options,
            setting,
            hooks,
        )
        if curves.diverged and not curves.best_step:
            raise PassError(f"{self.name}: {curves.stopped}")
        return curves


def training_examples(plain: Example) -> list[Example]:
    """Short trainings of a tiny net of pictures that reach the options of ``TrainingPass``."""
    short = plain.but(steps=4, batch=6, held_out=0.25, evaluations=2)
    return [
        short,
        short.but(
            optimizer="sgd",
            weight_decay=0.01,
            warmup=0.5,
            clip_norm=1.0,
            ema=0.5,
            patience=2,
            batch_norm="batch",
            precision="float32",
        ),
        short.but(
            steps=None,
            epochs=1.0,
            accumulate=2,
            batch_norm="frozen",
            dropout=True,
            flip=True,
            shift=1,
            precision="bfloat16",
        ),
        short.but(keep_zeros=False, nodes=("Gemm", "Conv"), exclude=("conv_0",), frozen=("r1",)),
    ]


def distilling_examples(plain: Example) -> list[Example]:
    """Examples that reach the options of ``DistillingPass`` as well."""
    first, *others = training_examples(plain)
    return [
        first,
        *others,
        first.but(soft="kl", temperature=2.0, alpha=0.5, hard="cross-entropy"),
        first.but(soft="mse", features=("r2",), gamma=0.5, beta=0.5),
        replace(first.but(soft="cosine", alpha=0.5, hard="mse"), labels="values"),
    ]


@dataclass(frozen=True, kw_only=True)
class DistillingPass(TrainingPass):
    """A pass that trains towards a teacher, labels or both: L = alpha L_hard + beta L_soft + ..."""

    alpha: Annotated[float, Option("weight of the labels in the loss", low=0)] = 0.0
    beta: Annotated[float, Option("weight of the teacher's outputs", low=0)] = 1.0
    gamma: Annotated[float, Option("weight of the inner tensors in features", low=0)] = 1.0
    soft: Annotated[
        Literal["auto", "kl", "cosine", "mse"],
        Option("distance to the teacher; auto: kl for classes, cosine for embeddings, else mse"),
    ] = "auto"
    hard: Annotated[
        Literal["auto", "cross-entropy", "mse"],
        Option("distance to labels; auto: cross-entropy for whole numbers, else mse"),
    ] = "auto"
    temperature: Annotated[float, Option("softens the classes for kl", low=0, low_open=True)] = 4.0
    features: Annotated[
        tuple[str, ...], Option("inner tensors to match too; blocks: all residual sums")
    ] = ()

    requires: ClassVar[tuple[Precondition, ...]] = (
        *TrainingPass.requires,
        Labels(when=When("alpha", 0.0, equal=False)),
    )

    def check(self, graph: Graph, context: Context) -> None:  # noqa: ARG002
        """The loss is not empty."""
        if not self.alpha and not self.beta and not (self.gamma and self.features):
            raise PassError(f"{self.name}: alpha, beta and gamma leave nothing to train by")

    def losses(self) -> LossOptions:
        """The parts of the loss that the options name."""
        from graphopt.bridge.training.criterion import LossOptions  # noqa: PLC0415 - torch is heavy

        return LossOptions(
            self.alpha,
            self.beta,
            self.gamma if self.features else 0.0,
            self.soft,
            self.hard,
            self.temperature,
            self.features,
        )


def require_torch(name: str) -> None:
    """Say what to install where torch is missing.

    Raises:
        SystemFailure: It is.
    """
    if importlib.util.find_spec("torch") is None:
        raise SystemFailure(f"{name} needs PyTorch; install it with: pip install 'graphopt[train]'")


def require_torch_for(passes: Iterable[Pass]) -> None:
    """Say what to install where one of the passes works in torch and torch is missing.

    Raises:
        SystemFailure: It is.
    """
    for item in passes:
        if item.asks(TrainingSamples):
            require_torch(item.name)


def told(curves: TrainingCurves, changes: Changes, changed: Sequence[str]) -> Changes:
    """Note what a training changed, or why nothing was kept of it."""
    changes.curves = curves
    if curves.best_step == 0:
        changes.nothing = "no step was better on the held-out samples; kept untrained"
        return changes
    for name in changed:
        changes.edit(name, "trained")
    return changes
