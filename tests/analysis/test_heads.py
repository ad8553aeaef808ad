"""Which groups of channels are attention heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.analysis.channels import channel_groups
from graphopt.analysis.heads import are_heads
from graphopt.facts.sized import single, sized
from graphopt.graph.graph import Graph
from graphopt.rewrite.remove_channels import remove_channels
from graphopt.testing import model_from_text, run_model, zeroed
from tests.networks.stored import read_graph
from tests.networks.table import folded

HEAD = '<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>'
PORTS = "(float[2, 7, 8] x) => (float[2, 7, 8] y)"
QKV = "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)"
SQUARE = {"wq": (8, 12), "wk": (8, 12), "wv": (8, 12), "wo": (12, 8)}
GROUPED = {"wq": (8, 24), "wk": (8, 6), "wv": (8, 6), "wo": (24, 8)}


def _found(body: str, weights: dict[str, Any]) -> dict[int, bool]:
    """Units of each group, and whether they are heads."""
    graph = Graph(model_from_text(f"{HEAD} g {PORTS} {{ {body} }}", weights))
    shapes = sized(graph, single(graph)).shapes
    return {group.size: group.heads for group in channel_groups(graph, shapes).groups}


@pytest.mark.parametrize(
    ("body", "weights", "expected"),
    [
        (f"{QKV} a = com.microsoft.MultiHeadAttention<num_heads = 4>(q, k, v) y = MatMul(a, wo)",
         SQUARE, {4: True}),
        ("a = com.microsoft.Attention<num_heads = 4>(x, p, c) y = MatMul(a, wo)",
         {"p": (8, 36), "c": (36,), "wo": (12, 8)}, {4: True}),
        (f"{QKV} a = Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v) y = MatMul(a, wo)",
         SQUARE, {4: True}),
        (f"{QKV} a = Attention<q_num_heads = 8, kv_num_heads = 2>(q, k, v) y = MatMul(a, wo)",
         GROUPED, {2: True}),
        ("h = MatMul(x, wq) g = Elu(h) y = MatMul(g, wo)", SQUARE, {12: False}),
        ("h = MatMul(x, wq) g = MatMul(x, wk) m = Mul(h, g) y = MatMul(m, wo)", SQUARE,
         {12: False}),
    ],
)  # fmt: skip
def test_heads_are_what_attention_runs_over_apart(
    body: str, weights: dict[str, Any], expected: dict[int, bool]
) -> None:
    assert _found(body, weights) == expected


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(
    ("network", "heads"), [("BERT", {4: 2}), ("Llama", {2: 2}), ("Swin", {4: 2}), ("GPT-2", {4: 2})]
)
def test_heads_of_exported_networks(exporter: str, network: str, heads: dict[int, int]) -> None:
    graph = folded(read_graph(f"{exporter}/{network}"))
    groups = channel_groups(graph, sized(graph, single(graph)).shapes).groups
    sizes = [group.size for group in groups if group.heads]
    assert {size: sizes.count(size) for size in sizes} == heads
    assert min(group.size for group in groups if not group.heads) > 4


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ([(0, 1), (2, 3)], True),
        ([(0, 1, 2, 3), (4, 5)], True),
        ([(0, 2, 4), (1, 3, 5)], False),
        ([(0, 1), (2, 5)], True),
    ],
)
def test_a_head_lies_in_one_unit(units: list[tuple[int, ...]], expected: bool) -> None:
    """Of three heads of two columns; the last units are a part of a head, and parts of two."""
    numbers = {("m", 2): np.array([0, 0, 1, 1, 2, 2], np.intp)}
    assert are_heads({("m", 2): units}, numbers) is expected
    assert not are_heads({("m", 1): units}, numbers)


MASK = np.random.default_rng(0).normal(size=(1, 4, 7, 7)).astype(np.float32)


@pytest.mark.parametrize(
    ("attention", "weights"),
    [
        ("com.microsoft.Attention<num_heads = 4>(x, p, c)", {"p": (8, 36), "c": (36,)}),
        ("com.microsoft.Attention<num_heads = 4>(x, p, c, , , mask)",
         {"p": (8, 36), "c": (36,), "mask": MASK}),
        ("com.microsoft.MultiHeadAttention<num_heads = 4>(q, k, v)", SQUARE),
        ("com.microsoft.MultiHeadAttention<num_heads = 4>(q, k, v, , , mask)",
         {**SQUARE, "mask": MASK}),
        ("com.microsoft.MultiHeadAttention<num_heads = 4>(q, k, v, c)", {**SQUARE, "c": (36,)}),
        ("Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v)", SQUARE),
        ("Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v, mask)", {**SQUARE, "mask": MASK}),
        ("Attention<q_num_heads = 8, kv_num_heads = 4>(q, k, v)",
         {"wq": (8, 24), "wk": (8, 12), "wv": (8, 12), "wo": (24, 8)}),
    ],
)  # fmt: skip
def test_fused_operators_lose_heads(attention: str, weights: dict[str, Any]) -> None:
    packed = "com.microsoft.Attention" in attention
    body = f"{'' if packed else QKV} a = {attention} y = MatMul(a, wo)"
    values = {"wo": (12, 8), **weights}
    graph = Graph(model_from_text(f"{HEAD} g {PORTS} {{ {body} }}", values))
    shapes = sized(graph, single(graph)).shapes
    found = channel_groups(graph, shapes)
    (group,) = found.groups
    assert group.heads
    assert group.size == 4
    gone = found.gone({group: [0, 2]})
    expected = run_model(zeroed(graph, shapes, gone))["y"]
    remove_channels(graph, shapes, gone)
    attended = graph.main.producer("a")
    assert attended is not None
    held = {item.name: item.i for item in attended.attribute}
    assert held in ({"num_heads": 2}, {"q_num_heads": 2, "kv_num_heads": 2},
                    {"q_num_heads": 4, "kv_num_heads": 2})  # fmt: skip
    np.testing.assert_allclose(run_model(graph)["y"], expected, rtol=1e-4, atol=1e-5)
