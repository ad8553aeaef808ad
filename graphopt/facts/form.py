"""In which form a model computes: floats, integers, or floats from weights stored small."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from onnx import TensorProto

from graphopt.facts.layers import Layer, layers
from graphopt.facts.operators import find
from graphopt.facts.quantized import quantized_activations, ranges_of_each_call
from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op

__all__ = ["ModelForm", "model_form"]

FormName = Literal[
    "float", "float16", "bfloat16", "double", "qdq", "qoperator", "dynamic", "weight-only"
]

_OTHERS: dict[int, FormName] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "double",
}
_COUNTED = ("conv", "linear", "contraction", "recurrent")


@dataclass(frozen=True)
class ModelForm:
    """What the layers of a model are made of.

    Attributes:
        name: What most of it comes to.
        layers: Nodes that multiply by a weight: Conv, MatMul, Gemm, LSTM and their like.
        integers: Those whose weights are all stored as codes.
    """

    name: FormName
    layers: int
    integers: int

    @property
    def quantized(self) -> bool:
        """Whether activations are integers somewhere."""
        return self.name in ("qdq", "qoperator", "dynamic")


def model_form(graph: Graph) -> ModelForm:
    """Look at every layer, bodies included."""
    nodes: dict[int, list[bool]] = {}
    others: dict[int, FormName] = {}
    for each in layers(graph):
        if not isinstance(each, Layer) or each.kind not in _COUNTED:
            continue
        other = _OTHERS.get(each.weight.constant.data_type)
        coded = each.weight.form != "float" and other is None
        nodes.setdefault(id(each.node), []).append(coded)
        if other is not None:
            others[id(each.node)] = other
    integers = sum(map(all, nodes.values()))
    active = [node for scope in graph.scopes() for node in quantized_activations(scope)]
    if any(node.op_type.startswith("QLinear") for node in active):
        name: FormName = "qoperator"
    elif any(ranges_of_each_call(node) for node in active):
        name = "dynamic"
    elif any(is_op(node, "QuantizeLinear") for node in active):
        name = "qdq"
    elif integers or _weights_only(graph):
        name = "weight-only"
    else:
        most = Counter(others.values()).most_common(1)
        name = most[0][0] if most and 2 * len(others) >= len(nodes) else "float"
    return ModelForm(name, len(nodes), integers)


def _weights_only(graph: Graph) -> bool:
    rows = (find(node) for scope in graph.scopes() for node in scope.nodes)
    return any(row is not None and row.weights_only for row in rows)
