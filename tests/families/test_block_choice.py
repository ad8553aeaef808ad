"""The block that goes next, and what is left of a network without one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.analysis.blocks import Block, residual_blocks
from graphopt.data import SyntheticSamples
from graphopt.facts.sized import single, sized
from graphopt.families.block_choice import Droppable, without_block
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.rewrite.edit import redirect
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text
from tests.networks.stored import read_graph
from tests.networks.table import folded

ROUNDING = 1e-5
"""Relative to the largest value; float32 sums in another order."""


def _answers(graph: Graph) -> dict[str, np.ndarray]:
    feeds = next(SyntheticSamples(graph, count=2, seed=0).feeds())[0]
    return Session(graph, threads=1).run(feeds)


def _drawn(block: Block, seed: int) -> Droppable:
    rest = np.random.default_rng(seed).normal(size=[1] * (len(block.shape) - 1) + [1])
    return Droppable(
        block.name, block.total, block.branch, len(block.layers), rest.astype(np.float32)
    )


def _zeroed(graph: Graph, block: Droppable) -> Graph:
    """A graph that computes the branch, takes it times zero and adds the constant."""
    copy = graph.copy()
    scope = copy.main
    end = scope.producer(block.total)
    assert end is not None
    nothing = scope.add_constant("nothing", np.zeros(1, np.float32))
    rest = scope.add_constant("rest", block.rest)
    product = onnx.helper.make_node("Mul", [block.branch, nothing], ["silent"], name="times_zero")
    total = onnx.helper.make_node("Add", ["silent", rest], ["left"], name="left")
    scope.add(product, total, before=end)
    uses = [use for use in scope.uses(block.branch) if use.node is end]
    redirect(uses, "left")
    return copy


def _fused(bias: bool) -> Graph:
    """Two blocks that end in a SkipLayerNormalization; the second hands its sum on as well."""
    more = ", bias" if bias else ""
    text = f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (float[N, 5, 8] x) => (float[N, 5, 8] y) {{
        e = Tanh(x) h = MatMul(e, v) g = Relu(h) b = MatMul(g, w)
        n = com.microsoft.SkipLayerNormalization<epsilon = 0.001>(e, b, gamma, beta{more})
        h2 = MatMul(n, v2) g2 = Relu(h2) b2 = MatMul(g2, w2)
        n2, , , s2 = com.microsoft.SkipLayerNormalization(b2, n, gamma)
        m = Mul(n2, s2) y = MatMul(m, u)
    }}"""
    weights = {"v": (8, 12), "w": (12, 8), "v2": (8, 12), "w2": (12, 8), "u": (8, 8)}
    vectors = {"gamma": (8,), "beta": (8,), "bias": (8,)} if bias else {"gamma": (8,), "beta": (8,)}
    return Graph(model_from_text(text, {**weights, **vectors}))


@pytest.mark.parametrize("bias", [True, False])
def test_a_node_that_normalizes_too_leaves_a_sum_and_a_norm(bias: bool) -> None:
    graph = _fused(bias)
    blocks = residual_blocks(graph, sized(graph, single(graph)).shapes)
    assert [(block.shortcut, block.branch) for block in blocks] == [("e", "b"), ("n", "b2")]
    for seed, block in enumerate(blocks):
        dropped = _drawn(block, seed)
        smaller = without_block(graph, dropped)
        onnx.checker.check_model(smaller.to_model(), full_check=True)
        kinds = [node.op_type for node in smaller.main.nodes]
        assert kinds.count("SkipLayerNormalization") == 1
        assert kinds.count("Add") == 1 + (bias and not seed)
        expected = _answers(_zeroed(graph, dropped))["y"]
        np.testing.assert_allclose(_answers(smaller)["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(
    "network", ["ResNet", "MobileNetV2", "ConvNeXt", "BERT", "ViT", "Swin", "Llama", "T5"]
)
def test_without_a_block_it_equals_one_whose_branch_is_a_constant(
    exporter: str, network: str
) -> None:
    graph = folded(read_graph(f"{exporter}/{network}"))
    shapes = sized(graph, single(graph)).shapes
    before = _answers(graph)
    for seed, block in enumerate(residual_blocks(graph, shapes)):
        dropped = _drawn(block, seed)
        smaller = without_block(graph, dropped)
        onnx.checker.check_model(smaller.to_model(), full_check=True)
        names = {label(node) for node in smaller.main.nodes}
        assert names.isdisjoint(label(node) for node in block.nodes)
        assert len(names) == len(graph.main.nodes) - len(block.nodes)
        expected = _answers(_zeroed(graph, dropped))
        for name, values in _answers(smaller).items():
            largest = np.abs(expected[name]).max()
            np.testing.assert_allclose(values, expected[name], rtol=0, atol=ROUNDING * largest)
            assert not np.allclose(values, before[name], rtol=0, atol=1e-3 * largest)
