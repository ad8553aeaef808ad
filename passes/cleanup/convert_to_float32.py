"""Pass ``convert-to-float32``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnx import TensorProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.registry import register
from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Graph
from graphopt.rewrite.to_float32 import NotConverted, compute_in_float32, type_names

__all__ = ["ConvertToFloat32"]


@register("convert-to-float32")
@dataclass(frozen=True, kw_only=True)
class ConvertToFloat32(Pass):
    """Compute in float32 what the model computes in float16, bfloat16 or double.

        x f16 -> Conv(W f16) -> y f16

    becomes

        x f16 -> Cast -> Conv(Cast(W f16)) -> Cast -> y f16

    Inputs and outputs keep their types. Weights of 16 bits stay stored as they are, behind a Cast
    that onnxruntime folds when it loads the model; doubles become float32. Converted is what hangs
    together with a layer, bodies included, and all of bfloat16; arithmetic on shapes in double
    stays, and so do Casts to integers. onnxruntime's CPU kernels take float32: it casts float16
    back and forth around most operators, has hardly any kernel for bfloat16, and none for a Conv of
    doubles. Only float32 layers can be quantized, so put it before the quantize passes.
    """

    may_grow: ClassVar[str] = "a Cast at each input and output, small constants of twice the bytes"

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes(nothing="its layers compute in float32 already, or it has none")
        shapes, others = context.shapes, _other_layers(graph)
        made = {name for each in others for name in each.node.output if name}
        plans: list[tuple[set[int], set[str] | None]] = [
            ({TensorProto.BFLOAT16}, None),
            ({each.weight.data_type for each in others} - {TensorProto.BFLOAT16}, made),
        ]
        for kinds, tensors in plans:
            try:
                for what, how in compute_in_float32(graph, kinds, shapes, tensors):
                    changes.edit(what, how)
            except NotConverted as why:
                changes.skip("model", f"computes in {type_names(kinds)}: {why}")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("float16")]


def _other_layers(graph: Graph) -> list[Layer]:
    """Layers with a weight of other floats than float32."""
    return [
        each
        for each in layers(graph)
        if isinstance(each, Layer) and each.weight.form == "float"
        if each.weight.data_type != TensorProto.FLOAT
    ]
