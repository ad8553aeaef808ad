"""Residual blocks, found from the graph alone."""

from __future__ import annotations

from typing import Any

import pytest

from graphopt.analysis.blocks import residual_blocks
from graphopt.facts.sized import single, sized
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.testing import model_from_text
from tests.networks.stored import read_graph
from tests.networks.table import folded

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
PICTURE = "(float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y)"
PADS = "<pads = [1, 1, 1, 1]>"
KERNEL = (4, 4, 3, 3)


def _blocks(body: str, **weights: Any) -> list[tuple[str, str, int]]:
    """Shortcut, branch and number of layers of each block."""
    graph = Graph(model_from_text(f"{HEAD} g {PICTURE} {{ {body} }}", weights))
    found = residual_blocks(graph, sized(graph, single(graph)).shapes)
    return [(block.shortcut, block.branch, len(block.layers)) for block in found]


def test_a_branch_follows_from_what_it_is_added_to() -> None:
    body = f"r = Relu(x) c = Conv{PADS}(r, w) s = Relu(c) d = Conv{PADS}(s, v) "
    for end in ("a = Add(r, d)", "a = Add(d, r)", "a = Sum(r, d)"):
        assert _blocks(f"{body} {end} y = Relu(a)", w=KERNEL, v=KERNEL) == [("r", "d", 2)]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("c = Conv<pads = [1, 1, 1, 1]>(x, w) d = Conv(x, v) y = Add(c, d)",
         {"w": KERNEL, "v": (4, 4, 1, 1)}),
        ("r = Relu(x) g = GlobalAveragePool(r) c = Conv(g, v) y = Add(r, c)",
         {"v": (4, 4, 1, 1)}),
        ("r = Relu(x) t = Tanh(r) y = Add(r, t)", {}),
        ("r = Relu(x) c = Conv<pads = [1, 1, 1, 1]>(r, w) m = Mul(r, c) y = Relu(m)",
         {"w": KERNEL}),
        ("c = Conv<pads = [1, 1, 1, 1]>(x, w) y = Add(c, b)", {"w": KERNEL, "b": (1, 4, 6, 6)}),
        ("c = Conv<pads = [1, 1, 1, 1]>(x, w) y = Add(c, c)", {"w": KERNEL}),
    ],
    ids=["another way round", "broadcast", "no layer", "a product", "a constant", "twice"],
)  # fmt: skip
def test_other_sums_are_no_blocks(body: str, weights: dict[str, Any]) -> None:
    assert _blocks(body, **weights) == []


def test_what_others_need_does_not_go_with_a_block() -> None:
    body = (
        f"r = Relu(x) c = Conv{PADS}(r, w) d = Conv{PADS}(c, v) a = Add(r, d) "
        "y = Concat<axis = 1>(a, c)"
    )
    graph = Graph(
        model_from_text(
            f"{HEAD} g (float[N, 4, 6, 6] x) => (float[N, 8, 6, 6] y) {{ {body} }}",
            {"w": KERNEL, "v": KERNEL},
        )
    )
    (block,) = residual_blocks(graph, sized(graph, single(graph)).shapes)
    assert [label(node) for node in block.nodes] == ["Conv(d)"]


def test_blocks_lie_within_blocks() -> None:
    body = f"r = Relu(x) c = Conv{PADS}(r, w) d = Conv{PADS}(c, v) a = Add(c, d) y = Add(r, a)"
    assert _blocks(body, w=KERNEL, v=KERNEL) == [("c", "d", 1), ("r", "a", 2)]


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(
    ("network", "layers"),
    [
        ("ResNet", [2, 2]),
        ("ResNet with bottlenecks", [3]),
        ("MobileNetV2", [3, 3]),
        ("EfficientNet", [5, 5]),
        ("ConvNeXt", [3, 3]),
        ("BERT", [4, 2, 4, 2]),
        ("GPT-2", [2, 2, 2, 2]),
        ("ViT", [2, 2, 2, 2]),
        ("Swin", [2, 2, 2, 2]),
        ("Llama", [4, 3, 4, 3]),
        ("DenseNet", []),
        ("U-Net", []),
        ("VGG", []),
    ],
)
def test_blocks_of_exported_networks(exporter: str, network: str, layers: list[int]) -> None:
    graph = folded(read_graph(f"{exporter}/{network}"))
    blocks = residual_blocks(graph, sized(graph, single(graph)).shapes)
    assert [len(block.layers) for block in blocks] == layers
