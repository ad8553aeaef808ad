"""The pass ``round-weights``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.facts.layers import Refusal
from graphopt.facts.select import select
from graphopt.families.chosen import Exclude, Nodes
from graphopt.families.refitting.codes import OnGrid, SolvableCodes, coded_solvables
from graphopt.families.refitting.fit import Fit
from graphopt.families.refitting.on_grid import put_on_grid
from graphopt.families.refitting.solvable import Solvable
from graphopt.families.refitting.walks import Refit
from graphopt.graph.graph import Graph
from graphopt.numerics.shrinkage import shrunk

__all__ = ["RoundWeights"]

Floats = NDArray[np.float64]


@register("round-weights")
@dataclass(frozen=True, kw_only=True)
class RoundWeights(Pass):
    """Choose the codes of quantized weights by what the layers read, behind any quantize pass.

        x' -> Conv(DQ(W int8), b) -> y'      becomes      x' -> Conv(DQ(W' int8), b') -> y'' near y

    The pass in front decides which layers have codes, of which type, with scales of which shape;
    this one decides the values inside that form. Layer after layer, the float weight is fitted
    again by least squares behind what the layer reads in the quantized network, so that each layer
    repairs what those in front of it did; scales follow by what they cost the results; then the
    weight is rounded by second order and by coordinate descent; at last the bias. Weights of four
    bits lose so little that most networks need no training; those of eight bits gain as well.

    Where samples are few, what they say of inputs that vary together is trusted as far as parts of
    them agree on it.

    It needs calibration samples, no labels. Put it behind quantize-static, quantize-dynamic or
    quantize-weights; nothing has to follow that repairs biases. Weights that are zero in the
    float model stay zero. Codes that the input model had already stay: there is no float weight to
    round.

    Source: Frantar et al. 2022, GPTQ; Nagel et al. 2020, Up or Down? Adaptive Rounding for
    Post-Training Quantization (why not to nearest); He et al. 2017, Channel Pruning for
    Accelerating Very Deep Neural Networks, section 3 (least squares behind what came before);
    Schaefer and Strimmer 2005, A Shrinkage Approach to Large-Scale Covariance Matrix Estimation.
    """

    samples: Annotated[int, Option("calibration samples to take rows from", low=1)] = 512
    rows: Annotated[int, Option("most rows of a layer to go by", low=1)] = 16384
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    joins: ClassVar[bool] = True
    must_help: ClassVar[bool] = True
    rounds_halves: ClassVar[bool] = True
    may_grow: ClassVar[str] = "a layer may get a bias"
    requires = (CalibrationSamples(),)

    def check(self, graph: Graph, context: Context) -> None:
        if not any(isinstance(one, Solvable) for one in self._found(graph, context)):
            raise PassError("there are no weights of codes; put a quantize pass before it")

    def _found(self, graph: Graph, context: Context) -> Iterator[Solvable | Refusal]:
        chosen = select(graph, self.nodes, self.exclude)
        return coded_solvables(graph, chosen, context.target.bias)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        found = list(self._found(graph, context))
        listed = [each for each in found if isinstance(each, Solvable)]
        refit = Refit(graph, context, listed, self.samples, unrounded=True)
        saturates = context.target.saturates
        for each in found:
            told = each if isinstance(each, Refusal) else self._solve(each, refit, saturates)
            if isinstance(told, Refusal):
                changes.skip(told)
            else:
                changes.edit(each.node, told)
        return changes

    def _solve(self, one: Solvable, refit: Refit, saturates: bool) -> str | Refusal:
        """Set the values of one layer; what came of it."""
        fit = refit.fit(one, self._enough(one))
        if isinstance(fit, Refusal):
            return fit
        before = fit.error(fit.weight, fit.bias)
        if not isinstance(one, SolvableCodes):
            solved = fit.solved(None, 3, fit.weight != 0, biased=one.takes_bias)
            after = fit.error(solved.weight, solved.bias)
            if after >= before or not fit.differs(solved):
                return Refusal(one.node, "no other bias comes nearer to what it should give")
            refusal = one.store(solved.weight, solved.bias)
            return refusal or f"{one.how}error of its result {before:.2%}, now {after:.2%}"
        if not refit.has_floats(one):
            reason = "the float model has no float weight of it, so there is nothing to round"
            return Refusal(one.node, reason)
        found, bias = self._rounded(one, fit, saturates=saturates)
        after = fit.error(found.weight, bias)
        if after >= before:
            return Refusal(one.node, "no other codes come nearer to what it should give")
        refusal = one.store_on(found, bias if one.takes_bias else None)
        return refusal or f"error of its result {before:.2%}, now {after:.2%}"

    def _enough(self, one: Solvable) -> int:
        """Rows to go by: those of few values, such as a depthwise convolution reads, need few."""
        width = one.width // one.groups
        return min(self.rows, max(_LEAST_ROWS, _ROWS_PER_INPUT * width))

    def _rounded(self, one: SolvableCodes, fit: Fit, *, saturates: bool) -> tuple[OnGrid, Floats]:
        """Weight on its grid, and bias."""
        sparse = bool((fit.start == 0).mean() > _SPARSE)
        mask = fit.start != 0 if sparse else np.ones(fit.start.shape, bool)
        solved = fit.solved(None, 3, mask, biased=one.takes_bias)
        covariance = shrunk(fit.moments, fit.rows)
        if not one.takes_bias:
            mean = fit.moments.mean
            covariance = covariance + mean[:, :, None] * mean[:, None]
        found = put_on_grid(
            one,
            solved.weight,
            covariance,
            solved.bias,
            saturates=saturates,
            mask=mask if sparse else None,
        )
        return found, fit.bias_for(found.weight, one.takes_bias)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        four = "upgrade-opset{opset=21},quantize-static{weight_type=int4,edges=same}"
        plain = Example("cnn", {"samples": 8, "rows": 512}, four, samples=16)
        return [plain, plain.but(nodes=("Conv",)), plain.but(exclude=("Gemm",))]


_LEAST_ROWS = 8192
_ROWS_PER_INPUT = 64
_SPARSE = 0.1
"""Share of zeros from which on a weight counts as sparse."""
