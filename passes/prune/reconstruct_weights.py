"""Pass ``reconstruct-weights``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.facts.layers import Refusal
from graphopt.facts.select import select
from graphopt.families.chosen import Exclude, Nodes
from graphopt.families.refitting.pairs import consecutive, solve_with
from graphopt.families.refitting.solvable import Solvable, solvables
from graphopt.families.refitting.walks import Refit
from graphopt.graph.graph import Graph, Scope

__all__ = ["ReconstructWeights"]

_RIGHT_ALREADY = 1e-6
"""Share of the variance of the results that is not worth a change."""


@register("reconstruct-weights")
@dataclass(frozen=True, kw_only=True)
class ReconstructWeights(Pass):
    """Solve each layer again so that the model gives what it gave before a lossy pass, untrained.

        x' -> Conv(W) -> y'      becomes      x' -> Conv(W', b') -> y'' near y

    Layer after layer, weight and bias follow by regularised least squares from what the layer now
    reads (behind layers that are solved already) to what it gave in the float model. Where the
    result is added to a shortcut, the sum is what counts: the layer makes up for what the
    shortcut has lost. Where a Relu or Clip stands behind, values that it does not tell apart count
    as equal (``rounds`` of majorisation). Behind a global pooling the rows before it are taken. The
    first factor of a product goes by what the last makes of it, where that is pointwise.

    Where channels went between two convolutions with a Relu or Clip between them, the first then
    goes by what the second makes of it rather than by what its own channels were: few channels,
    with filters of their own, stand for many. One step of Gauss and Newton for both (``pairs``),
    about doubles the time.

    Weights that are zero stay zero; neither nodes nor shapes change.

    How strongly weights are pulled towards those of the float model is tried out on the last fifth
    of the rows, unless ``ridge`` says it. Tokens of padding do not count where an input of the
    model is a mask, by its name and with a 0 or 1 for each; of samples whose results would take
    more than 2.5 GB there are fewer.

    Solved for are Conv and ConvTranspose of any kind, Gemm and MatMul, in every type of floats, and
    each BatchNormalization that belongs to no such layer; one that does takes up the bias of a
    layer that has none. Where the weight has to stay, as it is stored as codes or shared, the bias
    alone is solved for, in floats or in the int32 of an integer layer: this makes good much of what
    weights of 4 bits cost. A tensor that cannot be measured costs its layer alone.

    Put it behind the lossy passes: prune-channels, mask-weights, factorize-conv or quantize-weights
    (weights are free only before the latter). Needs calibration samples, no labels and no torch.
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
    pairs: Annotated[
        bool, Option("solve two convolutions together where channels between them went")
    ] = True
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
        found = list(solvables(graph, select(graph, self.nodes, self.exclude)))
        listed = [each for each in found if isinstance(each, Solvable)]
        refit = Refit(graph, context, listed, self.samples)
        for each in found:
            told = each if isinstance(each, Refusal) else self._solve(each, refit)
            if isinstance(each, Solvable) and self.pairs and refit.narrowed(each):
                told = self._solve_pair(each, told, refit, graph.main, listed)
            if isinstance(told, Refusal):
                changes.skip(told)
            else:
                changes.edit(each.node, told)
        return changes

    def _solve(self, one: Solvable, refit: Refit) -> str | Refusal:
        """Solve for one and store it; what came of it."""
        fit = refit.fit(one, self.rows)
        if isinstance(fit, Refusal):
            return fit
        before = fit.error(fit.weight, fit.bias)
        if before < _RIGHT_ALREADY:
            return Refusal(one.node, "it gives what it should already")
        biased = one.takes_bias
        solved = fit.solved(self.ridge, self.rounds, fit.weight != 0, biased=biased)
        after = fit.error(solved.weight, solved.bias)
        if after >= before or not fit.differs(solved):
            return Refusal(one.node, "no other weights come nearer to what it should give")
        refusal = one.store(solved.weight, solved.bias if biased else None)
        return refusal or f"{one.how}error of its result {before:.2%}, now {after:.2%}"

    def _solve_pair(
        self,
        one: Solvable,
        told: str | Refusal,
        refit: Refit,
        scope: Scope,
        listed: Sequence[Solvable],
    ) -> str | Refusal:
        """Solve for one together with what follows it; what came of that and was told before."""
        two = consecutive(scope, one, listed)
        more = None if two is None else solve_with(refit, *two, self.rows)
        if more is None:
            return told
        return more if isinstance(told, Refusal) else f"{told}; {more}"

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("cnn", {}, "mask-weights{min_size=0,criterion=magnitude}", samples=16)
        return [
            plain,
            plain.but(pairs=False),
            Example("cnn", {}, "prune-channels{macs=0.7,round_to=1,tries=0}", samples=16),
            plain.but(rounds=0, ridge=0.01, rows=100, samples=8),
            plain.but(nodes=("Gemm",)),
            plain.but(exclude=("conv_0",)),
        ]
