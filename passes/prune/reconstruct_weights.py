"""Pass ``reconstruct-weights``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.facts.layers import Layer, Refusal, layers
from graphopt.facts.select import select
from graphopt.families.chosen import Exclude, Nodes
from graphopt.families.refitting import Refit, refit_refusal, store_solved
from graphopt.graph.graph import Graph

__all__ = ["ReconstructWeights"]

_RIGHT_ALREADY = 1e-6
"""Share of the variance of the results that is not worth a change."""
_SAME = 1e-4
"""Weights that differ by no more, relative to the largest, are solved the same way already."""


@register("reconstruct-weights")
@dataclass(frozen=True, kw_only=True)
class ReconstructWeights(Pass):
    """Solve each layer again so that the model gives what it gave before a lossy pass, untrained.

        x' -> Conv(W) -> y'      becomes      x' -> Conv(W', b') -> y'' near y

    Layer after layer, weight and bias follow by regularised least squares from what the layer now
    reads (behind layers that are solved already) to what it gave in the float model. Where the
    result is added to a shortcut, the sum is what counts: the layer makes up for what the
    shortcut has lost. Where a Relu or Clip stands behind, values that it does not tell apart count
    as equal (``rounds`` of majorisation). Behind a global pooling the rows before it are taken.
    Weights that are zero stay zero; neither nodes nor shapes change.

    How strongly weights are pulled towards those of the float model is tried out on the last fifth
    of the rows, unless ``ridge`` says it. Tokens of padding do not count where an input of the
    model is a mask, by its name and with a 0 or 1 for each; of samples whose results would take
    more than 2.5 GB there are fewer.

    Put it behind prune-channels, mask-weights or factorize-conv, before any quantize pass: weights
    that are stored as codes stay as they are. Needs calibration samples, no labels and no torch.
    Source: He et al. 2017, Channel Pruning for Accelerating Very Deep Neural Networks, section 3;
    Zhang et al. 2015, Accelerating Very Deep Convolutional Networks, section 3.2 (the answers
    behind a Relu).
    """

    samples: Annotated[int, Option("calibration samples to take rows from", low=1)] = 512
    rows: Annotated[int, Option("most rows of a layer to solve it by", low=1)] = 32768
    ridge: Annotated[
        float | None,
        Option("pull towards the old weights, by the mean square of the input; else tried out", 0),
    ] = None
    rounds: Annotated[int, Option("solutions behind a function that is flat", 0, 100)] = 3
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    joins: ClassVar[bool] = True
    must_help: ClassVar[bool] = True
    may_grow: ClassVar[str] = "a layer may get a bias"
    requires = (CalibrationSamples(),)

    def check(self, graph: Graph, context: Context) -> None:
        if graph is context.reference:
            raise PassError("no lossy pass stands before it, so there is nothing to repair")

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        chosen = select(self.nodes, self.exclude)
        listed: list[Layer] = []
        for each in layers(graph.main):
            if isinstance(each, Layer) and not (each.multiplies and chosen(each.node)):
                continue
            refusal = each if isinstance(each, Refusal) else refit_refusal(each)
            if refusal is not None:
                changes.skip(refusal)
            elif isinstance(each, Layer):
                listed.append(each)
        refit = Refit(graph, context, listed, self.samples)
        for one in listed:
            told = self._solve(one, refit)
            if isinstance(told, Refusal):
                changes.skip(told)
            else:
                changes.edit(one.node, told)
        return changes

    def _solve(self, one: Layer, refit: Refit) -> str | Refusal:
        """Solve one layer and store it; what came of it."""
        fit = refit.fit(one, self.rows)
        if isinstance(fit, Refusal):
            return fit
        before = fit.error(fit.weight, fit.bias)
        if before < _RIGHT_ALREADY:
            return Refusal(one.node, "it gives what it should already")
        biased = one.bias_place is not None
        solved = fit.solved(self.ridge, self.rounds, fit.weight != 0, biased=biased)
        after = fit.error(solved.weight, solved.bias)
        change = np.abs(solved.weight - fit.weight).max(initial=0)
        if after >= before or change <= _SAME * np.abs(fit.weight).max(initial=0):
            return Refusal(one.node, "no other weights come nearer to what it should give")
        refusal = store_solved(one, solved.weight, solved.bias if biased else None)
        return refusal or f"error of its result {before:.2%}, now {after:.2%}"

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("cnn", {}, "mask-weights{min_size=0,criterion=magnitude}", samples=16)
        return [
            plain,
            plain.but(rounds=0, ridge=0.01, rows=100, samples=8),
            plain.but(nodes=("Gemm",)),
            plain.but(exclude=("conv_0",)),
        ]
