"""Inner tensors that two models share."""

from __future__ import annotations

from graphopt.bridge.training.features import block_ends
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text


def graph_of(inputs: str, nodes: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float[?,?] y) {{
      {nodes} }}"""
    shapes = {"V": (6, 5), "b": (5,)}
    return io.load(model_from_text(text, {n: s for n, s in shapes.items() if f" {n}" in nodes}))


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
