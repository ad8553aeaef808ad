"""What all passes have in common that train weights."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from graphopt.contract.curves import TrainingCurves
from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import Labels, Precondition, TrainingSamples, When
from graphopt.contract.training import LossOptions, Training, TrainOptions
from graphopt.errors import PassError, SystemFailure
from graphopt.facts.select import select
from graphopt.graph.graph import Graph

if TYPE_CHECKING:
    from graphopt.bridge.trainee import Trainee
    from graphopt.bridge.training.hooks import Hook

__all__ = [
    "DistillingPass",
    "TrainingPass",
    "beyond_memory",
    "distilling_examples",
    "pairs_of",
    "require_torch",
    "require_torch_for",
    "told",
    "torch_is_there",
    "training_examples",
]


@dataclass(frozen=True, kw_only=True)
class TrainingPass(TrainOptions, Pass):
    """A pass that trains weights; its fields are the options that all of them have."""

    nodes: Annotated[
        tuple[str, ...], Option("train only nodes of these names, types or kinds", patterns=True)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Option("train no nodes of these names, types or kinds", patterns=True)
    ] = ()
    frozen: Annotated[
        tuple[str, ...], Option("tensors up to which onnxruntime computes and nothing is trained")
    ] = ()
    lossy: ClassVar[bool] = True
    rounds_halves: ClassVar[bool] = True
    joins: ClassVar[bool] = True

    requires: ClassVar[tuple[Precondition, ...]] = (TrainingSamples(),)

    def training(self, context: Context) -> Training:
        """What the run offers for training; that it does is a precondition."""
        assert context.training is not None
        return context.training

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
        from graphopt.bridge.training.train import train  # noqa: PLC0415 - torch is heavy

        curves = train(trainee.module, trainee.graph, self.training(context), losses, self, hooks)
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
            epochs=4.0,
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
        first.but(alpha=0.5, ignore=0, class_weights="balanced", pair=("y=y",)),
        replace(first.but(alpha=0.5, hard="binary-cross-entropy"), labels="tags"),
        replace(first.but(soft="cosine", alpha=0.5, hard="mse"), labels="values"),
        replace(first.but(alpha=0.5, hard="huber"), labels="values"),
    ]


@dataclass(frozen=True, kw_only=True)
class DistillingPass(LossOptions, TrainingPass):
    """A pass that trains towards a teacher, labels or both: L = alpha L_hard + beta L_soft + ..."""

    requires: ClassVar[tuple[Precondition, ...]] = (
        *TrainingPass.requires,
        Labels(when=When("alpha", 0.0, equal=False)),
    )

    def check(self, graph: Graph, context: Context) -> None:  # noqa: ARG002
        """The loss is not empty."""
        if not self.alpha and not self.beta and not (self.gamma and self.features):
            raise PassError(f"{self.name}: alpha, beta and gamma leave nothing to train by")


def pairs_of(passes: Iterable[Pass]) -> tuple[str, ...]:
    """What the passes say of outputs that belong together, each once."""
    pairs = [pair for item in passes if isinstance(item, DistillingPass) for pair in item.pair]
    return tuple(dict.fromkeys(pairs))


def torch_is_there() -> bool:
    """Whether torch is installed; it is not loaded."""
    return importlib.util.find_spec("torch") is not None


def require_torch(name: str) -> None:
    """Say what to install where torch is missing or cannot be loaded.

    Raises:
        SystemFailure: It is, or cannot.
    """
    if not torch_is_there():
        raise SystemFailure(f"{name} needs PyTorch; install it with: pip install 'graphopt[train]'")
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as err:  # OSError: a shared library of it
        fault = " ".join(str(err).split())
        raise SystemFailure(
            f"{name} needs PyTorch, which is installed and cannot be loaded ({fault}); install it "
            "anew with: pip install --force-reinstall 'graphopt[train]'"
        ) from err


def require_torch_for(passes: Iterable[Pass]) -> None:
    """Say what to install where one of the passes works in torch and torch is missing.

    Raises:
        SystemFailure: It is.
    """
    for item in passes:
        for each in item.requires:
            if isinstance(each, TrainingSamples) and each.asked(item):
                require_torch(each.asker(item))


def beyond_memory(passes: Iterable[Pass], memory_limit: int | None) -> list[str]:
    """What of the passes a limit of memory does not hold for, in a sentence; mostly none."""
    unbounded = [item.name for item in passes if item.asks(TrainingSamples)]
    if memory_limit is None or not unbounded:
        return []
    names = ", ".join(dict.fromkeys(unbounded))
    return [
        f"the memory limit does not hold for {names}: gradients take what a batch needs; fewer "
        "samples in a batch, or more parts of it (accumulate), take less"
    ]


def told(curves: TrainingCurves, changes: Changes, changed: Sequence[str]) -> Changes:
    """Note what a training changed, or why nothing was kept of it."""
    changes.curves = curves
    if curves.best_step == 0:
        changes.nothing = curves.untrained
        return changes
    for name in changed:
        changes.edit(name, "trained")
    return changes
