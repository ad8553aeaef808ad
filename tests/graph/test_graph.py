"""The graph in memory: copies, spilled tensors, names, writing in order."""

import gc
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from graphopt.errors import ModelError, SystemFailure
from graphopt.graph import check, io, tensors
from graphopt.graph.graph import Constant, Graph, Scope, Use
from graphopt.graph.lossless import differences
from graphopt.graph.spill import Spill
from graphopt.graph.tensors import Array

TEXT = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[N, 4] x, bool c) => (float[N, 4] y)
<float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> {
  h = MatMul(x, w)
  y = If (c) <
    then_branch = t () => (float[N, 4] a) <float[4] v = {1,2,3,4}> { a = Add(h, v) },
    else_branch = e () => (float[N, 4] b) { b = Relu(h) }
  >
}
"""


@pytest.fixture
def model() -> ModelProto:
    return onnx.parser.parse_model(TEXT)


@pytest.fixture
def spilling(monkeypatch: pytest.MonkeyPatch, model: ModelProto) -> Graph:
    """A graph that puts every tensor it is given into a temporary file."""
    monkeypatch.setattr(Spill, "BOUND_BYTES", 0)
    monkeypatch.setattr(Spill, "TENSOR_BYTES", 16)
    return Graph(model)


def constant(scope: Scope, name: str) -> Constant:
    found = scope.constant(name)
    assert found is not None
    return found


def body(graph: Graph, name: str) -> Scope:
    return graph.main.children(graph.main.nodes[1])[name]


def test_names_are_importable_from_graph() -> None:
    assert Scope.__module__ == "graphopt.graph.scope"
    assert Use.__module__ == "graphopt.graph.index"


def test_take_over_empties_the_message(model: ModelProto) -> None:
    before = ModelProto()
    before.CopyFrom(model)
    graph = Graph(model, take_over=True)
    assert differences(before, graph.to_model()) == []
    assert len(model.graph.initializer) == 0


def test_copies_share_tensors_and_nothing_else(model: ModelProto) -> None:
    graph = Graph(model)
    twin = graph.copy()
    assert twin.main.initializers["w"] is graph.main.initializers["w"]
    inner, outer = body(twin, "then_branch"), body(graph, "then_branch")
    assert inner.initializers["v"] is outer.initializers["v"]
    assert (inner.graph, inner.parent, inner.owner) == (twin, twin.main, twin.main.nodes[1])
    constant(twin.main, "w").set(np.zeros((4, 4), np.float32))
    constant(inner, "v").set(np.zeros(4, np.float32))
    inner.nodes[0].op_type = "Sub"
    twin.main.proto.output[0].name = "other"
    twin.header.producer_name = "me"
    twin.main.add_constant("new", np.ones(2, np.float32))
    assert differences(model, graph.to_model()) == []


def test_a_graph_takes_on_the_state_of_another_again_and_again(model: ModelProto) -> None:
    graph = Graph(model)
    taken = graph.copy()
    for _ in range(2):
        inner = body(graph, "then_branch")
        constant(inner, "v").set(np.zeros(4, np.float32))
        graph.main.remove(graph.main.nodes)
        assert graph.unique_name("fresh") == "fresh"
        graph.become(taken)
        assert differences(model, graph.to_model()) == []
        assert body(graph, "then_branch").graph is graph


def test_graph_keeps_its_own_memory(model: ModelProto) -> None:
    graph = Graph(model)
    del model
    gc.collect()
    assert constant(graph.main, "w").values.trace() == 4


def test_nodes_are_written_in_order(model: ModelProto) -> None:
    graph = Graph(model)
    graph.main.nodes.reverse()
    assert differences(model, graph.to_model()) == []
    assert check.problems(graph) == []


def test_spilled_tensors_are_read_written_and_counted(spilling: Graph, tmp_path: Path) -> None:
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    constant(spilling.main, "w").set(values)
    tensor = spilling.main.initializers["w"]
    assert tensors.is_external(tensor)
    assert spilling.spill.file(tensor) is not None
    assert constant(spilling.main, "w").values.tolist() == values.tolist()
    assert spilling.weight_bytes == 64 + 16
    assert io.size(spilling) == pytest.approx(len(io.whole(spilling).SerializeToString()), abs=150)
    io.save(spilling, tmp_path / "out.onnx")
    assert [item.name for item in tmp_path.iterdir()] == ["out.onnx"]
    for model in (
        onnx.load(tmp_path / "out.onnx"),
        io.whole(spilling),
        spilling.to_model(),
    ):
        held = model.graph.initializer[0]
        assert not tensors.is_external(held)
        assert onnx.numpy_helper.to_array(held).tolist() == values.tolist()
        assert "spilled" not in str(model)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.float8_e4m3fn, np.int8, np.bool_])
def test_every_type_can_be_spilled(spilling: Graph, dtype: type) -> None:
    values: Array = (np.arange(33) % 2).astype(dtype)
    name = spilling.main.add_constant("new", values)
    read = constant(spilling.main, name).values
    assert read.dtype == values.dtype
    assert read.astype(int).tolist() == values.astype(int).tolist()
    held = spilling.to_model().graph.initializer[1]
    assert held.raw_data == onnx.numpy_helper.from_array(values).raw_data


def test_spill_folder_goes_with_the_last_graph(spilling: Graph) -> None:
    spilling.main.add_constant("new", np.ones(64, np.float32))
    path = spilling.spill.file(spilling.main.initializers["new"])
    assert path is not None
    assert path.parent.stat().st_mode & 0o077 == 0
    twin = spilling.copy()
    spilling.become(Graph(onnx.parser.parse_model(TEXT)))
    gc.collect()
    assert constant(twin.main, "new").values.sum() == 64
    del twin
    gc.collect()
    assert not path.parent.exists()


def test_a_model_cannot_name_a_spilled_file(spilling: Graph) -> None:
    spilling.main.add_constant("new", np.ones(64, np.float32))
    stolen = TensorProto()
    stolen.CopyFrom(spilling.main.initializers["new"])
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer[0].CopyFrom(stolen)
    with pytest.raises(ModelError, match="has no folder"):
        io.load(model)
    guessed = TensorProto(name="x", data_type=1, dims=[1])
    tensors.refer(guessed, "spilled:0", 0, 4)
    assert spilling.spill.file(guessed) is None


def test_full_temporary_disk(spilling: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", os.devnull)
    with pytest.raises(SystemFailure, match="set TMPDIR"):
        spilling.main.add_constant("new", np.ones(64, np.float32))


def test_small_models_stay_in_memory(model: ModelProto) -> None:
    graph = Graph(model)
    graph.main.add_constant("new", np.ones(1 << 20, np.float32))
    assert not tensors.is_external(graph.main.initializers["new"])


def test_unique_names(model: ModelProto) -> None:
    graph = Graph(model)
    assert [graph.unique_name("w") for _ in range(2)] == ["w_1", "w_2"]
    assert graph.unique_name("v") == "v_1"


def test_new_initializers_raise_the_ir_version_to_4() -> None:
    model = onnx.parser.parse_model(TEXT)
    model.ir_version = 3
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [4, 4]))
    model.graph.node[1].attribute[0].g.ClearField("initializer")
    model.graph.node[1].attribute[0].g.node[0].input[1] = "w"
    graph = Graph(model)
    assert check.problems(graph) == []
    inner = body(graph, "then_branch")
    inner.set_input(inner.nodes[0], 1, inner.add_constant("k", np.ones(4, np.float32)))
    assert graph.header.ir_version == 4
    assert graph.main.inputs == ["x", "c", "w"]
    assert [value.name for value in graph.required_inputs] == ["x", "c"]
    assert check.problems(graph) == []
    graph.main.drop_initializer("w")
    assert graph.main.inputs == ["x", "c"]
