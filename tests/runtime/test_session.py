from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper, parser

from graphopt.errors import ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.spill import Spill
from graphopt.graph.tensors import Array
from graphopt.runtime import lending
from graphopt.runtime.session import Session, thread_count

CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
chain (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}>
{
    half = MatMul(x, w)
    y = Relu(half)
}
"""


def graph_of(text: str) -> Graph:
    return Graph(parser.parse_model(text))


def rows(count: int = 2) -> dict[str, Array]:
    return {"x": np.arange(count * 4, dtype=np.float32).reshape(count, 4) - 3}


W = np.arange(1, 13, dtype=np.float32).reshape(4, 3)


def test_run_gives_the_outputs_by_name() -> None:
    answer = Session(graph_of(CHAIN)).run(rows())
    np.testing.assert_allclose(answer["y"], np.maximum(rows()["x"] @ W, 0), rtol=1e-6)


@pytest.mark.parametrize("level", ["all", "extended", "basic", "off"])
def test_inner_tensors_inputs_and_constants_can_be_asked_for(level: Any) -> None:
    session = Session(graph_of(CHAIN), outputs=["half", "x", "w", "y"], level=level)
    answer = session.run(rows())
    assert list(answer) == ["half", "x", "w", "y"]
    np.testing.assert_allclose(answer["half"], rows()["x"] @ W, rtol=1e-6)
    np.testing.assert_array_equal(answer["x"], rows()["x"])
    np.testing.assert_array_equal(answer["w"], W)


def test_only_constants_asked_for_need_no_run() -> None:
    np.testing.assert_array_equal(Session(graph_of(CHAIN), outputs=["w"]).run({})["w"], W)


def test_an_initializer_that_is_an_input_can_be_overridden() -> None:
    text = CHAIN.replace("(float[N, 4] x)", "(float[N, 4] x, float[4, 3] w)")
    session = Session(graph_of(text), outputs=["w", "y"])
    np.testing.assert_array_equal(session.run(rows())["w"], W)
    zeros = np.zeros((4, 3), np.float32)
    answer = session.run({**rows(), "w": zeros})
    assert not answer["w"].any() and not answer["y"].any()


def test_probes_are_added_behind_the_model() -> None:
    probe = onnx.helper.make_node("ReduceMax", ["half"], ["top"], keepdims=0)
    session = Session(graph_of(CHAIN), outputs=["top"], probes=[probe])
    assert session.run(rows())["top"] == pytest.approx((rows()["x"] @ W).max())
    assert session.types() == {"top": "tensor(float)"}


def test_the_graph_is_left_as_it_was() -> None:
    graph = graph_of(CHAIN)
    before = graph.to_model().SerializeToString(deterministic=True)
    Session(graph, outputs=["half"], probes=[onnx.helper.make_node("Neg", ["half"], ["n"])])
    assert graph.to_model().SerializeToString(deterministic=True) == before


def test_unknown_tensor_is_named() -> None:
    with pytest.raises(ModelError, match="no tensor 'nothing'"):
        Session(graph_of(CHAIN), outputs=["nothing"])


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, "x"),
        ({"q": np.zeros(1, np.float32)}, "x"),
        ({"x": np.zeros((2, 4))}, "float"),
        ({"x": np.zeros(4, np.float32)}, "rank"),
        ({"x": np.zeros((2, 5), np.float32)}, "x"),
        ({"x": [["text"]]}, "onnxruntime"),
    ],
)
def test_a_feed_that_does_not_fit_is_one_line(
    feeds: dict[str, Any], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    session = Session(graph_of(CHAIN))
    with pytest.raises(ModelError, match=words) as caught:
        session.run(feeds)
    assert "\n" not in str(caught.value) and "ONNXRuntimeError" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_node_that_fails_is_named_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N] x, int64[M] shape) => (float[K] y) { [bad] y = Reshape(x, shape) }
    """
    session = Session(graph_of(text))
    with pytest.raises(ModelError, match="bad"):
        session.run({"x": np.zeros(4, np.float32), "shape": np.array([3])})
    assert capfd.readouterr() == ("", "")


def test_a_model_that_cannot_load_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    text = CHAIN.replace("Relu(half)", "NoSuchOperator(half)")
    with pytest.raises(ModelError, match="NoSuchOperator") as caught:
        Session(graph_of(text))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_text_boolean_and_integer_inputs() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (string[N] s, bool[N] b, int64[N] i, bool flag) => (string[N] t, bool[N] c, int64[N] j)
    { t = Identity(s)  f = Not(flag)  c = Or(b, f)  j = Neg(i) }
    """
    answer = Session(graph_of(text)).run(
        {
            "s": np.array(["a", "b"], object),
            "b": np.array([True, False]),
            "i": np.array([1, 2]),
            "flag": np.array(True),
        }
    )
    assert answer["t"].tolist() == ["a", "b"]
    assert answer["c"].tolist() == [True, False]
    assert answer["j"].tolist() == [-1, -2]


def test_a_sequence_output_is_a_list() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x) => (seq(float[N]) s) { s = SplitToSequence(x) }
    """
    answer = Session(graph_of(text)).run({"x": np.arange(4, dtype=np.float32)})
    assert isinstance(answer["s"], list) and len(answer["s"]) == 4


def test_bfloat16_feeds() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (bfloat16[4] x) => (float[4] y) { y = Cast<to = 1>(x) }
    """
    values = np.arange(4).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(Session(graph_of(text)).run({"x": values})["y"], np.arange(4))


def test_bfloat16_results_come_as_floats() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x) => (bfloat16[4] y, float[4] z) { y = Cast<to = 16>(x)  z = Neg(x) }
    """
    answer = Session(graph_of(text)).run({"x": np.arange(4, dtype=np.float32)})
    assert list(answer) == ["y", "z"] and answer["y"].dtype == np.float32
    np.testing.assert_array_equal(answer["y"], np.arange(4))


def test_external_data_is_found_in_the_model_folder(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    model = parser.parse_model(CHAIN)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    model.graph.initializer[0].CopyFrom(tensor)
    answer = Session(Graph(model, tmp_path), outputs=["y", "w"]).run(rows())
    np.testing.assert_allclose(answer["y"], np.maximum(rows()["x"] @ W, 0), rtol=1e-6)
    np.testing.assert_array_equal(answer["w"], W)


def test_spilled_weights_are_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spill, "TENSOR_BYTES", 1)
    graph = graph_of(CHAIN)
    graph.spilling = True
    weight = graph.main.constant("w")
    assert weight is not None
    weight.set(W * 2)
    session = Session(graph)
    np.testing.assert_allclose(session.run(rows())["y"], np.maximum(rows()["x"] @ W * 2, 0))


def test_a_model_too_long_for_a_message_lends_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lending, "_MESSAGE_BYTES", 1)
    monkeypatch.setattr(lending, "_LENT_BYTES", 1)
    graph = graph_of(CHAIN)
    answer = Session(graph).run(rows())
    np.testing.assert_allclose(answer["y"], np.maximum(rows()["x"] @ W, 0), rtol=1e-6)
    stored = graph.main.initializers["w"]
    np.testing.assert_array_equal(numpy_helper.to_array(stored), W)


def test_threads() -> None:
    assert thread_count(3) == 3
    assert thread_count(0) >= 1
