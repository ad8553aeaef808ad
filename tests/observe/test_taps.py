"""Both forms of each tap give the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.graph.graph import Graph
from graphopt.observe.taps import Reduction, Sampled, SizeOf, Tap, TapNodes, Whole, start_input
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

TAPS: dict[str, Tap] = {
    "min": Reduction("h", "min", (1,), 3),
    "max by row": Reduction("h", "max", (0, 2), 3),
    "mean of all": Reduction("h", "mean", (), 3),
    "mean square": Reduction("h", "mean", (0,), 3, squared=True),
    "nothing to reduce": Reduction("h", "max", (0, 1, 2), 3),
    "sampled": Sampled("h", 3),
    "size": SizeOf("h"),
}


def graph(opset: int, kind: str = "float") -> Graph:
    ports = f"({kind}[N, 3, 4] x) => ({kind}[N, 3, 4] y)"
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}]> g {ports} {{ h = Identity(x) y = Neg(h) }}'
    )
    return Graph(model_from_text(text, {}))


def inside(made: Graph, taps: list[Tap], floats: set[str], feeds: dict[str, Any]) -> list[Any]:
    """What the graph forms of taps give."""
    nodes = TapNodes(made, floats)
    names = [tap.add(nodes) for tap in taps]
    assert None not in names
    computed = Session(made, outputs=[str(name) for name in names]).run(feeds)
    return [computed[str(name)] for name in names]


@pytest.mark.parametrize("opset", [10, 13, 18])
@pytest.mark.parametrize("case", TAPS)
def test_the_graph_form_gives_what_the_host_form_gives(case: str, opset: int) -> None:
    x = np.random.default_rng(5).normal(size=(2, 3, 4)).astype(np.float32)
    tap, drawn = TAPS[case], {3: 2}
    feeds = {"x": x} | {start_input(bound): np.array([drawn[bound]]) for bound in tap.draws}
    (computed,) = inside(graph(opset), [tap], {"h"}, feeds)
    np.testing.assert_allclose(computed, tap.compute(x, drawn), rtol=1e-6)


def test_what_is_no_float_is_cast_and_shared_nodes_are_added_once() -> None:
    made, taps = graph(13, "double"), [TAPS[case] for case in ("min", "mean square", "sampled")]
    x = np.arange(24, dtype=np.float64).reshape(2, 3, 4) - 7
    feeds = {"x": x, start_input(3): np.array([1])}
    for tap, values in zip(taps, inside(made, taps, set(), feeds), strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, tap.compute(x, {3: 1}), rtol=1e-6)
    assert [node.op_type for node in made.main.nodes].count("Cast") == 1


def test_an_empty_tensor_has_the_neutral_elements() -> None:
    empty = np.zeros((0, 3, 4), dtype=np.float32)
    assert np.isneginf(TAPS["nothing to reduce"].compute(empty, {})).all()
    np.testing.assert_array_equal(TAPS["min"].compute(empty, {}), [np.inf] * 3)
    assert TAPS["mean of all"].compute(empty, {}) == 0


def test_without_a_form_in_the_graph_the_tensor_is_to_be_copied_out() -> None:
    made = graph(9)
    before = len(made.main.nodes)
    assert Whole("h").add(TapNodes(made, {"h"})) is None
    assert TAPS["sampled"].add(TapNodes(made, {"h"})) is None  # Slice has steps from opset 10 on
    assert len(made.main.nodes) == before
    codes = np.array([[3, 4]], dtype=np.uint8)
    assert Whole("h").compute(codes, {}).dtype == np.float32


def test_squares_that_overflow_are_infinite_on_the_host_as_in_the_graph() -> None:
    x = np.full((1, 3, 4), 1e30, dtype=np.float32)
    (computed,) = inside(graph(13), [TAPS["mean square"]], {"h"}, {"x": x})
    assert np.isinf(computed).all()
    assert np.isinf(TAPS["mean square"].compute(x, {})).all()


def test_the_random_input_is_declared_as_one_integer() -> None:
    made = graph(13)
    nodes = TapNodes(made, {"h"})
    assert nodes.drawn(7) == nodes.drawn(7) == start_input(7)
    (declared,) = [value for value in made.main.proto.input if value.name == start_input(7)]
    assert declared.type.tensor_type.elem_type == onnx.TensorProto.INT64
