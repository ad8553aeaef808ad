"""Pass ``distill``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context
from graphopt.contract.preconditions import OtherTeacher, When
from graphopt.contract.registry import register
from graphopt.families.training import DistillingPass, distilling_examples, told
from graphopt.graph.graph import Graph

__all__ = ["Distill"]


@register("distill")
@dataclass(frozen=True, kw_only=True)
class Distill(DistillingPass):
    """Train the weights until the model answers like its teacher again.

        W      becomes      W', with S(x; W') close to T(x)

    The teacher is the model as it came in, or another one (``--teacher``); no labels are needed.
    The loss is L = alpha * L_hard + beta * L_soft + gamma * L_features: that of finetune against
    labels; KL divergence of softened classes or of each yes or no, cosine of embeddings or relative
    squared error of numbers against the teacher's outputs, each model read by its own (logits or
    probabilities); relative squared error of inner tensors. Outputs of which nothing says what they
    mean are numbers. Nodes and names stay, and zeros of pruned weights stay zero. What did best on
    held-out samples is kept, judged by the figure of the labels alone where alpha asks for them;
    if that is the model before, nothing changes.

    Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015);
    Romero et al., FitNets (2015), section 2.2 for inner tensors.
    """

    requires = (*DistillingPass.requires, OtherTeacher(when=When("alpha", 0.0)))

    def run(self, graph: Graph, context: Context) -> Changes:
        trainee = self.trainee(graph, context)
        curves = self.train(trainee, context, self)
        return told(curves, Changes(), trainee.write_back(graph) if curves.best_step else [])

    @classmethod
    def examples(cls) -> Sequence[Example]:
        before = "fuse-batchnorm,mask-weights{sparsity=0.8,criterion=magnitude}"
        first, *others = distilling_examples(Example("cnn", {"lr": 2e-3}, before, 24, "classes"))
        return [first, *others, first.but(batch_norm="insert")]
