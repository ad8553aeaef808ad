"""Where functions are flat, against what onnxruntime makes of inputs beyond."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.facts.flats import EVERYWHERE
from graphopt.facts.operators import find, operators
from graphopt.graph.graph import Graph
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text


def graph_of(body: str, opset: int = 17) -> Graph:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    text = f"{head} g (float[N] x, float b) => (float[N] y) {{ {body} }}"
    return Graph(model_from_text(text, {}))


def bounds_of(graph: Graph) -> tuple[float, float]:
    node = graph.main.nodes[-1]
    row = find(node)
    assert row is not None
    assert row.flat is not None
    return row.flat(graph.main, node)


@pytest.mark.parametrize(
    ("body", "opset", "expected"),
    [
        ("y = Relu(x)", 17, (0, np.inf)),
        ("y = Clip<min = -1.0, max = 6.0>(x)", 6, (-1, 6)),
        ("l = Constant<value = float {0.5}>() y = Clip(x, l)", 17, (0.5, np.inf)),
        ('h = Constant<value = float {6}>() y = Clip(x, "", h)', 17, (-np.inf, 6)),
        ("y = Clip(x)", 17, EVERYWHERE),
        ("y = Clip(x, b)", 17, EVERYWHERE),
        ("y = HardSigmoid(x)", 17, (-2.5, 2.5)),
        ("y = HardSigmoid<alpha = 0.5, beta = 0.25>(x)", 17, (-0.5, 1.5)),
        ("y = HardSwish(x)", 17, (-3, np.inf)),
        ("y = ThresholdedRelu<alpha = -0.5>(x)", 17, (-0.5, np.inf)),
    ],
)
def test_beyond_these_the_result_stays_the_same(
    body: str, opset: int, expected: tuple[float, float]
) -> None:
    graph = graph_of(body.replace('""', ""), opset)
    low, high = bounds_of(graph)
    assert (low, high) == pytest.approx(expected)
    beyond = [value for value in (low, high) if np.isfinite(value)]
    outside = [[low - 1, low - 0.1, low], [high, high + 0.1, high + 1]]
    rows = [row for row in outside if np.isfinite(row).all()]
    session = Session(graph, threads=1)
    for row in rows:
        x = np.array(row, np.float32)
        fed = {name: {"x": x, "b": np.zeros((), np.float32)}[name] for name in session.inputs}
        y = session.run(fed)["y"]
        np.testing.assert_allclose(y, np.full(3, y[0]), atol=1e-6)
    assert len(beyond) == len(rows)


def test_only_functions_of_one_value_have_it() -> None:
    flat = [row for row in operators() if row.flat is not None]
    assert len(flat) >= 5
    assert all(row.kind == "elementwise" and row.data == (0,) for row in flat)
