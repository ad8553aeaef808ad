from __future__ import annotations

from graphopt.graph import check, io
from graphopt.rewrite.inline import definitions, inline_body
from graphopt.testing import MODELS, model_from_text


def test_a_branch_takes_the_place_of_its_owner() -> None:
    graph = io.load(MODELS["bodies"]())
    owner = next(node for node in graph.main.nodes if node.op_type == "If")
    inline_body(graph.main, owner, "else_branch", made := definitions(graph))
    assert made == definitions(graph)
    assert [node.op_type for node in graph.main.nodes][3:6] == ["Gemm", "Relu", "Constant"]
    assert graph.main.producer("picked") is graph.main.nodes[4]
    assert check.problems(io.load(graph.to_model())) == []


def test_outputs_that_the_branch_does_not_compute_are_copied() -> None:
    graph = io.load(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 13]>
            g (float[2] x, bool c) => (float[2] y, float[2] z, float[2] w) {
              y, z, w = If (c) <
                then_branch = a () => (float[2] p, float[2] q, float[2] p2) {
                  p = Relu (x)  q = Identity (x)  p2 = Neg (p) },
                else_branch = b () => (float[2] r, float[2] s, float[2] t) {
                  r = Abs (x)  s = Abs (x)  t = Abs (x) }
              > }"""
        )
    )
    body = graph.main.children(graph.main.nodes[0])["then_branch"]
    body.proto.output[2].name = "p"  # given out twice
    body.remove([body.nodes[2]])
    inline_body(graph.main, graph.main.nodes[0], "then_branch", counted := definitions(graph))
    assert counted == definitions(graph)
    made = {node.output[0]: (node.op_type, list(node.input)) for node in graph.main.nodes}
    assert made == {"y": ("Relu", ["x"]), "z": ("Identity", ["x"]), "w": ("Identity", ["y"])}
