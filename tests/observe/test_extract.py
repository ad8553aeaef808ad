"""The part of a graph behind some tensors: small, and fed like the whole."""

from __future__ import annotations

import numpy as np
from onnx import parser

from graphopt.graph.graph import Graph
from graphopt.observe.extract import extract
from graphopt.runtime.session import Session

TEXT = """
<ir_version: 8, opset_import: ["": 17]>
g (float[2] x, float[2] other, bool c, float[2] w) => (float[2] y)
<float[2] w = {1, 2}, float[2] v = {3, 4}> {
    early = Add(x, v)
    late = Mul(early, w)
    y = If (c) <
        then_branch = a () => (float[2] t) { t = Neg(late) },
        else_branch = b () => (float[2] e) { e = Identity(other) }
    >
}
"""


def test_only_ancestors_stay() -> None:
    part = extract(Graph(parser.parse_model(TEXT)), ["early"]).main
    assert [node.output[0] for node in part.nodes] == ["early"]
    assert list(part.initializers) == ["v"]
    # a weight that went may not turn into an input that must be fed
    assert part.inputs == ["x", "other", "c"]
    assert part.outputs == []


def test_what_a_body_reads_is_an_ancestor() -> None:
    whole = Graph(parser.parse_model(TEXT))
    part = extract(whole, ["y"]).main
    assert [node.output[0] for node in part.nodes] == ["early", "late", "y"]
    assert set(part.initializers) == {"v", "w"}
    assert whole.main.outputs == ["y"]


def test_from_what_is_held_only_the_rest_is_computed() -> None:
    held = {"late": np.zeros(2, np.float32), "c": np.array(True), "x": np.zeros(2, np.float32)}
    part = extract(Graph(parser.parse_model(TEXT)), ["y"], held)
    assert [node.output[0] for node in part.main.nodes] == ["y"]
    assert part.main.inputs == ["c", "late"]
    assert not part.main.initializers


SIZES = """
<ir_version: 8, opset_import: ["": 13]>
g (float[1, 2, 4, 4] x, float[1, 3, 8, 8] like) => (float[1, 2, 8, 8] y)
<int64[4] all = {1, 2, 4, 4}, int64[1] none = {0}, int64[1] two = {2}, int64[1] four = {4}> {
    data = Reshape (x, all)
    other = Relu (like)
    s1 = Shape (data)
    head = Slice (s1, none, two)
    s2 = Shape (other)
    tail = Slice (s2, two, four)
    sizes = Concat <axis = 0> (head, tail)
    y = Resize <mode = "nearest"> (data, , , sizes)
}
"""


def test_sizes_that_follow_from_what_is_held_are_known_to_be_so_many() -> None:
    held = {"x": np.ones((1, 2, 4, 4), np.float32), "other": np.ones((1, 3, 8, 8), np.float32)}
    part = extract(Graph(parser.parse_model(SIZES)), ["y"], held)
    assert Session(part, threads=1, outputs=["y"]).run(held)["y"].shape == (1, 2, 8, 8)
