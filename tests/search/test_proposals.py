"""What auto would try: rounding by data where that takes little time."""

from __future__ import annotations

import onnx
import pytest

from graphopt import targets
from graphopt.graph.graph import Graph
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.search.proposals import quickly_rounded, static_spec
from graphopt.testing import model_from_text

HEADER = """<ir_version: 8, opset_import: ["" : 18]>"""
CONVS = f"{HEADER} g (float[N, 8, 4, 4] x) => (float[N, 8, 4, 4] y) {{ y = Conv(x, w) }}"
PRODUCTS = f"{HEADER} g (float[N, 8] x) => (float[N, 8] y) {{ y = MatMul(x, w) }}"


def stage(model: onnx.ModelProto) -> Stage:
    graph = Graph(model)
    return Stage(graph, Means(reference=graph, target=targets.find("host")))


@pytest.mark.parametrize(
    ("text", "shape", "rounds"),
    [(CONVS, (8, 8, 1, 1), True), (CONVS, (8, 6000, 1, 1), False), (PRODUCTS, (8, 8), False)],
    ids=["small convolutions", "wide convolutions", "matrix products"],
)
def test_small_convolutional_networks_are_rounded_by_data(
    text: str, shape: tuple[int, ...], rounds: bool
) -> None:
    assert quickly_rounded(stage(model_from_text(text, {"w": shape}))) is rounds


def test_rounding_stands_behind_what_quantizes() -> None:
    start = stage(model_from_text(CONVS, {"w": (8, 8, 1, 1)}))
    means = Means(reference=start.graph, target=targets.find("host"))
    plain, rounded = (static_spec(start, means, rounded=each) for each in (False, True))
    assert plain == "quantize-static,correct-bias,quantize-weights"
    assert rounded == "quantize-static,correct-bias,round-weights,quantize-weights"
