from __future__ import annotations

import numpy as np
import pytest

from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import EliminateIdentity
from graphopt.run.record import PassRecord
from graphopt.testing import apply_pass, model_from_text

_CONSTANTS = {
    "one": np.array(1.0, np.float32),
    "ones4": np.ones((1, 4), np.float32),
    "wide": np.ones((2, 1, 4), np.float32),
    "zero": np.array([0.0], np.float32),
    "half": np.array(0.5, np.float32),
    "keep": np.array([0, 4]),
    "flat": np.array([-1, 2]),
    "none": np.zeros(4, np.int64),
    "some": np.array([0, 1, 0, 0]),
    "start": np.array([0]),
    "end": np.array([np.iinfo(np.int64).max]),
    "three": np.array([3]),
    "axis": np.array([1]),
    "twice": np.array([1, 2]),
    "once": np.array([1, 1]),
    "scales": np.ones(2, np.float32),
}


def _apply(body: str, opset: int = 13, out: str = "float[N,4] y") -> tuple[Graph, PassRecord]:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N,4] x) => ({out}) {{ {body} }}'
    used = {name: value for name, value in _CONSTANTS.items() if name in body}
    return apply_pass(EliminateIdentity(), model_from_text(text, used))


@pytest.mark.parametrize(
    "node",
    [
        "Identity (h)",
        "Dropout (h)",
        "Dropout (h, half)",
        "Cast <to = 1> (h)",
        "Reshape (h, keep)",
        "Flatten (h)",
        "Transpose <perm = [0, 1]> (h)",
        "Slice (h, start, end, axis)",
        "Pad (h, none)",
        "Tile (h, once)",
        "Expand (h, once)",
        "Concat <axis = 1> (h)",
        "Sum (h)",
        "Max (h)",
        "Mul (h, one)",
        "Mul (ones4, h)",
        "Div (h, one)",
        "Add (zero, h)",
        "Sub (h, zero)",
        "Pow (h, one)",
    ],
)
def test_removes_what_does_nothing(node: str) -> None:
    graph, record = _apply(f"h = Exp (x)  i = {node}  y = Relu (i)")
    assert [n.op_type for n in graph.main.nodes] == ["Exp", "Relu"]
    assert record.status == "done"


@pytest.mark.parametrize(
    ("node", "out"),
    [
        ("Cast <to = 11> (h)", "double[N,4] y"),
        ("Reshape (h, flat)", "float[M,2] y"),
        ("Transpose <perm = [1, 0]> (h)", "float[4,N] y"),
        ("Slice (h, start, three, axis)", "float[N,3] y"),
        ("Pad (h, some)", "float[N,5] y"),
        ("Tile (h, twice)", "float[N,8] y"),
        ("Mul (h, half)", "float[N,4] y"),
        ("Mul (h, wide)", "float[2,N,4] y"),
        ("Div (one, h)", "float[N,4] y"),
        ("Sub (zero, h)", "float[N,4] y"),
        ("Pow (one, h)", "float[N,4] y"),
        ("Concat <axis = 1> (h, h)", "float[N,8] y"),
    ],
)
def test_keeps_what_does_something(node: str, out: str) -> None:
    graph, record = _apply(f"h = Exp (x)  i = {node}  y = Neg (i)", out=out)
    assert len(graph.main.nodes) == 3
    assert record.status == "nothing to do"


def test_two_transposes_that_undo_each_other_go() -> None:
    graph, _ = _apply(
        "h = Exp (x)  t = Transpose <perm = [1, 0]> (h)  b = Transpose <perm = [1, 0]> (t)"
        "  y = Relu (b)"
    )
    assert graph.main.nodes[-1].input[0] == "h"


def test_outputs_keep_their_names() -> None:
    graph, _ = _apply("h = Exp (x)  y = Identity (h)")
    assert [(n.op_type, list(n.output)) for n in graph.main.nodes] == [("Exp", ["y"])]


def test_an_output_that_is_an_input_keeps_its_node() -> None:
    graph, record = _apply("y = Identity (x)")
    assert [n.op_type for n in graph.main.nodes] == ["Identity"]
    assert record.skipped[0].reason == "it copies, but it carries the output 'y'"


def test_training_dropout_and_a_read_mask_stay() -> None:
    graph, _ = _apply(
        "t = Constant <value = bool {1}> ()  z = Constant <value = float {0.0}> ()"
        "  h, m = Dropout (x, z, t)  y = Relu (h)"
    )
    assert "Dropout" in [n.op_type for n in graph.main.nodes]
    graph, _ = _apply("h, m = Dropout (x)  y = Relu (h)", out="float[N,4] y, bool[N,4] m")
    assert "Dropout" in [n.op_type for n in graph.main.nodes]


def test_resize_by_one_goes() -> None:
    graph, _ = _apply("h = Exp (x)  r = Resize (h, , scales)  y = Relu (r)")
    assert [n.op_type for n in graph.main.nodes] == ["Exp", "Relu"]
