"""Where edited copies begin to differ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphopt.graph.difference import first_difference
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text

BODY = """
    a = Conv (x, w1) b = Relu (a) k = Constant <value = float {2.0}> () c = Mul (b, k)
    d = If (flag) <
        then_branch = t () => (td) { td = Add (c, w2) },
        else_branch = e () => (ed) { ed = Sub (c, w2) }
    > y = Add (d, w2)
"""
PORTS = "(float[N, 3, 4, 4] x, bool flag) => (float[N, 3, 4, 4] y)"


def _graph() -> Graph:
    weights = {"w1": (3, 3, 1, 1), "w2": (1, 3, 1, 1)}
    text = f'<ir_version: 8, opset_import: ["" : 17]> g {PORTS} {{ {BODY} }}'
    arrays = {name: np.ones(shape, np.float32) for name, shape in weights.items()}
    return Graph(model_from_text(text, arrays))


def _set(name: str) -> Callable[[Graph], None]:
    def edit(graph: Graph) -> None:
        constant = graph.main.constant(name)
        assert constant is not None
        constant.set(constant.values * 3)

    return edit


def _body(graph: Graph) -> None:
    body = graph.main.children(graph.main.producer("d") or graph.main.nodes[0])["else_branch"]
    body.nodes[0].op_type = "Mul"


def _attribute(graph: Graph) -> None:
    graph.main.nodes[0].attribute.add(name="group", i=1, type=2)


def _shorter(graph: Graph) -> None:
    graph.main.remove([graph.main.nodes[-1]])


def _input(graph: Graph) -> None:
    graph.main.set_input(graph.main.nodes[1], 0, "x")


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (_set("w1"), "a"),
        (_set("w2"), "d"),  # its bodies read it
        (_set("k"), "k"),
        (_body, "d"),
        (_attribute, "a"),
        (_input, "b"),
        (_shorter, "y"),
    ],
)
def test_the_first_node_that_does_something_else(edit: Callable[[Graph], None], place: str) -> None:
    graph = _graph()
    copy = graph.copy()
    assert first_difference(graph, copy) is None
    edit(copy)
    found = first_difference(graph, copy)
    assert found is graph.main.producer(place)
