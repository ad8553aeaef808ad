"""The pass ``quantize-weights``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import MinOpset, When
from graphopt.contract.registry import register
from graphopt.facts.codes import stored_small
from graphopt.facts.expansion import producer
from graphopt.facts.layers import Layer, layers, picked_axis
from graphopt.facts.operands import FLOATS
from graphopt.facts.operators import is_kind
from graphopt.facts.quantized import quantizers
from graphopt.facts.select import select
from graphopt.facts.weights import WeightGroup, grouped, too_small
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.graph.constant import constants_of
from graphopt.graph.graph import Graph, Use
from graphopt.graph.node import is_op, label
from graphopt.numerics import grids, ranges
from graphopt.numerics.grids import CODE_TYPES, CodeType
from graphopt.rewrite import edit, qdq
from graphopt.rewrite.expanded import expand_codes
from graphopt.rewrite.values import drop_unread

__all__ = ["QuantizeWeights"]

_SCALE_BYTES = 4


@register("quantize-weights")
@dataclass(frozen=True, kw_only=True)
class QuantizeWeights(Pass):
    """Store weights as integers whose layers go on computing in floats: smaller, the same speed.

        Gather(W, i)   becomes   Cast(Gather(W int8, i)) * Gather(W_scale, i)
        Conv(x, W)     becomes   Conv(x, Cast(W int8) * W_scale)

    Tables of which a Gather or Slice picks entries, such as those of embeddings and positions, stay
    integers in memory as well, and only what is picked is dequantized. The other weights are turned
    back into floats when onnxruntime loads the model: it folds Cast and Mul, but not
    DequantizeLinear, which would run at every call. Scales are symmetric, one an entry of a table,
    an output channel of a Conv, ConvTranspose, Gemm or MatMul, or a gate row of an RNN, GRU or
    LSTM. Where the target's runtime folds DequantizeLinear, weights of one scale an index of an
    axis get that instead (opset 13). 8-bit weights that another tool has put behind a
    DequantizeLinear, in front of float activations, get the form that is expanded at load, with the
    same codes. No data is needed. Put it behind the passes that make layers compute on integers; it
    takes what they left. Four bits (``weight_type=int4``) usually want ``train-quantized`` behind;
    tables stay as they are then where the runtime looks no rows of four bits up.

    Source: Krishnamoorthi 2018, Quantizing deep convolutional networks for efficient inference,
    section 3.1.1 (weight only quantization).
    """

    which: Annotated[
        Literal["all", "embeddings"],
        Option("all weights, or only tables read by a Gather or Slice"),
    ] = "all"
    weight_type: Annotated[Literal["int8", "int4"], Option("integers to store")] = "int8"
    ranges: Annotated[
        Literal["auto", "max", "mse"],
        Option(
            "range: cover every value, or clip where that makes the error less; auto: mse for "
            "4 bits, else max"
        ),
    ] = "auto"
    min_size: MinSize = 1024
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    requires = (
        MinOpset("Mul that broadcasts", 7),
        MinOpset("4-bit integers", CODE_TYPES["int4"].opset, when=When("weight_type", "int4")),
    )

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        chosen = select(graph, self.nodes, self.exclude)
        if context.target.expands == "Cast":
            self._expand(graph, chosen, changes)
        groups = list(grouped(_with_scales(graph)))
        others = self._others(graph, groups)
        for group in map(_tables_first, groups):
            readers = [use.node for use in group.layers[0].weight.readers]
            places = list(dict.fromkeys(map(label, readers)))
            reason = self._reason(group, context, all(chosen(node) for node in readers))
            if reason:
                for place in places:
                    changes.skip(place, reason)
                continue
            values = group.constant.values
            if not np.isfinite(values).all():
                for place in places:
                    changes.skip(place, "its weight holds NaN or infinity")
                continue
            axes = _scale_axes(group.layers[0])
            linear = context.target.expands == "DequantizeLinear" and len(axes) == 1
            linear = linear and graph.opset >= context.target.min_opset
            _store(group, values, self._codes, self._method, linear=linear)
            channels = f"{_scales(group)} scales along axis {', '.join(map(str, axes))}"
            what = f"stored as {self.weight_type}, {channels}"
            changes.edit(", ".join(places), f"{group.constant.origin} {what}")
        for place, reason in others:
            changes.skip(place, reason)
        return changes

    def _others(self, graph: Graph, groups: Sequence[WeightGroup]) -> list[tuple[str, str]]:
        """Who reads the float constants that are no weight of a layer, and why those stay."""
        if self.which == "embeddings":
            return []
        taken = {(id(group.constant.scope), group.constant.origin) for group in groups}
        refusals = {
            (id(each.weight.constant.scope), each.weight.constant.origin): refusal.reason
            for each in layers(graph)
            if isinstance(each, Layer) and (refusal := each.refusal("float32")) is not None
        }
        found: dict[tuple[str, str], None] = {}
        for scope in graph.scopes():
            for constant in constants_of(scope):
                key = id(scope), constant.origin
                if constant.data_type not in FLOATS or key in taken:
                    continue
                if too_small(constant, self.min_size):
                    continue
                for use in scope.uses(constant.origin):
                    if use.index >= 0 and not _scales_codes(use):
                        known = refusals.get(key)
                        found[label(use.node), known or _no_layer(use.node)] = None
        return list(found)

    def _expand(self, graph: Graph, chosen: Callable[[NodeProto], bool], changes: Changes) -> None:
        """Weights whose codes are dequantized at every call: the same codes, expanded at load."""
        for layer in [each for each in layers(graph) if isinstance(each, Layer)]:
            if layer.weight.form != "dequantized" or not stored_small(layer):
                continue
            if layer.kind == "table" and quantizers(layer.scope, layer.node.output[0]):
                continue  # it hands on codes
            if self.which == "embeddings" and layer.kind != "table":
                continue
            if chosen(layer.node) and expand_codes(layer):
                changes.edit(layer.node, "the codes of its weight are expanded when it is loaded")

    @property
    def _codes(self) -> CodeType:
        return CODE_TYPES[self.weight_type]

    @property
    def _method(self) -> Literal["max", "mse"]:
        if self.ranges == "auto":
            return "mse" if self.weight_type == "int4" else "max"
        return self.ranges

    def _reason(self, group: WeightGroup, context: Context, chosen: bool) -> str:
        """Why a weight stays float; empty where it does not."""
        constant, lookups, scales = group.constant, _lookups(group), _scales(group)
        if not chosen:
            return "kept float by the options nodes and exclude"
        if self.which == "embeddings" and not lookups:
            return "no entries of it are looked up, and which is embeddings"
        size = math.prod(constant.shape)
        if reason := too_small(constant, self.min_size):
            return reason
        if lookups and self.weight_type not in context.target.row_types:
            lacking = f"{context.target.runtime} has no Gather of {self._codes.bits} bits"
            return f"a table whose entries are looked up; {lacking}"
        stored = size * self._codes.bits / 8 + _SCALE_BYTES * scales
        if stored >= constant.nbytes / 2:
            return "as many scales as it needs leave hardly anything to gain"
        if group.layers[0].weight.given_out:
            return "its weight is also an output of its graph"
        refusal = group.layers[0].refusal("fixed")
        return "" if refusal is None else refusal.reason

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [
            Example("cnn"),
            Example("embedding", {"which": "embeddings", "ranges": "max", "exclude": ("MatMul",)}),
            Example("shared-weights", {"ranges": "mse", "min_size": 0, "nodes": ("MatMul",)}),
            Example(
                "mlp", {"weight_type": "int4", "exclude": ("Gemm",)}, "upgrade-opset{opset=21}"
            ),
        ]


def _with_scales(graph: Graph) -> Iterator[Layer]:
    for each in layers(graph):
        if isinstance(each, Layer) and _scale_axes(each):
            yield each


def _scales_codes(use: Use) -> bool:
    """Whether a constant is the scale of codes, or the factor of what a Cast makes of them."""
    maker = None
    if is_op(use.node, "Mul"):
        _, maker = producer(use.scope, use.node.input[1 - use.index])
    return is_kind(use.node, "quantize") or (maker is not None and is_op(maker, "Cast"))


def _no_layer(node: NodeProto) -> str:
    return f"a constant of {node.op_type}, which no layer reads as its weight, stays float"


def _scale_axes(layer: Layer) -> tuple[int, ...]:
    """The axes of a float32 weight that have scales of their own; none for one to leave alone."""
    turned, shape = layer.weight.turned, layer.weight.constant.shape
    if layer.refusal("float32") is not None:
        return ()
    if layer.kind == "table":
        wide = math.prod(shape) > shape[layer.out_axis]
        return (layer.out_axis,) if wide and not turned else ()
    if layer.kind == "recurrent":
        return () if turned else (0, 1)
    return (layer.out_axis,)


def _scales(group: WeightGroup) -> int:
    return math.prod(group.constant.shape[axis] for axis in _scale_axes(group.layers[0]))


def _lookups(group: WeightGroup) -> list[Use]:
    """The places that pick entries of a table along the axis of its scales."""
    constant, axes, found = group.constant, _scale_axes(group.layers[0]), []
    for use in constant.scope.uses(constant.origin):
        axis = picked_axis(use.scope, use.node, use.index)
        if axis is not None and (axis % len(constant.shape),) == axes:
            found.append(use)
    return found


def _tables_first(group: WeightGroup) -> WeightGroup:
    """The same layers; those that look entries up come first and decide where scales lie."""
    ordered = sorted(group.layers, key=lambda each: each.kind != "table")
    return WeightGroup(group.constant, tuple(ordered))


def _store(
    group: WeightGroup,
    values: NDArray[Any],
    kind: CodeType,
    method: Literal["max", "mse"],
    *,
    linear: bool,
) -> None:
    """Put codes and scales in place of the constant.

    Args:
        group: The layers that read it.
        values: Its floats.
        kind: Of the codes.
        method: How scales follow from the values.
        linear: Expand it by DequantizeLinear, unless rows of it are looked up.
    """
    constant, axes = group.constant, _scale_axes(group.layers[0])
    rows = np.moveaxis(values, axes, range(len(axes)))
    kept = rows.shape[: len(axes)]
    flat = ranges.weight_scales(rows.reshape(math.prod(kept), -1), 0, kind.qmax, method)
    shape = [1] * values.ndim
    for axis, length in zip(axes, kept, strict=True):
        shape[axis] = length
    scale = flat.reshape(shape)
    codes = grids.quantize(values / scale, 1.0, 0, -kind.qmax, kind.qmax).astype(kind.dtype)
    home, name, lookups = constant.scope, constant.origin, _lookups(group)
    if linear and not lookups:
        before = home.first_reader(name)
        floats = qdq.add_dequantize(home, name, codes, flat, axis=axes[0], before=before)
        edit.redirect(home.uses(name), floats)
        drop_unread(home, [constant.origin])
        return
    stored = home.add_constant(f"{name}_quantized", codes)
    factor = home.add_constant(f"{name}_scale", scale)
    others = [use for use in home.uses(name) if all(use is not other for other in lookups)]
    for use in lookups:
        qdq.pick_entries(use.scope, use.node, stored, factor)
    if others:
        first = home.first_reader(name)
        edit.redirect(others, qdq.expand(home, name, stored, factor, before=first))
    drop_unread(home, [constant.origin])
