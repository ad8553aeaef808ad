"""Pass ``distill``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from graphopt.errors import DataError, PassError
from graphopt.graph.graph import Graph
from graphopt.pipeline.contract import Changes, Context, Option
from graphopt.pipeline.registry import register
from graphopt.pipeline.training import TrainingPass, require_torch, told

__all__ = ["Distill"]


@register("distill")
@dataclass(frozen=True, kw_only=True)
class Distill(TrainingPass):
    """Train the weights until the model answers like its teacher again.

        W      becomes      W', with S(x; W') close to T(x)

    The teacher is the model as it came in, or another one (``--teacher``); no labels are needed.
    The loss is L = alpha * L_hard + beta * L_soft + gamma * L_features: cross-entropy or squared
    error against labels; KL divergence of softened classes, cosine of embeddings or relative
    squared error against the teacher's outputs; relative squared error of inner tensors. Nodes and
    names stay, and zeros of pruned weights stay zero. What did best on held-out samples is kept;
    if that is the model before, nothing changes.

    Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015);
    Romero et al., FitNets (2015), section 2.2 for inner tensors.
    """

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

    def check(self, graph: Graph, context: Context) -> None:
        super().check(graph, context)
        training = self.training(context)
        if not self.alpha and not self.beta and not (self.gamma and self.features):
            raise PassError("distill: alpha, beta and gamma leave nothing to train by")
        if self.alpha and training.samples.labels is None:
            raise DataError(
                "distill: alpha asks for labels and the training data has none; "
                "add an array 'labels' (labels.npy in a folder)"
            )
        if not self.alpha and _same(graph, training.teacher):
            raise PassError(
                "distill: the model is its own teacher; put distill behind the pass that changes "
                "it, or name another one with --teacher"
            )

    def run(self, graph: Graph, context: Context) -> Changes:
        require_torch(self.name)
        from graphopt.bridge import write_back  # noqa: PLC0415 - torch is heavy
        from graphopt.bridge.training.criterion import LossOptions  # noqa: PLC0415

        losses = LossOptions(
            self.alpha,
            self.beta,
            self.gamma if self.features else 0.0,
            self.soft,
            self.hard,
            self.temperature,
            self.features,
        )
        module = self.module(graph)
        curves = self.train(graph, context, module, losses)
        return told(curves, Changes(), write_back(module, graph) if curves.best_step else [])


def _same(graph: Graph, teacher: Graph) -> bool:
    """Whether nodes and weights are those of the teacher."""
    return graph.main.proto.node == teacher.main.proto.node and all(
        a == b for a, b in zip(graph.tensors(), teacher.tensors(), strict=False)
    )
