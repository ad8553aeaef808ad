from __future__ import annotations

from typing import cast

import numpy as np
import onnx
import pytest

from graphopt.contract.passes import Changes, Context
from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import InlineFunctions
from graphopt.passes.quantize import QuantizeDynamic
from graphopt.run.record import PassRecord
from graphopt.testing import MODELS, apply_pass, model_from_text, run_model

HEAD = '<ir_version: 10, opset_import: ["" : 17, "loc" : 1]>'
OWN = '<domain: "loc", opset_import: ["" : 17, "loc" : 1]>'
WEIGHT = "w = Constant <value = float[2,2] {1.0, 2.0, 3.0, 4.0}> ()"


def applied(
    text: str, functions: str, item: InlineFunctions | None = None, **weights: tuple[int, ...]
) -> tuple[Graph, PassRecord]:
    model = model_from_text(f"{HEAD} {text} {functions}", weights)
    graph, record = apply_pass(item or InlineFunctions(), model)
    for name, value in run_model(model).items():
        np.testing.assert_array_equal(run_model(graph.to_model())[name], value)
    return graph, record


def ops(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.main.nodes]


WEIGHTED = {
    "a constant inside": ("x", f"(p) => (q) {{ {WEIGHT}  q = MatMul (p, w) }}"),
    "a constant handed in": ("x, W", "(p, w) => (q) { q = MatMul (p, w) }"),
    "behind a Transpose": (
        "x, W",
        "(p, w) => (q) { t = Transpose <perm = [1, 0]> (w)  q = Gemm (p, t) }",
    ),
    "in an Einsum": ("x, W", '(p, w) => (q) { q = Einsum <equation = "ab,bc->ac"> (p, w) }'),
    "two functions down": ("x, W", "(p, w) => (q) { q = loc.inner (p, w) }"),
    "in a body": (
        "x, W",
        """(p, w) => (q) { c = Constant <value = bool {1}> ()
          q = If (c) <then_branch = y () => (float[2,2] v) { v = MatMul (p, w) },
                      else_branch = n () => (float[2,2] v) { v = MatMul (w, p) }> }""",
    ),
}


@pytest.mark.parametrize("case", WEIGHTED)
def test_calls_that_hold_weights_are_replaced(case: str) -> None:
    arguments, body = WEIGHTED[case]
    inner = f"{OWN} inner (a, b) => (c) {{ c = MatMul (a, b) }}"
    graph, record = applied(
        f"g (float[2,2] x) => (float[2,2] y) {{ y = loc.f ({arguments}) }}",
        f"{OWN} f {body} {inner}",
        W=(2, 2),
    )
    assert not graph.header.functions
    assert all(node.domain == "" for scope in graph.scopes() for node in scope.nodes)
    told = [edit.what for edit in record.changes]
    assert told[-1] == "removed: nothing calls this function any more"
    assert "nodes of its function f" in told[0]


def test_passes_that_cannot_look_inside_say_so() -> None:
    model = MODELS["functions"]()
    _, record = apply_pass(QuantizeDynamic(), model)
    reason = "its function holds weights, which only inline-functions brings out"
    assert [(skip.node, skip.reason) for skip in record.skipped] == [
        ("dense_0", reason),
        ("block_1", reason),
        ("block_2", reason),
    ]
    _, record = apply_pass(QuantizeDynamic(), model, before=[InlineFunctions()])
    assert record.status == "done" and not record.skipped


def test_calls_without_weights_stay_and_are_named() -> None:
    text = "g (float[2,2] x) => (float[2,2] y) { h = loc.act (x)  y = loc.f (h) }"
    functions = (
        f"{OWN} act (a) => (b) {{ t = Sin (a)  b = Add (t, a) }}"
        f"{OWN} f (p) => (q) {{ {WEIGHT}  t = MatMul (p, w)  q = loc.act (t) }}"
    )
    graph, record = applied(text, functions)
    assert ops(graph) == ["act", "Constant", "MatMul", "act"]
    assert [function.name for function in graph.header.functions] == ["act"]
    reasons = [skip.reason for skip in record.skipped]
    assert reasons == ["its function act holds no weights"] * 2
    graph, _ = applied(text, functions, InlineFunctions(which="all"))
    assert ops(graph) == ["Sin", "Add", "Constant", "MatMul", "Sin", "Add"]


def test_all_calls_go_where_the_model_must_be_lifted() -> None:
    model = MODELS["function"]()
    model.opset_import[0].version = model.functions[0].opset_import[0].version = 9
    graph, _ = apply_pass(InlineFunctions(), model)
    assert ops(graph) == ["Identity", "Add", "Identity", "Sin"]


def unrun(text: str) -> Changes:
    """What the pass says of a model that onnxruntime does not run, or not in good time."""
    graph = Graph(onnx.parser.parse_model(f"{HEAD} {text}"))
    before = graph.to_model()
    changes = InlineFunctions(which="all").run(graph, cast(Context, None))
    assert graph.to_model() == before
    return changes


def test_what_stays_with_its_weights_is_said() -> None:
    changes = unrun(
        "g (float[2,2] x) => (float[2] y) { y = loc.f (x) } "
        '<domain: "loc", opset_import: ["" : 12]> f (p) => (q) '
        f"{{ {WEIGHT}  t = MatMul (p, w)  q = ReduceSum <axes = [0], keepdims = 0> (t) }}"
    )
    assert [skip.reason for skip in changes.skips] == [
        "it stays, with what is in it: it is written for opset 12, the model for 17, "
        "in which ReduceSum is another"
    ]


def test_unfolds_no_more_than_can_be_gone_through() -> None:
    levels = "".join(
        f"{OWN} f{n} (p) => (q) {{ t = loc.f{n - 1} (p)  q = loc.f{n - 1} (t) }}"
        for n in range(1, 17)
    )
    text = "g (float[2,2] x) => (float y) { y = loc.f16 (x) }"
    changes = unrun(f"{text} {OWN} f0 (p) => (q) {{ q = Abs (p) }} {levels}")
    assert [skip.reason for skip in changes.skips] == ["its calls stand for more than 50,000 nodes"]
