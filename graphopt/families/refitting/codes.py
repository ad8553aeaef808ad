"""Layers whose weight is codes, as what can be solved for: values on a grid, and a bias."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.analysis.downstream import result_of
from graphopt.contract.passes import SampledRows
from graphopt.facts.codebook_codes import codebook_weight
from graphopt.facts.coded import CodedWeight, coded_weight
from graphopt.facts.layers import Layer, Refusal, layers_of
from graphopt.facts.operands import Operand, operand
from graphopt.families.refitting.blocks import blocks_of, from_blocks
from graphopt.families.refitting.solvable import Solvable, solvable_at
from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op
from graphopt.numerics.centre_grids import CentreGrid
from graphopt.rewrite.edit import only_reader
from graphopt.rewrite.integer_layers import BiasForm, bias_step, set_quantized_bias
from graphopt.rewrite.values import set_values

__all__ = ["OnGrid", "SolvableCodes", "coded_solvables"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OnGrid:
    """A weight on a grid.

    Attributes:
        weight: Values of the grid, ``(groups, width, out)``.
        scale: Shaped as those of the codes.
        raised: Scales that had to rise so that kernels do not saturate.
        centres: Of a codebook; None of a grid of integers.
    """

    weight: Floats
    scale: NDArray[np.float32]
    raised: int = 0
    centres: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class SolvableCodes(Solvable):
    """A layer whose weight is codes.

    Attributes:
        layer: The layer.
        coded: Its weight.
        adds: What it adds to each channel; None where there is nothing, or something to leave.
        reads: What is asked of the tensor that it reads.
        input_scale: Step of what it reads, where its kernel adds up integers of a known step; None
            where that is floats.
        bias_form: How a bias is written beside such sums.
    """

    layer: Layer
    coded: CodedWeight
    adds: Operand | None
    reads: SampledRows
    input_scale: float | None
    bias_form: BiasForm

    def request(self) -> SampledRows:
        """What each result is a sum of."""
        return self.reads

    def values(self) -> tuple[Floats, Floats]:
        """Weight and bias as they are now."""
        values = self.coded.values().astype(np.float64) * self.layer.alpha
        bias = np.zeros(self.channels)
        if self.adds is not None:
            bias = bias + self.adds.values().astype(np.float64).reshape(-1) * self.layer.beta
        return blocks_of(self.layer, values), bias.reshape(self.groups, -1)

    def store(self, weight: Floats, bias: Floats | None) -> Refusal | None:
        """Store values of the grid that the codes have now."""
        return self.store_on(OnGrid(weight, self.coded.scale, centres=self.coded.centres), bias)

    def store_on(self, found: OnGrid, bias: Floats | None) -> Refusal | None:
        """Store values of a grid of other scales, and the bias in the step that they make.

        Args:
            found: The values and their grid.
            bias: ``(groups, out)``; None to leave it, unless its step is another now.
        """
        coded = self.coded
        if bias is None and self.input_scale is not None:
            bias = self.values()[1]
        values = from_blocks(self.layer, found.weight) / self.layer.alpha
        steps = coded.spread(found.scale).astype(np.float64)
        if found.centres is None:
            codes = np.rint(values / steps).astype(np.int64) + coded.spread(coded.zero_point)
        else:
            codes = CentreGrid(steps, found.centres.astype(np.float64)).codes(values)
        coded.store(codes.clip(coded.qmin, coded.qmax), found.scale, found.centres)
        flat, one = None if bias is None else bias.reshape(-1), self.layer
        if flat is None or (self.input_scale is not None and one.bias_place is None):
            return None  # a MatMul has none before something is added to its result
        if self.input_scale is not None:
            held = one.weight.scale
            assert held is not None and one.bias_place is not None
            step = np.asarray(held.values * np.float32(self.input_scale))
            floats = one.bias is not None and one.bias.form == "float"
            form = "float" if floats else self.bias_form
            set_quantized_bias(self.scope, *one.bias_place, flat, step, form)
        elif self.adds is not None:
            kept = self.adds.values()
            values = (flat / one.beta).reshape(kept.shape).astype(kept.dtype)
            set_values(self.adds, values)
        else:
            name = self.scope.add_constant(f"{one.weight.constant.origin}_bias", flat.astype("f4"))
            self.scope.set_input(self.node, 2, name)
        return None


def coded_solvables(
    graph: Graph, chosen: Callable[[NodeProto], bool], bias_form: BiasForm
) -> Iterator[Solvable | Refusal]:
    """The layers of the main graph with codes; where these have to stay, their bias alone.

    Args:
        graph: The graph.
        chosen: Which nodes count.
        bias_form: How the target takes a bias.
    """
    for node in list(graph.main.nodes):
        for one in layers_of(graph.main, node):
            if not isinstance(one, Layer) or one.weight.form == "float" or not chosen(node):
                continue
            found = _solvable(one, bias_form)
            if isinstance(found, Refusal) and one.multiplies:
                found = solvable_at(one, found)
            yield found


def _solvable(one: Layer, bias_form: BiasForm) -> Solvable | Refusal:
    scope, node = one.scope, one.node
    if one.kind not in ("conv", "linear"):
        what = {"table": "entries of it are looked up", "recurrent": "it is read step by step"}
        return Refusal(node, f"{what.get(one.kind, 'it is contracted')}; its codes stay")
    needs = ("right", "matrix") if one.kind == "linear" else ()
    if refusal := one.refusal(*needs):
        return refusal
    if one.alpha <= 0:
        return Refusal(node, f"its alpha is {one.alpha:g}")
    coded = codebook_weight(one) if one.weight.form == "codebook" else coded_weight(one)
    if isinstance(coded, Refusal):
        return coded
    dynamic = is_op(node, "MatMulInteger")
    reads = _of_integers(one) if dynamic else SampledRows.summed(one)
    if isinstance(reads, Refusal):
        return reads
    step = None if dynamic else bias_step(one)
    result, adds = _sums(one) if dynamic else (result_of(one), one.bias)
    place = None if dynamic else one.bias_place
    if adds is not None and not _plain(one, adds):
        return Refusal(node, "its bias is not a constant of one value per output channel")
    if adds is None and one.adds and not dynamic:
        return Refusal(node, "its bias is computed at run time")
    biased = adds is not None or place is not None
    return SolvableCodes(
        scope,
        node,
        result,
        -1 if dynamic else one.result_axis,
        one.groups,
        one.channels,
        width=math.prod(one.weight.dims) // one.channels * one.groups,
        biased=adds is not None,
        takes_bias=biased,
        how="",
        layer=one,
        coded=coded,
        adds=adds,
        reads=reads,
        input_scale=None if step is None else _input_scale(one),
        bias_form=bias_form,
    )


def _plain(one: Layer, adds: Operand) -> bool:
    """Whether what a layer adds is constant, one value a channel, and not for others to replace."""
    size = math.prod(adds.constant.shape)
    return size == one.channels and not adds.constant.overridable and one.beta != 0


def _input_scale(one: Layer) -> float:
    """Step of what a layer with a ``bias_step`` reads."""
    source = one.scope.producer(one.data)
    held = None if source is None else one.scope.constant(source.input[1])
    assert held is not None
    return float(held.values)


def _of_integers(one: Layer) -> SampledRows | Refusal:
    """What a MatMulInteger reads, before it became integers."""
    maker = one.scope.producer(one.data)
    if maker is None or not is_op(maker, "DynamicQuantizeLinear"):
        return Refusal(one.node, "nobody knows of which floats the integers are that it reads")
    return SampledRows(maker.input[0], axis=-1)


def _sums(one: Layer) -> tuple[str, Operand | None]:
    """What becomes of the sums of a MatMulInteger: floats, with a bias where an Add follows."""
    scope, name = one.scope, one.node.output[0]
    for _ in range(2):  # Cast and Mul, as ``coded_weight`` knows them
        use = only_reader(scope, name)
        assert use is not None
        name = use.node.output[0]
    use = only_reader(scope, name)
    if use is None or use.scope is not scope or not is_op(use.node, "Add"):
        return name, None
    bias = operand(scope, use.node, 1 - use.index)
    if bias is None or bias.form != "float" or bias.constant.shape != (one.channels,):
        return name, None
    return str(use.node.output[0]), bias
