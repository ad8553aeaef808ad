"""Nothing is lost on the way through: over the models that the onnx package ships and makes."""

import contextlib
import io as text_io
import warnings
from functools import cache
from pathlib import Path

import onnx
import onnx.backend.test
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx.backend.test.case import model as model_cases
from onnx.backend.test.case import node as node_cases

from graphopt.facts import shapes
from graphopt.graph import check, io
from graphopt.graph.lossless import differences

SHIPPED = Path(onnx.backend.test.__file__).parent / "data"


def shipped() -> list[Path]:
    return sorted(SHIPPED.rglob("*.onnx"))


@cache
def generated() -> list[tuple[str, ModelProto]]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(text_io.StringIO()):
        warnings.simplefilter("ignore")  # the package's cases overflow and divide by zero
        cases = [*node_cases.collect_testcases(None), *model_cases.collect_testcases()]
    return [(case.name, case.model) for case in cases if case.model is not None]


def assert_round_trip(name: str, model: ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    for given in (model, model.SerializeToString()):
        graph = io.load(given)
        assert differences(model, graph.to_model()) == [], name
        assert graph.copy().to_model().SerializeToString(deterministic=True) == before, name
    assert model.SerializeToString(deterministic=True) == before, name
    assert check.problems(graph) == [], name
    assert isinstance(shapes.infer(graph), shapes.Shapes)


def test_shipped_models(tmp_path: Path) -> None:
    files = shipped()
    assert len(files) >= 100
    out = tmp_path / "out.onnx"
    for path in files:
        model = onnx.load(path)
        assert_round_trip(str(path), model)
        graph = io.load(path)
        assert differences(model, io.whole(graph)) == [], path
        io.save(graph, out)
        assert differences(model, onnx.load(out)) == [], path


@pytest.mark.slow
def test_generated_models() -> None:
    cases = generated()
    assert len(cases) >= 1000
    for name, model in cases:
        assert_round_trip(name, model)


def exotic() -> ModelProto:
    """Everything that tools like to drop, in one model."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "custom" : 1], producer_name: "p",
            producer_version: "v", domain: "d", model_version: 3, doc_string: "model doc">
        main (float[N, 2] x, float[2, 2] w, bool c) => (float[N, 2] y, float[N, 2] u)
        <float[2, 2] w = {1, 2, 3, 4}> {
          [first] h = MatMul (x, w)
          [call] f = custom.twice (h)
          [branch] y = If (c) <
            then_branch = t () => (float[N, 2] a) { a = Add (f, w) },
            else_branch = e () => (float[N, 2] b) <float[2] v = {5, 6}> { b = Add (f, v) }
          >
          [odd] u = custom.Unknown <ints = [1, 2], text = "t", t = float[2] {1.5, -0.0}> (h, , x)
        }
        <domain: "custom", opset_import: ["" : 21]> twice (i) => (o) { o = Add (i, i) }"""
    )
    graph = model.graph
    graph.doc_string = "graph doc"
    helper.set_model_props(model, {"key": "value", "empty": ""})
    for holder in (graph, graph.node[0], graph.input[0], graph.initializer[0], model.functions[0]):
        holder.metadata_props.add(key="kept", value="yes")
    graph.node[0].doc_string = "node doc"
    graph.node[1].overload = ""
    graph.initializer[0].doc_string = "tensor doc"
    graph.quantization_annotation.add(tensor_name="h").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="w"
    )
    sparse = graph.sparse_initializer.add(dims=[3, 3])
    sparse.values.CopyFrom(helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.5]))
    sparse.indices.CopyFrom(helper.make_tensor("at", TensorProto.INT64, [1], [4]))
    for name in ("INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2FNUZ", "FLOAT4E2M1", "BFLOAT16"):
        kind = TensorProto.DataType.Value(name)
        graph.initializer.append(helper.make_tensor(f"odd_{name}", kind, [3], [1, 0, 1]))
    graph.initializer.add(
        name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"\xff\x00"]
    )
    graph.initializer.append(helper.make_tensor("none", TensorProto.FLOAT, [0, 4], []))
    training = model.training_info.add()
    training.algorithm.name = "step"
    training.algorithm.node.add(op_type="Identity", input=["x"], output=["z"])
    model.configuration.add(name="two", num_devices=2)
    graph.node[0].device_configurations.add(configuration_id="two", pipeline_stage=1)
    graph.value_info.add(name="h", doc_string="value doc").type.tensor_type.elem_type = 1
    return model


def test_what_tools_like_to_drop() -> None:
    assert_round_trip("exotic", exotic())


def test_values_of_narrow_types_can_be_read() -> None:
    graph = io.load(exotic())
    for name in ("INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT4E2M1", "BFLOAT16"):
        constant = graph.main.constant(f"odd_{name}")
        assert constant is not None
        assert constant.values.astype(float).tolist() == [1.0, 0.0, 1.0]


def test_fields_of_later_versions_are_kept() -> None:
    unknown = b"\xfa\x3f\x03new"  # field 1023, three bytes
    model = ModelProto.FromString(exotic().SerializeToString() + unknown)
    assert io.load(model).to_model().SerializeToString().count(unknown) == 1
    found = [str(each) for each in differences(model, exotic())]
    assert found == ["model: fields that this version of ONNX does not know"]


def test_each_difference_is_listed() -> None:
    changed = exotic()
    changed.producer_name = "q"
    changed.ClearField("doc_string")
    changed.graph.node[0].op_type = "Gemm"
    changed.graph.initializer[0].float_data[1] = -2
    changed.graph.input.add(name="new")
    del changed.graph.node[3]
    changed.metadata_props[0].value = "other"
    found = [str(each) for each in differences(exotic(), changed)]
    assert [text.split(": ")[0] for text in found] == [
        "model.producer_name",
        "model.doc_string",
        "model.graph.node['h'].op_type",
        "model.graph.node['u']",
        "model.graph.initializer['w'].float_data",
        "model.graph.input['new']",
        "model.metadata_props['key'].value",
    ]
    assert found[0] == "model.producer_name: 'p' became 'q'"
    assert found[1].startswith("model.doc_string: lost")
    assert found[5].startswith("model.graph.input['new']: added")


def test_order_and_presence_count() -> None:
    swapped = exotic()
    first, second = swapped.metadata_props[0].key, swapped.metadata_props[1].key
    swapped.metadata_props[0].key, swapped.metadata_props[1].key = second, first
    values = [entry.value for entry in swapped.metadata_props]
    swapped.metadata_props[0].value, swapped.metadata_props[1].value = reversed(values)
    (found,) = differences(exotic(), swapped)
    assert str(found) == "model.metadata_props: the order changed"
    present = exotic()
    present.graph.node[2].domain = ""
    absent = exotic()
    absent.graph.node[2].ClearField("domain")
    (found,) = differences(present, absent)
    assert str(found) == "model.graph.node['y'].domain: lost ''"
    assert found.fields == ("graph", "node", "domain")


def test_negative_zero_and_nan() -> None:
    model, other = exotic(), exotic()
    model.graph.initializer[0].float_data[0] = float("nan")
    other.graph.initializer[0].float_data[0] = float("nan")
    assert differences(model, other) == []
    model.graph.initializer[0].float_data[0] = 0.0
    other.graph.initializer[0].float_data[0] = -0.0
    assert len(differences(model, other)) == 1
