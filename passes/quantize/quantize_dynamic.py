"""The pass ``quantize-dynamic``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from onnx import NodeProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import MinOpset, TargetTakes
from graphopt.contract.registry import register
from graphopt.facts.codes import stored_small
from graphopt.facts.layers import Layer, Refusal, layer, layers_of
from graphopt.facts.operators import is_kind
from graphopt.facts.select import select
from graphopt.facts.weights import too_small
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op
from graphopt.rewrite.dynamic_layers import DynamicBuilder, DynamicGrid, DynamicWeights
from graphopt.rewrite.integer_lstm import DynamicRecurrent, recurrent_refusal

__all__ = ["QuantizeDynamic"]

_CHOSEN_FLOAT = "kept float by the options nodes and exclude"


@register("quantize-dynamic")
@dataclass(frozen=True, kw_only=True)
class QuantizeDynamic(Pass):
    """Compute linear layers on 8-bit integers whose activation range is taken at run time.

        x -> MatMul(W) -> y      becomes

        x -> DynamicQuantizeLinear -> MatMulInteger(W int8) -> Cast -> Mul(x_scale * W_scale) -> y

    Layers that read the same tensor share one DynamicQuantizeLinear. A Gemm becomes the same with
    an Add for its bias; alpha and beta are multiplied in. The form is the one that onnxruntime
    fuses to DynamicQuantizeMatMul and MatMulIntegerToFloat. An LSTM becomes onnxruntime's own
    DynamicQuantizeLSTM, with int8 weights, where the target has that. No calibration data is
    needed, since each call takes the range of its own activations: right for transformers, whose
    ranges vary from input to input. Conv is left alone: its dynamic form is slower than float. On a
    target whose kernels saturate, the scales of those output channels rise where neighbouring
    products could overflow 16 bits. Put smooth-activations before it where there are samples.

    Source: ONNX operators DynamicQuantizeLinear-11 and MatMulInteger-10; Zafrir et al. 2019,
    Q8BERT.
    """

    per_channel: Annotated[bool, Option("one weight scale for each output channel")] = True
    weights: Annotated[
        Literal["int8", "uint8"],
        Option("integer type of the weights; uint8 never saturates but runs slower on x86"),
    ] = "int8"
    ranges: Annotated[
        Literal["max", "mse"],
        Option("weight range: cover every value, or clip where that makes the error less"),
    ] = "max"
    min_size: MinSize = 1024
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    requires = (MinOpset("DynamicQuantizeLinear", 11), TargetTakes("weights", calls=True))

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        chosen = select(graph, self.nodes, self.exclude)
        saturates = context.target.saturates
        grid = DynamicGrid(
            self.per_channel, self.weights, self.ranges, saturates and self.weights == "int8"
        )
        weights = DynamicWeights(grid)
        cells = DynamicRecurrent(self.per_channel, self.ranges, saturates)
        for scope in list(graph.scopes()):
            builder = DynamicBuilder(scope, weights)
            for node in list(scope.nodes):
                found = layer(scope, node) if is_op(node, "MatMul", "Gemm") else None
                if isinstance(found, Layer):
                    refusal = self._refusal(found, chosen(node))
                    if refusal is None:
                        changes.edit(node, builder.replace(found))
                    else:
                        changes.skip(refusal)
                elif found is not None:
                    changes.skip(found)
                elif is_kind(node, "recurrent"):
                    self._recurrent(scope, node, chosen(node), context, cells, changes)
        return changes

    def _recurrent(
        self,
        scope: Scope,
        node: NodeProto,
        chosen: bool,
        context: Context,
        cells: DynamicRecurrent,
        changes: Changes,
    ) -> None:
        """Replace a recurrent layer where the target's runtime has such an operator."""
        found = [each for each in layers_of(scope, node) if isinstance(each, Layer)]
        if not found:
            return
        target, operator = context.target, context.target.dynamic.get(node.op_type)
        if operator is None:
            reason = f"{target.runtime} has no integer {node.op_type} on target {target.name}"
            changes.skip(node, reason)
        elif not chosen:
            changes.skip(node, _CHOSEN_FLOAT)
        elif reason := too_small(found[0].weight.constant, self.min_size):
            changes.skip(node, reason)
        elif (refusal := recurrent_refusal(node, found)) is not None:
            changes.skip(refusal)
        else:
            cells.replace(scope, node, operator, found, context.shapes)
            changes.edit(node, f"int8 weights, dynamic uint8 activations: {operator}")

    def _refusal(self, layer: Layer, chosen: bool) -> Refusal | None:
        """Why a layer stays float; None where it does not."""
        refusal = layer.refusal("right", "codable", "matrix", "fixed")
        if refusal is not None:
            return refusal
        if layer.weight.form != "float" and not stored_small(layer):
            return Refusal(layer.node, "it is quantized already")
        if not chosen:
            return Refusal(layer.node, _CHOSEN_FLOAT)
        if reason := too_small(layer.weight.constant, self.min_size):
            return Refusal(layer.node, reason)
        return layer.refusal("finite")

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [
            Example("mlp"),
            Example("transformer", {"weights": "uint8", "nodes": ("MatMul",)}),
            Example("bodies", {"per_channel": False, "ranges": "mse", "exclude": ("Gemm",)}),
            Example("shared-weights", {"min_size": 0}),
        ]
