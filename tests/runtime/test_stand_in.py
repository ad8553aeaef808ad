"""Models of floats that onnxruntime has no kernels for are run in float32, and it is known."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import NodeProto

from graphopt.errors import ModelError, NoKernel
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.runtime.session import Session
from graphopt.runtime.stand_in import stand_in
from graphopt.runtime.trial import Trial
from graphopt.testing import model_from_text

RNG = np.random.default_rng(4)
W = RNG.normal(size=(4, 3, 1, 1))
X = RNG.normal(size=(1, 3, 5, 5)).astype(np.float32)
HEAD = '<ir_version: 10, opset_import: ["" : 22, "own" : 1]> g'


def graph_of(kind: str, body: str = "c = Conv(x, w) y = Relu(c)") -> Graph:
    """A network in a type of which onnxruntime 1.32 has no Conv on the CPU."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype({"bfloat16": 16, "double": 11}[kind])
    text = f"{HEAD} ({kind}[1, 3, 5, 5] x) => ({kind}[1, 4, 5, 5] y) {{ {body} }}"
    return io.load(model_from_text(text, {"w": W.astype(dtype)}))


KINDS = {"bfloat16": 2e-2, "double": 1e-6}


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_in_float32_and_says_what_is_lacking(kind: str) -> None:
    graph = graph_of(kind)
    total = NodeProto(op_type="ReduceSum", input=["c"], output=["sum"])
    session = Session(graph, threads=1, outputs=["y", "c", "sum", "x"], probes=[total])
    feeds = {"x": X.astype(np.float64) if kind == "double" else X}
    found = session.run(_fed(graph, feeds))
    expected = np.einsum("oi,nihw->nohw", W[..., 0, 0], X)
    room = KINDS[kind]
    np.testing.assert_allclose(found["c"], expected, rtol=room, atol=room)
    np.testing.assert_allclose(found["y"], np.maximum(expected, 0), rtol=room, atol=room)
    np.testing.assert_allclose(found["sum"].item(), expected.sum(), rtol=5 * room)
    assert "no kernel here: Could not find an implementation for Conv" in session.stands_in_for


def _fed(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kind = graph.main.proto.input[0].type.tensor_type.elem_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return {name: values.astype(dtype) for name, values in feeds.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_as_it_is_it_is_refused(kind: str) -> None:
    graph = graph_of(kind)
    with pytest.raises(NoKernel, match="for Conv"):
        Session(graph, threads=1, as_is=True)
    with Trial(True) as trial:
        feeds = _fed(graph, {"x": X})
        trial.run(graph, feeds, threads=1)
        with pytest.raises(NoKernel, match="for Conv"):
            trial.run(graph, feeds, threads=1, as_is=True)


def test_what_runs_is_run_as_it_is() -> None:
    session = Session(graph_of("double", "y = Exp(x)"), threads=1)
    assert session.stands_in_for == ""
    assert session.run({"x": X.astype(np.float64)})["y"].dtype == np.float64


def test_nothing_stands_in_for_an_operator_that_is_not_known() -> None:
    graph = graph_of("double", "c = own.Op(x, w) y = Exp(c)")
    assert stand_in(graph) is None
    with pytest.raises(NoKernel, match="does not know the operator own:Op"):
        Session(graph, threads=1)
    text = f"{HEAD} (float[2] x) => (float[2] y) {{ y = Abs(x) }}"
    assert stand_in(io.load(model_from_text(text))) is None


def test_a_type_that_an_older_operator_does_not_allow_is_run_all_the_same() -> None:
    message = graph_of("bfloat16").to_model()
    message.opset_import[0].version = 17
    graph = io.load(message)
    with pytest.raises(ModelError, match="Type Error"):
        Session(graph, threads=1, as_is=True)
    newer = Session(graph_of("bfloat16"), threads=1)
    with Trial(True) as trial:
        trial.run(graph, _fed(graph, {"x": X}), threads=1)
    session = Session(graph, threads=1)
    assert "Type Error" in session.stands_in_for
    feeds = _fed(graph, {"x": X})
    np.testing.assert_array_equal(session.run(feeds)["y"], newer.run(feeds)["y"])
