"""Pass ``finetune``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context
from graphopt.contract.preconditions import Labels
from graphopt.contract.registry import register
from graphopt.contract.training import ClassWeights, Hard, Ignore, LossOptions
from graphopt.families.training import TrainingPass, told, training_examples
from graphopt.graph.graph import Graph

__all__ = ["Finetune"]


@register("finetune")
@dataclass(frozen=True, kw_only=True)
class Finetune(TrainingPass):
    """Train the weights on labels.

        W      becomes      W', with less loss between S(x; W') and the labels

    Cross-entropy for classes, each sample or each place of it; binary cross-entropy for yes or no
    and for labels that do not exclude each other; squared error for numbers. Labels may be class
    numbers of any type, one-hot rows or texts. Nodes and names stay, and zeros of pruned weights
    stay zero. What did best on held-out samples is kept; if that is the model before, nothing
    changes. A model gains from new labels even uncompressed, so compare with the uncompressed model
    trained the same way.

    Source: stochastic gradient descent, Robbins and Monro, A Stochastic Approximation Method
    (1951); Kingma and Ba, Adam (2015).
    """

    hard: Hard = "auto"
    ignore: Ignore = None
    class_weights: ClassWeights = "none"

    requires = (*TrainingPass.requires, Labels())

    def run(self, graph: Graph, context: Context) -> Changes:
        losses = LossOptions(
            alpha=1.0,
            beta=0.0,
            hard=self.hard,
            ignore=self.ignore,
            class_weights=self.class_weights,
        )
        trainee = self.trainee(graph, context)
        curves = self.train(trainee, context, losses)
        return told(curves, Changes(), trainee.write_back(graph) if curves.best_step else [])

    @classmethod
    def examples(cls) -> Sequence[Example]:
        before = "fuse-batchnorm,mask-weights{sparsity=0.8,criterion=magnitude}"
        first, *others = training_examples(Example("cnn", {"lr": 2e-3}, before, 24, "classes"))
        return [
            first,
            *others,
            first.but(batch_norm="insert", hard="cross-entropy"),
            first.but(ignore=0, class_weights="balanced"),
            replace(first.but(hard="binary-cross-entropy"), labels="tags"),
            replace(first.but(hard="mse"), labels="values"),
            replace(first.but(hard="huber"), labels="values"),
        ]
