"""Pass ``absorb-bias``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from graphopt.analysis.channel_spans import Span, channel_spans
from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, ChannelAbsMax, ChannelMin, Context, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples, Unquantized
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.facts.operators import find
from graphopt.facts.select import select
from graphopt.families.chosen import Exclude, Nodes
from graphopt.families.equalization import AGREES_DB, agreement_db, usable_spans
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute, is_op, label
from graphopt.rewrite.channel_scaling import add_to_bias, weight_of

__all__ = ["AbsorbBias"]

Floats = NDArray[np.float64]
_NOTHING = 1e-3
"""Share of the largest value of a tensor that is not worth moving."""


@register("absorb-bias")
@dataclass(frozen=True, kw_only=True)
class AbsorbBias(Pass):
    """Move what a channel always has above zero into the bias of the layers behind.

        Conv(W1, b1) -> Relu -> Conv(W2, b2)      becomes

        Conv(W1, b1 - c) -> Relu -> Conv(W2, b2 + W2 c)

    A Relu that always sees more than c does nothing there, so that c may as well be added behind
    it. The tensor between then needs a smaller range, and its codes have smaller steps. c is the
    least that the channel has on the samples, less ``margin`` of the range that it has above it, so
    that other samples may go lower; none of what is below zero. It pays behind equalize-scales,
    which makes some biases large, and in front of quantize-static.

    Left alone are sums, layers that pad with zeros, which are no c, channels that reach the upper
    bound of a Clip, and layers without a bias to add to. The model must agree with what it was by
    more than 100 dB on the samples, else the pass is refused.

    Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias
    Correction, section 4.1.3, with ranges from samples instead of c = beta - 3 gamma.
    """

    margin: Annotated[
        float,
        Option("share of a channel's range that stays free below its least value", low=0, high=1),
    ] = 0.1
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    may_grow: ClassVar[str] = "a layer may get a bias"
    requires = (Unquantized(), CalibrationSamples())

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes(nothing="no channel between two layers is always above zero")
        chosen = select(graph, self.nodes, self.exclude)
        spans = usable_spans(graph, context, changes, chosen, _unfit)
        constants = self._constants(spans, context, changes)
        if not constants:
            return changes
        trial = graph.copy()
        for span in channel_spans(trial, context.shapes):
            if span.key in constants:
                _move(span, constants[span.key])
        level = agreement_db(context, graph, trial)
        if level is not None and level < AGREES_DB:
            raise PassError(f"moved, the model agrees with what it was by {level:.0f} dB alone")
        for span in spans:
            if span.key in constants:
                moved = constants[span.key]
                count = int((moved > 0).sum())
                what = f"{count} of {moved.size} channels lowered by up to {moved.max():.3g}"
                changes.edit(span.name, what)
        graph.become(trial)
        return changes

    def _constants(
        self, spans: Sequence[Span], context: Context, changes: Changes
    ) -> dict[str, Floats]:
        """What each channel of each span is lowered by, where that is something."""
        least = {span.key: ChannelMin(span.key, span.tensors[span.key]) for span in spans}
        most = {span.key: ChannelAbsMax(span.key, span.tensors[span.key]) for span in spans}
        answers = context.observe([*least.values(), *most.values()])
        found: dict[str, Floats] = {}
        for span in spans:
            pair = least[span.key], most[span.key]
            if failure := next(filter(None, map(answers.failure, pair)), None):
                changes.skip(span.makers[0].node, str(failure))
                continue
            low, high = (answers[each].astype(np.float64) for each in pair)
            moved = np.maximum(low - self.margin * (high - low), 0.0)
            for bound in span.bounds:
                moved = np.where(high * (1 + self.margin) < bound.high, moved, 0.0)
            moved[moved < _NOTHING * high.max(initial=0.0)] = 0.0
            if moved.any():
                found[span.key] = moved
            else:
                changes.skip(span.makers[0].node, "no channel of it is always above zero")
        return found

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example(_raised)
        return [
            plain,
            plain.but(margin=0.0),
            plain.but(nodes=("Conv", "Gemm")),
            plain.but(exclude=("last",)),
        ]


def _unfit(span: Span) -> str:
    """Why nothing can be moved through a span; empty where it can."""
    if len(span.makers) != 1 or span.added:
        return "other values are added to what it makes"
    if not span.makers[0].adds:
        return "it has no bias to lower"
    for node in span.nodes:
        row = find(node)
        assert row is not None
        keeps = row.homogeneous or row.kind in ("view", "permute") or is_op(node, "Clip")
        if not keeps and not (row.kind == "pool" and not _pads(node)):
            return f"{label(node)}: {node.op_type} does not hand on a constant"
    for each in span.takers:
        if each.beta == 0:
            return f"{label(each.node)}: its beta is 0"
        if _pads(each.node):
            return f"{label(each.node)}: it pads with zeros"
        if is_op(each.node, "MatMul") and each.bias is None:
            return f"{label(each.node)}: it has no bias to add to"
        if is_op(each.node, "ConvTranspose"):
            return f"{label(each.node)}: at its edges fewer inputs are summed"
    return ""


def _pads(node: NodeProto) -> bool:
    """Whether a node pads what it reads."""
    auto = attribute(node, "auto_pad", "NOTSET")
    return any(attribute(node, "pads", [])) or auto not in ("NOTSET", "VALID")


def _move(span: Span, moved: Floats) -> None:
    """Lower what a layer adds, and raise it behind."""
    add_to_bias(span.makers[0], -moved)
    for each in span.takers:
        weight = weight_of(each)
        groups = weight.shape[0]
        shift = np.einsum("goip,gi->go", weight, moved.reshape(groups, -1)).ravel()
        if each.bias is not None:
            add_to_bias(each, shift)
        else:
            kind = each.weight.dtype
            name = each.scope.add_constant(f"{label(each.node)}_bias", shift.astype(kind))
            each.scope.set_input(each.node, 2, name)


def _raised() -> onnx.ModelProto:
    """A small network of which some channels are always above zero."""
    rng = np.random.default_rng(4)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        raised (float[N,3,6,6] x) => (float[N,4] y) {
          a = Conv (x, W1, b1)
          r = Relu (a)
          p = MaxPool <kernel_shape = [2,2]> (r)
          c = Conv (p, W2, b2)
          s = Relu (c)
          g = GlobalAveragePool (s)
          f = Flatten (g)
          y = Gemm <transB = 1> (f, W3)
        }"""
    )
    parts = {
        "W1": rng.normal(size=(6, 3, 3, 3)) * 0.02,
        "b1": rng.permutation([3.0, 2.0, 0.0, -1.0, 5.0, 0.1]),
        "W2": rng.normal(size=(6, 6, 1, 1)) * 0.1,
        "b2": rng.permutation([0.0, 4.0, 0.0, 2.0, 0.0, 6.0]),
        "W3": rng.normal(size=(4, 6)),
    }
    for name, values in parts.items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return model
