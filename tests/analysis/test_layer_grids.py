"""Which tensors go on a grid with a layer."""

from __future__ import annotations

from graphopt.analysis.layer_grids import rounded_tensors
from graphopt.contract.spec import parse_passes
from graphopt.facts.layers import Layer, layer
from graphopt.graph.node import label
from graphopt.run.sequence import run_passes
from graphopt.testing import model_from_text, staged

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 4, 8, 8] x) => (float[1, 4, 2, 2] y) {
    [first] a = Conv(x, w)
    r = Relu(a)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    [second] c = Conv(p, v)
    q = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    y = Sigmoid(q)
}"""


def rounded(nodes: str = "") -> dict[str, list[str]]:
    model = model_from_text(TEXT, {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1)})
    stage, means = staged(model, target="x86-avx2", count=4)
    after, _ = run_passes(stage, means, parse_passes(f"quantize-static{nodes}"))
    scope = after.graph.main
    found = {}
    for node in scope.nodes:
        one = layer(scope, node)
        if isinstance(one, Layer):
            found[label(node)] = sorted(rounded_tensors(one, stage.graph.main))
    return found


def test_both_ends_of_a_layer_count_and_what_only_moves_values_is_looked_through() -> None:
    assert rounded() == {"first": ["r", "x"], "second": ["c", "r"]}


def test_a_layer_that_stays_float_rounds_nothing() -> None:
    assert rounded("{nodes=second}") == {"first": [], "second": ["c", "p"]}
