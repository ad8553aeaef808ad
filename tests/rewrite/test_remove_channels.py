"""Positions taken out of axes: what is refused, what is declared, what is left to others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.rewrite.remove_channels import remove_channels
from graphopt.testing import model_from_text, run_model

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2, 6] x) => (float[2, 5] y) <float[2, 4] h>
{ h = MatMul(x, v) r = Reshape(h, sizes) t = Relu(r) s = Reshape(t, sizes) y = MatMul(s, w) }"""
UNIT = {("v", 1): [1], ("h", 1): [1], ("r", 1): [1], ("t", 1): [1], ("s", 1): [1], ("w", 0): [1]}


def graph_of(sizes: tuple[int, int] = (2, 4)) -> Graph:
    weights: dict[str, Any] = {"v": (6, 4), "w": (4, 5), "sizes": np.array(sizes, np.int64)}
    return Graph(model_from_text(TEXT, weights))


def test_what_is_left_is_said_for_each_axis() -> None:
    graph = graph_of()
    v = graph.main.constant("v")
    assert v is not None
    before = v.values
    kept = remove_channels(graph, infer(graph), UNIT)
    assert {place: left.tolist() for place, left in kept.items()} == {
        place: [0, 2, 3] for place in UNIT
    }
    after = graph.main.constant("v")
    assert after is not None
    np.testing.assert_array_equal(after.values, before[:, [0, 2, 3]])


def test_declared_types_follow_and_a_copy_keeps_its_own() -> None:
    graph = graph_of()
    twin = graph.copy()
    remove_channels(graph, infer(graph), UNIT)
    for each, size in ((graph, 3), (twin, 4)):
        (declared,) = each.main.value_infos
        assert [dim.dim_value for dim in declared.type.tensor_type.shape.dim] == [2, size]


@pytest.mark.parametrize(("stated", "left"), [((2, 4), [2, 3]), ((0, 4), [0, 3]), ((2, 0), [2, 0])])
def test_a_reshape_is_told_what_it_cannot_tell(stated: tuple[int, int], left: list[int]) -> None:
    graph = graph_of(stated)
    remove_channels(graph, infer(graph), UNIT)
    for node in graph.main.nodes:
        if node.op_type == "Reshape":
            sizes = graph.main.constant(node.input[1])
            assert sizes is not None
            assert sizes.values.tolist() == left


def test_minus_one_stays() -> None:
    graph = graph_of((2, -1))
    remove_channels(graph, infer(graph), UNIT)
    assert list(graph.main.initializers) == ["v", "w", "sizes"]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ({**UNIT, ("w", 0): [2]}, "'MatMul(y)' cannot lose these positions of"),
        ({place: held for place, held in UNIT.items() if place[0] != "w"}, "'MatMul(y)' cannot"),
        ({place: [0, 1, 2, 3] for place in UNIT}, "nothing would be left of axis 1 of 'v'"),
        ({("nowhere", 0): [1]}, "the size of axis 0 of 'nowhere' is not known"),
    ],
)
def test_what_does_not_go_together_is_refused(
    gone: dict[tuple[str, int], list[int]], message: str
) -> None:
    graph = graph_of()
    before = graph.to_model()
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        remove_channels(graph, infer(graph), gone)
    assert graph.to_model() == before


@pytest.mark.parametrize("opset", [11, 17])
def test_a_squeeze_takes_away_what_it_took_before(opset: int) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (float[2, 6] x) => (float[2, 5] y)
      {{ h = MatMul(x, v) u = Reshape(h, sizes) s = Squeeze(u) y = MatMul(s, w) }}"""
    weights: dict[str, Any] = {"v": (6, 2), "w": (2, 5), "sizes": np.array([2, 1, 2])}
    graph = Graph(model_from_text(text, weights))
    gone = {("v", 1): [1], ("h", 1): [1], ("u", 2): [1], ("s", 1): [1], ("w", 0): [1]}
    remove_channels(graph, infer(graph), gone)
    assert run_model(graph)["y"].shape == (2, 5)
    onnx.checker.check_model(graph.to_model(), full_check=True)
