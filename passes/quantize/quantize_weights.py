"""The pass ``quantize-weights``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from onnx import NodeProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import MinOpset, When
from graphopt.contract.registry import register
from graphopt.facts.codes import stored_small
from graphopt.facts.cost import scales_codes
from graphopt.facts.layers import Layer, layers
from graphopt.facts.operands import FLOATS
from graphopt.facts.operators import is_kind
from graphopt.facts.quantized import quantizers
from graphopt.facts.select import select
from graphopt.facts.shapes import Shapes
from graphopt.facts.spread import producer
from graphopt.facts.weights import WeightGroup, grouped, too_small
from graphopt.families.block_forms import (
    BlockForm,
    block_form,
    lookups,
    scale_axes,
    scale_count,
)
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.graph.constant import constants_of
from graphopt.graph.graph import Graph, Use
from graphopt.graph.node import is_op, label
from graphopt.numerics.block_grids import BlockGrid, block_grid
from graphopt.numerics.grids import CODE_TYPES
from graphopt.rewrite import edit, qdq
from graphopt.rewrite.coded_blocks import BlockCodes
from graphopt.rewrite.expanded import expand_codes
from graphopt.rewrite.values import drop_unread

__all__ = ["QuantizeWeights"]

_NODE_BYTES = 100  # of a node with the names that it reads and gives
_FOUR, _TWO = ("int4", "uint4"), ("int2", "uint2")


@register("quantize-weights")
@dataclass(frozen=True, kw_only=True)
class QuantizeWeights(Pass):
    """Store weights as integers of 8, 4 or 2 bits and leave the activations as they are.

        Gather(W, i)   becomes   Cast(Gather(W int8, i)) * Gather(W_scale, i)
        Conv(x, W)     becomes   Conv(x, Cast(W int8) * W_scale)
        MatMul(x, W)   becomes   MatMul(x, DequantizeLinear(W int4, W_scale, block_size = 64))

    A scale belongs to an output channel of a Conv, ConvTranspose, Gemm or MatMul, to a gate row of
    an RNN, GRU or LSTM or to an entry of a table, or to each block of ``block_size`` weights of one
    of these; the last block may be shorter. In float16 a scale costs 16 bits a block.

    Cast and Mul are folded when onnxruntime loads the model: the file is small, the speed that of
    floats. DequantizeLinear would run at every call, but not below 8 bits in front of a MatMul, or
    a Gemm that reads its weight as it is: there onnxruntime multiplies the codes of blocks of 16 to
    256 by activations that it rounds to int8 block by block (MatMulNBits). Where that is known to
    be faster than floats, ``form=auto`` writes it. Where a runtime folds DequantizeLinear itself,
    every weight gets that. Blocks behind a DequantizeLinear need opset 21, four bits as well, two
    bits opset 25.

    Tables of which a Gather or Slice picks entries, such as those of embeddings and positions, stay
    integers in memory too, and only what is picked is dequantized. Below 8 bits that takes an
    operator of onnxruntime's own (GatherBlockQuantized), and MatMulNBits where a MatMul multiplies
    by the table as well; where the target has none, and for a Slice, entries get 8 bits.

    8-bit weights that another tool has put behind a DequantizeLinear, in front of float
    activations, get the form that is expanded at load, with the same codes. No data is needed. Put
    it behind the passes that make layers compute on integers; it takes what they left. Four bits
    usually want ``train-quantized`` behind.

    Source: Krishnamoorthi 2018, Quantizing deep convolutional networks for efficient inference,
    section 3.1.1 (weight only quantization); Dettmers and Zettlemoyer 2023, The case for 4-bit
    precision, section 4 (small blocks).
    """

    which: Annotated[
        Literal["all", "embeddings"],
        Option("all weights, or only tables read by a Gather or Slice"),
    ] = "all"
    weight_type: Annotated[
        Literal["int8", "uint8", "int4", "uint4", "int2", "uint2"],
        Option("integers to store; unsigned ones have a zero point with each scale"),
    ] = "int8"
    block_size: Annotated[
        int | None,
        Option(
            "weights in a row that share a scale; 0: all of a row; none: 64 in 4 bits, 32 in 2, "
            "all in 8",
            low=0,
            high=1 << 20,
            unit="elements",
        ),
    ] = None
    form: Annotated[
        Literal["auto", "expanded", "dequantized"],
        Option(
            "what makes floats of them: Cast and Mul, which are folded at load, or "
            "DequantizeLinear; auto: what is fastest on the target"
        ),
    ] = "auto"
    scales: Annotated[
        Literal["auto", "float32", "float16"],
        Option(
            "type of the scales, as far as float16 holds them; auto: float16 for blocks and below "
            "8 bits"
        ),
    ] = "auto"
    ranges: Annotated[
        Literal["auto", "max", "mse"],
        Option(
            "range: cover every value, or clip where that makes the error less; auto: max for "
            "8 bits, else mse"
        ),
    ] = "auto"
    min_size: MinSize = 1024
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    requires = (
        MinOpset("Mul that broadcasts", 7),
        MinOpset("4-bit integers", CODE_TYPES["int4"].opset, when=When("weight_type", _FOUR)),
        MinOpset("2-bit integers", CODE_TYPES["int2"].opset, when=When("weight_type", _TWO)),
    )

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        chosen = select(graph, self.nodes, self.exclude)
        if context.target.expands == "Cast" and self.form != "dequantized":
            self._expand(graph, chosen, changes)
        groups = list(grouped(_with_scales(graph)))
        others = self._others(graph, groups)
        for group in map(_tables_first, groups):
            readers = [use.node for use in group.layers[0].weight.readers]
            places = list(dict.fromkeys(map(label, readers)))
            form = self._form(group, context, graph.opset)
            reason = self._reason(group, form, all(chosen(node) for node in readers))
            if form.operators == "rows" and form.codes not in context.target.row_types:
                lacking = f"{context.target.runtime} has no Gather of {form.kind.bits} bits"
                reason = reason or f"a table whose entries are looked up; {lacking}"
            if not reason and not np.isfinite(group.constant.values).all():
                reason = "its weight holds NaN or infinity"
            if reason:
                for place in places:
                    changes.skip(place, reason)
                continue
            origin = group.constant.origin
            what = self._store(group, form, context.shapes)
            changes.edit(", ".join(places), f"{origin} {what}")
        for place, reason in others:
            changes.skip(place, reason)
        return changes

    def _form(self, group: WeightGroup, context: Context, opset: int) -> BlockForm:
        size, target = self.block_size, context.target
        return block_form(group, self.weight_type, size, self.form, target, opset)

    def _store(self, group: WeightGroup, form: BlockForm, shapes: Shapes) -> str:
        """Put codes and scales in place of a constant; what was done, in words."""
        constant, kind = group.constant, form.kind
        uses = constant.scope.uses(constant.origin)
        half = self._half(form, constant.shape)
        method = self._method(kind.bits)
        grid = block_grid(constant.values, form.block, kind, method, half=half)
        codes = BlockCodes(constant.scope, constant.origin, grid, kind, half)
        told = _told(form, grid, "float16" if codes.halved else "float32")
        if form.operators == "expanded":
            codes.expand(uses)
        elif form.operators == "dequantized":
            codes.dequantize(uses)
        elif form.operators == "packed rows":
            codes.pack(uses, shapes)
        else:
            _store_rows(group, form, grid)
        return told

    def _half(self, form: BlockForm, shape: Sequence[int]) -> bool:
        if self.scales != "auto" or form.operators == "rows":
            return self.scales == "float16" and form.operators != "rows"
        blocks = any(1 < many < size for many, size in zip(form.block, shape, strict=True))
        saved = 2 * scale_count(shape, form.block)
        return saved > _NODE_BYTES and (blocks or form.kind.bits < 8)

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

    def _method(self, bits: int) -> Literal["max", "mse"]:
        if self.ranges == "auto":
            return "max" if bits == 8 else "mse"
        return self.ranges

    def _reason(self, group: WeightGroup, form: BlockForm, chosen: bool) -> str:
        """Why a weight stays float; empty where it does not."""
        constant = group.constant
        if not chosen:
            return "kept float by the options nodes and exclude"
        if self.which == "embeddings" and not lookups(group):
            return "no entries of it are looked up, and which is embeddings"
        if reason := too_small(constant, self.min_size):
            return reason
        scales = scale_count(constant.shape, form.block)
        half, zero_bytes = self._half(form, constant.shape), int(form.kind.qmin == 0)
        stored = math.prod(constant.shape) * form.kind.bits / 8
        stored += scales * ((2 if half else 4) + zero_bytes)
        if stored >= constant.nbytes / 2:
            return "as many scales as it needs leave hardly anything to gain"
        if group.layers[0].weight.given_out:
            return "its weight is also an output of its graph"
        refusal = group.layers[0].refusal("fixed")
        return "" if refusal is None else refusal.reason

    @classmethod
    def examples(cls) -> Sequence[Example]:
        four, two = "upgrade-opset{opset=21}", "upgrade-opset{opset=25}"
        return [
            Example("cnn"),
            Example("embedding", {"which": "embeddings", "ranges": "max", "exclude": ("MatMul",)}),
            Example("shared-weights", {"ranges": "mse", "min_size": 0, "nodes": ("MatMul",)}),
            Example("mlp", {"weight_type": "int4", "exclude": ("Gemm",)}, four),
            Example("mlp", {"weight_type": "uint4", "block_size": 16, "scales": "float16"}, four),
            Example("mlp", {"weight_type": "uint8", "form": "dequantized"}, four),
            Example("cnn", {"weight_type": "int2", "form": "expanded"}, two),
            Example("mlp", {"weight_type": "uint2", "scales": "float32"}, two),
        ]


def _with_scales(graph: Graph) -> Iterator[Layer]:
    for each in layers(graph):
        if isinstance(each, Layer) and scale_axes(each):
            yield each


def _scales_codes(use: Use) -> bool:
    """Whether a constant is the scale of codes, or the factor of what a Cast makes of them."""
    maker = None
    if is_op(use.node, "Mul"):
        _, maker = producer(use.scope, use.node.input[1 - use.index])
    picked = maker is not None and is_op(maker, "Cast")
    return picked or is_kind(use.node, "quantize") or scales_codes(use)


def _no_layer(node: NodeProto) -> str:
    return f"a constant of {node.op_type}, which no layer reads as its weight, stays float"


def _tables_first(group: WeightGroup) -> WeightGroup:
    """The same layers; those that look entries up come first and decide where scales lie."""
    ordered = sorted(group.layers, key=lambda each: each.kind != "table")
    return WeightGroup(group.constant, tuple(ordered))


def _told(form: BlockForm, grid: BlockGrid, scales: str) -> str:
    """What was done to a weight, in words."""
    shape, block = grid.codes.shape, form.block
    many = f"{grid.scale.size} scales"
    if any(1 < each < size for each, size in zip(block, shape, strict=True)):
        many += f", one for every {math.prod(block)} weights"
    elif grid.scale.size > 1:
        axes = [at for at, count in enumerate(grid.scale.shape) if count > 1]
        many += f" along axis {', '.join(map(str, axes))}"
    if scales != "float32":
        many += f", in {scales}"
    told = f"stored as {form.codes}, {many}"
    return f"{told}; {form.note}" if form.note else told


def _store_rows(group: WeightGroup, form: BlockForm, grid: BlockGrid) -> None:
    """Put codes in place of a table; what looks entries up gets these alone as floats."""
    constant = group.constant
    home, name, looked = constant.scope, constant.origin, lookups(group)
    stored = home.add_constant(f"{name}_quantized", grid.codes.astype(form.kind.dtype))
    factor = home.add_constant(f"{name}_scale", grid.scale)
    others = [use for use in home.uses(name) if all(use is not other for other in looked)]
    for use in looked:
        qdq.pick_entries(use.scope, use.node, stored, factor)
    if others:
        first = home.first_reader(name)
        edit.redirect(others, qdq.expand(home, name, stored, factor, before=first))
    drop_unread(home, [name])
