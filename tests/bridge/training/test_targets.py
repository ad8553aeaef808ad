"""What kind of answer an output is."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from graphopt.bridge.training.targets import block_ends, kind_of
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text

V = (6, 5)
QDQ = """
  h = Gemm (x, V, b)
  q = QuantizeLinear (h, s, z)
  y = DequantizeLinear (q, s, z)"""
LAYERS = {
    "gemm": ("float[N,6] x", "y = Gemm (x, V, b)", 2, "logits"),
    "matmul and bias": ("float[N,6] x", "h = MatMul (x, V)  y = Add (b, h)", 2, "logits"),
    "gemm and bias": ("float[N,6] x", "h = Gemm (x, V)  y = Add (h, b)", 2, "logits"),
    "matmul and bias behind qdq": (
        "float[N,6] x",
        """h = MatMul (x, V)  q = QuantizeLinear (h, s, z)  d = DequantizeLinear (q, s, z)
        c = DequantizeLinear (i, s, z)  y = Add (d, c)""",
        2,
        "logits",
    ),
    "a temperature": ("float[N,6] x", "h = Gemm (x, V)  y = Div (h, s)", 2, "logits"),
    "a scale each": ("float[N,6] x", "h = Gemm (x, V)  y = Mul (h, b)", 2, "embedding"),
    "two branches": (
        "float[N,6] x",
        "h = Gemm (x, V)  g = MatMul (x, V)  y = Add (h, g)",
        2,
        "embedding",
    ),
    "tokens": ("float[N,7,6] x", "h = MatMul (x, V)  y = Add (h, b)", 3, "logits"),
    "softmax": ("float[N,6] x", "h = Gemm (x, V, b)  y = Softmax (h)", 2, "probabilities"),
    "log softmax": ("float[N,6] x", "h = Gemm (x, V, b)  y = LogSoftmax (h)", 2, "logits"),
    "behind qdq": ("float[N,6] x", QDQ, 2, "logits"),
    "pooled": (
        "float[N,7,5] x",
        "h = LayerNormalization (x, b, b)  y = ReduceMean <axes = [1], keepdims = 0> (h)",
        2,
        "embedding",
    ),
    "unit length": ("float[N,6] x", "h = MatMul (x, V)  y = LpNormalization (h)", 2, "embedding"),
    "segmentation": ("float[N,6,8,8] x", "y = Conv (x, K)", 4, "values"),
    "pooled conv": (
        "float[N,6,8,8] x",
        "c = Conv (x, K)  g = GlobalAveragePool (c)  y = Flatten (g)",
        2,
        "embedding",
    ),
    "conv as a layer": ("float[N,6,1,1] x", "c = Conv (x, K)  y = Flatten (c)", 2, "logits"),
    "passed on": ("float[N,6] x", "y = Identity (x)", 2, "embedding"),
    "regression": ("float[N,6] x", "y = Gemm (x, U)", 2, "values"),
}


def graph_of(inputs: str, nodes: str, rank: int = 2) -> Graph:
    sizes = ",".join("?" * rank)
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float[{sizes}] y) {{
      {nodes.strip()} }}"""
    quantized: dict[str, Any] = {"s": np.float32(0.1), "z": np.array(0, np.uint8)}
    quantized["i"] = np.zeros(5, np.uint8)
    shapes = {"V": V, "b": (5,), "K": (5, 6, 1, 1), "U": (6, 1)}
    words = re.findall(r"\w+", text)
    used = {name: given for name, given in {**shapes, **quantized}.items() if name in words}
    return io.load(model_from_text(text, used))


@pytest.mark.parametrize("name", LAYERS)
def test_the_kind_is_read_from_the_nodes(name: str) -> None:
    inputs, nodes, rank, kind = LAYERS[name]
    width = 1 if name == "regression" else 5
    assert kind_of(graph_of(inputs, nodes, rank), "y", rank, width) == kind


def residual(*names: str) -> Graph:
    nodes, last = [], "x"
    for name in names:
        nodes += [f"p_{name} = MatMul ({last}, W)", f"{name} = Add (p_{name}, {last})"]
        last = name
    return graph_of("float[N,6] x, float[6,6] W", "  ".join([*nodes, f"y = Relu ({last})"]))


def test_blocks_end_where_both_models_add_branches_of_the_same_name() -> None:
    assert block_ends(residual("b1", "b2", "b3"), residual("b1", "b3", "b4")) == ["b1", "b3"]


def test_a_bias_ends_no_block() -> None:
    graph = graph_of("float[N,6] x", "h = MatMul (x, V)  y = Add (h, b)")
    assert block_ends(graph, graph) == []
