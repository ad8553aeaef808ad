from __future__ import annotations

from graphopt.facts import shapes
from graphopt.facts.live import peak_elements
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text


def _peak(body: str, out: str = "float[2, 8] y") -> int:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[2, 8] x) => ({out}) {{ {body} }}'
    graph = Graph(model_from_text(text, {"W": (8, 32)} if "W" in body else {}))
    return peak_elements(graph.main, shapes.infer(graph))


def test_results_count_from_where_they_are_made_to_their_last_reader() -> None:
    assert _peak("a = Relu(x) b = Relu(a) y = Relu(b)") == 2 * 16
    assert _peak("a = Relu(x) b = Relu(a) c = Relu(b) y = Add(c, x)") == 3 * 16
    assert _peak("a = Relu(x) b = MatMul(a, W) y = Relu(b)", "float[2, 32] y") == 16 + 64


def test_what_nobody_reads_and_what_has_no_known_size_does_not_count() -> None:
    assert _peak("a = Relu(x) b = NonZero(a) c = Cast<to = 1>(b) y = Add(a, x)") == 2 * 16
