from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import UpgradeOpset
from graphopt.rewrite.opsets import NotLifted, lift
from graphopt.run.record import PassRecord
from graphopt.testing import MODELS, apply_pass, model_from_text


def _apply(
    old: int, body: str, shape: str = "N,4,6,6", wanted: int = 13, **weights: Any
) -> tuple[Graph, PassRecord]:
    text = f'<ir_version: 4, opset_import: ["" : {old}]> net (float[{shape}] x) => (float y) {{'
    return apply_pass(UpgradeOpset(opset=wanted), model_from_text(f"{text} {body} }}", weights))


_SCALES = {"s": np.array([1, 1, 2, 2], np.float32)}


@pytest.mark.parametrize(
    ("old", "body", "weights"),
    [
        (7, "y = BatchNormalization (x, g, g, g, g)", {"g": (4,)}),
        (7, "y = Upsample <scales = [1.0, 1.0, 2.0, 2.0]> (x)", {}),
        (8, "y = Upsample <mode = \"linear\", scales = [1.0, 1.0, 2.0, 2.0]> (x)", {}),
        (9, "y = Upsample (x, s)", _SCALES),
        (10, "y = Resize (x, s)", _SCALES),
        (10, "y = Resize <mode = \"linear\"> (x, s)", _SCALES),
        (9, "y = Slice <axes = [2], starts = [1], ends = [-1]> (x)", {}),
        (9, "y = Slice <starts = [0, 1], ends = [1, 3]> (x)", {}),
        (9, "y, i = TopK <axis = -1, k = 2> (x)", {}),
        (10, "y = Clip <min = 0.0, max = 0.5> (x)", {}),
        (10, "y = Clip <max = 0.5> (x)", {}),
        (10, "y = Clip (x)", {}),
        (10, "y = Pad <pads = [0, 0, 1, 0, 0, 0, 0, 1], value = 2.0> (x)", {}),
        (10, "y = Pad <mode = \"reflect\", pads = [0, 0, 1, 1, 0, 0, 1, 1]> (x)", {}),
        (11, "y = Dropout <ratio = 0.4> (x)", {}),
        (12, "y = Softmax (x)", {}),
        (12, "y = Softmax <axis = 3> (x)", {}),
        (12, "y = LogSoftmax <axis = 2> (x)", {}),
        (12, "y = Hardmax <axis = -1> (x)", {}),
        (12, "u = Unsqueeze <axes = [0]> (x) y = Squeeze <axes = [0]> (u)", {}),
        (12, "y = ReduceSum <axes = [1, -1], keepdims = 0> (x)", {}),
        (12, "y, z = Split <axis = 3, split = [2, 4]> (x)", {}),
        (12, "y, z = Split <axis = 3> (x)", {}),
        (10, "y = RoiAlign <output_height = 2, output_width = 2> (x, r, i)",
         {"r": np.array([[0.5, 0.5, 4, 3]], np.float32), "i": np.array([0])}),
        (11, "y = ReduceMean <axes = [2, 3]> (x)", {}),
        (9, "c = Conv (x, W) r = Relu (c) p = MaxPool <kernel_shape = [2, 2]> (r) y = Flatten (p)",
         {"W": (8, 4, 3, 3)}),
        (9, "f = Flatten (x) y = Gemm (f, W, B)", {"W": (144, 5), "B": (5,)}),
    ],
)  # fmt: skip
def test_rewritten_nodes_give_the_same(old: int, body: str, weights: dict[str, Any]) -> None:
    for wanted in (13, 17, 18, 21):
        graph, record = _apply(old, body, wanted=wanted, **weights)
        assert record.status == "done", record.reason  # the runner has compared the answers
        assert graph.opset == wanted
        assert record.changes[-1].what == f"lifted from opset {old} to {wanted}"


@pytest.mark.parametrize(
    ("old", "body", "wanted", "words"),
    [
        (8, "y = BatchNormalization <spatial = 0> (h, g, g, g, g)", 13, "spatial=0"),
        (18, "y = GroupNormalization <num_groups = 2> (h, s, s)", 21, "scales whole groups"),
    ],
)
def test_refuses_with_the_node_named(old: int, body: str, wanted: int, words: str) -> None:
    weights = {"g": (4, 6, 6)} if old == 8 else {"s": (2,)}
    graph, record = _apply(old, f"h = Relu (x) {body}", wanted=wanted, **weights)
    assert record.status == "refused"
    assert words in record.reason
    assert f"cannot be lifted to opset {wanted}" in record.reason
    assert graph.opset == old


def test_local_functions_are_refused() -> None:
    graph, record = apply_pass(UpgradeOpset(opset=14), MODELS["function"]())
    assert record.status == "refused"
    assert "local functions" in record.reason
    assert graph.opset == 13


def test_a_newer_model_stays() -> None:
    _, record = _apply(17, "y = Relu (x)")
    assert record.status == "nothing to do"
    assert record.skipped[0].reason == "it has opset 17 already"


def test_bodies_are_lifted_and_the_ir_version_follows() -> None:
    graph, record = _apply(
        9,
        """s = ReduceSum <keepdims = 0> (x) z = Constant <value = float {0.0}> ()
        b = Greater (s, z)
        y = If (b) <
          then_branch = p () => (float[1,N,4] t) { t = Unsqueeze <axes = [0]> (x) },
          else_branch = q () => (float[1,N,4] e) { e = Unsqueeze <axes = [0]> (x) }
        >""",
        shape="N,4",
    )
    assert record.status == "done"
    body = next(scope for scope in graph.scopes() if scope.parent is not None)
    assert [len(node.input) for node in body.nodes] == [2]
    assert graph.header.ir_version == 7


def test_bounds_of_integers_are_not_made_up() -> None:
    text = """<ir_version: 4, opset_import: ["" : 9]> net (uint8[N] x) => (uint8[N] y) {
        [c] y = Clip <min = 0.0, max = 0.5> (x) }"""
    graph = Graph(model_from_text(text, {}))
    with pytest.raises(NotLifted, match="Clip 'c': 'x' is of type uint8, the old version takes fl"):
        lift(graph, 13, infer(graph))
