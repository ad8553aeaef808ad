"""Free sizes that become numbers: inputs, what follows from them, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from graphopt import optimize
from graphopt.contract.spec import parse_passes
from graphopt.errors import DataError, UsageError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import FixShapes
from graphopt.rewrite.given_sizes import declared_shape
from graphopt.testing import MODELS, apply_pass, model_from_text

TWO = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,T,4] x, float[N,T] mask, float[1,T] scale) => (float[N,T,4] y, float[N,M] z)
<float[N,T,4] stale> {
  sizes = Shape (x)
  flat = Reshape (x, shape)
  stale = Mul (x, x)
  column = Unsqueeze (scale, axes)
  scaled = Mul (stale, column)
  y = Reshape (scaled, sizes)
  z = MatMul (mask, W)
}"""


def _two() -> onnx.ModelProto:
    weights: dict[str, Any] = {"shape": np.array([-1, 4]), "axes": np.array([2]), "W": (8, 6)}
    return model_from_text(TWO.replace("N,M", "N,6"), weights)


def _shapes(graph: Graph) -> dict[str, Any]:
    main = graph.main
    values = [*main.proto.input, *main.proto.output, *main.value_infos]
    return {value.name: declared_shape(value) for value in values}


def test_every_tensor_is_declared_with_its_size() -> None:
    graph, record = apply_pass(FixShapes(batch=1, sizes=("T:8",)), _two())
    shapes = _shapes(graph)
    assert {n: shapes[n] for n in ("x", "mask", "scale")} == {
        "x": (1, 8, 4),
        "mask": (1, 8),
        "scale": (1, 8),
    }
    assert shapes["stale"] == shapes["y"] == (1, 8, 4)  # declared before, of free size
    assert (shapes["sizes"], shapes["flat"], shapes["column"]) == ((3,), (8, 4), (1, 8, 1))
    assert shapes["z"] == (1, 6)
    made = {name for node in graph.main.nodes for name in node.output}
    assert made <= shapes.keys()
    told = {change.node: change.what for change in record.changes}
    assert told["x"] == "[N, T, 4] becomes [1, 8, 4]"
    assert record.skipped == []


def test_the_batch_is_the_first_axis_where_there_are_others() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,4] x, float[K] k) => (float[N,4] y, float[K] z) {
      y = Exp (x)  a = Exp (k)  b = Exp (a)  c = Exp (b)  z = Exp (c)
    }"""
    graph, record = apply_pass(FixShapes(batch=1), model_from_text(text), samples=None)
    assert _shapes(graph)["x"] == (1, 4)
    assert _shapes(graph)["k"] == ("K",)
    reasons = {skip.node: skip.reason for skip in record.skipped}
    assert reasons == {
        "k": "[K] keeps free sizes, for sizes=K:8 to fix",
        "model": "sizes are not known before it runs of 'a', 'b', 'c' and 1 more",
    }


def test_options_that_would_fix_the_rest_are_told() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,?,T] x) => (float y) { y = Relu (x) }"""
    _, record = apply_pass(FixShapes(), model_from_text(text))
    assert record.skipped[0].reason == (
        "[N, ?, T] keeps free sizes, for batch=1 and sizes=T:8 and shapes to fix"
    )


def test_sizes_that_follow_from_a_whole_shape_hold_for_all_inputs() -> None:
    graph, _ = apply_pass(FixShapes(shapes=("x:1x8x4",)), _two())
    assert _shapes(graph)["mask"] == (1, 8)
    assert _shapes(graph)["scale"] == (1, 8)


def test_what_is_declared_wrongly_behind_fixed_inputs_is_put_right() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,4] x) => (float[N,4] y) <float[7,4] h> { h = Relu (x)  y = Relu (h) }"""
    graph, _ = apply_pass(FixShapes(batch=1), model_from_text(text))
    assert _shapes(graph)["h"] == _shapes(graph)["y"] == (1, 4)


def test_without_options_shapes_are_declared_and_free_ones_told() -> None:
    graph, record = apply_pass(FixShapes(), MODELS["fixed-batch"]())
    shapes = _shapes(graph)
    assert all(isinstance(dim, int) for shape in shapes.values() for dim in shape)
    assert not record.skipped
    _, record = apply_pass(FixShapes(batch=2), graph.to_model())
    assert record.status == "nothing to do"
    assert record.reason == "every tensor is declared with its shape already"


def test_sizes_of_what_only_a_run_tells_are_told() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,4] x) => (int64[2,K] y) { n = NonZero (x)  y = Identity (n) }"""
    graph, record = apply_pass(FixShapes(batch=1), model_from_text(text))
    assert [(skip.node, skip.reason) for skip in record.skipped] == [
        ("model", "sizes are not known before it runs of 'n', 'y'")
    ]
    assert _shapes(graph)["y"] == (2, "K")


def test_a_run_takes_samples_in_the_fixed_batch() -> None:
    data = {"x": np.random.default_rng(0).normal(size=(10, 3, 8, 8)).astype(np.float32)}
    for batch in (1, 4):
        spec = f"fix-shapes{{batch={batch}}},quantize-static"
        result = optimize(MODELS["cnn"](), spec, calibration=data, evaluation=data, trial=False)
        assert [each.status for each in result.report.passes] == ["done", "done"]
        assert result.report.quality is not None
        assert result.report.quality.samples == 10
        assert io.load(result.model).required_inputs[0].type.tensor_type.shape.dim[0].dim_value == (
            batch
        )


REFUSED = {
    "batch=3": "input 'x' has a fixed batch of 2, not 3",
    "sizes=height:8": "no axis of an input is called 'height'; all sizes are numbers or have no",
    "shapes=pixels:2x3x8x8": "there is no input 'pixels'; known: x",
    "shapes=x:2x3x9x9": r"input 'x' is \[2, 3, 8, 8\], not \[2, 3, 9, 9\]",
    "shapes=x:2x3": r"input 'x' is \[2, 3, 8, 8\], not \[2, 3\]",
}


@pytest.mark.parametrize("options", REFUSED)
def test_sizes_that_do_not_fit_end_the_run_before_it_begins(options: str) -> None:
    with pytest.raises(UsageError, match=f"^fix-shapes: {REFUSED[options]}"):
        optimize(MODELS["fixed-batch"](), f"eliminate-dead,fix-shapes{{{options}}}")


def test_one_name_stands_for_one_size() -> None:
    spec = "fix-shapes{shapes=[x:1x8x4, mask:1x7]}"
    with pytest.raises(UsageError, match="the axis 'T' would be both 8 and 7"):
        optimize(_two(), spec)
    _, record = apply_pass(parse_passes(spec)[0], _two())
    assert (record.status, record.reason) == ("refused", "the axis 'T' would be both 8 and 7")


@pytest.mark.parametrize(
    "options",
    ["sizes=T", "sizes=T:", "sizes=:8", "sizes=T:-1", "sizes=T:0", "sizes=T:8x8", "shapes=x:1xx8"],
)
def test_text_of_another_form_is_refused(options: str) -> None:
    with pytest.raises(UsageError, match="must be of the form"):
        parse_passes(f"fix-shapes{{{options}}}")


def test_a_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="a name is given twice in 'T:8', 'T:9'"):
        FixShapes(sizes=("T:8", "T:9"))


def test_samples_of_another_size_are_refused() -> None:
    data = {"index": np.zeros((4, 9), np.int64), "x": np.zeros((4, 4), np.float32)}
    with pytest.raises(DataError, match=r"'index' has shape \[4, 9\] where the model takes int64"):
        optimize(MODELS["embedding"](), "fix-shapes{batch=1,sizes=T:8}", calibration=data)
