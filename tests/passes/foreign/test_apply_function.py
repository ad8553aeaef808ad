from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import ModelProto

import graphopt
from graphopt.contract.recipe import METADATA_KEY
from graphopt.errors import UsageError
from graphopt.extend import Foreign
from graphopt.run.record import PassRecord
from graphopt.testing import MODELS, model_from_text, run_model

SCRIPT = """
import onnx

def rename(model):
    for node in model.graph.node:
        node.op_type = {"Relu": "LeakyRelu"}.get(node.op_type, node.op_type)

def boom(model: onnx.ModelProto):
    raise ValueError("no such\\nlayer")

def leave(model):
    raise SystemExit(0)

def claim(model):
    assert not model

def mute(model):
    del model.graph.output[:]

def three(model):
    return 3

def of_numbers(number: int):
    return number

def growing(model):
    model.graph.input.add(name="more").CopyFrom(model.graph.input[0])
    model.graph.input[-1].name = "more"

def nothing(model):
    print("to stdout")
    return model

value = 3
"""


def small() -> ModelProto:
    return model_from_text(
        """<ir_version: 8, opset_import: ["" : 17], doc_string: "doc">
        g (float[N, 4] x) => (float[N, 4] probs, float[N, 4] aside) {
          h = MatMul (x, W)
          logits = Relu (h)
          [tail] probs = Softmax (logits)
          aside = Sin (x)
        }""",
        {"W": (4, 4)},
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "steps.py"
    path.write_text(SCRIPT)
    return path


def only(result: graphopt.Result) -> PassRecord:
    (record,) = result.report.passes
    return record


def optimized(script: Path, name: str, options: str = "") -> graphopt.Result:
    return graphopt.optimize(small(), f'apply-function{{function="{script}:{name}"{options}}}')


def test_a_function_of_a_file_edits_in_place(script: Path) -> None:
    result = optimized(script, "rename")
    record = only(result)
    assert record.status == "done"
    assert [(edit.node, edit.what) for edit in record.changes] == [
        ("nodes", "changed 1: 1 LeakyRelu")
    ]
    assert [node.op_type for node in result.model.graph.node][1] == "LeakyRelu"
    (recipe,) = (p.value for p in result.model.metadata_props if p.key == METADATA_KEY)
    assert 'name = "apply-function"' in recipe
    assert f'function = "{script}:rename"' in recipe


REFUSED = {
    "boom": "boom raised ValueError: no such layer",
    "leave": "leave raised SystemExit: 0",
    "claim": "claim raised AssertionError",
    "mute": "mute: the model is not valid: it has no outputs",
    "three": "three returned int, where one of onnx.ModelProto, onnx_graphsurgeon.Graph",
    "of_numbers": "of_numbers: its first parameter is <class 'int'>; it can be onnx.ModelProto",
    "growing": "growing makes a model with the new input 'more', for which there are no samples",
    "no_name": "has no function 'no_name'",
    "value": "has no function 'value'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_goes_wrong_is_a_refusal_in_a_line_and_the_run_goes_on(
    script: Path, name: str
) -> None:
    spec = f'apply-function{{function="{script}:{name}"}},eliminate-dead'
    result = graphopt.optimize(small(), spec)
    record, after = result.report.passes
    assert record.status == "refused"
    assert (
        f"{script}:{REFUSED[name].partition(' ')[0]}" in record.reason or "has no" in record.reason
    )
    assert REFUSED[name] in record.reason
    assert "\n" not in record.reason
    assert after.name == "eliminate-dead"
    assert result.model.graph.node == small().graph.node


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("", 'say what to apply: apply-function{function="file.py:name"}'),
        ("nowhere.py:f", "nowhere.py:f: there is no file nowhere.py"),
        ("no_such_module:f", "no_such_module cannot be imported: ModuleNotFoundError"),
        ("neither", "'neither' is not of the form file.py:name or module:name"),
    ],
)
def test_what_names_no_function(function: str, words: str) -> None:
    record = only(graphopt.optimize(small(), f'apply-function{{function="{function}"}}'))
    assert record.status == "refused"
    assert words in record.reason


def test_nothing_done_leaves_every_byte(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = optimized(script, "nothing")
    assert only(result).status == "nothing to do"
    assert only(result).reason == f"{script}:nothing changed nothing that the model computes"
    assert result.model == small()
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "to stdout\n")


def through_graphsurgeon(graph: gs.Graph) -> gs.Graph:
    return graph


def test_what_only_loses_is_not_taken() -> None:
    result = graphopt.optimize(small(), through_graphsurgeon)
    assert only(result).status == "nothing to do"
    assert result.model.doc_string == "doc"


def cut(graph: gs.Graph) -> None:
    (tail,) = (node for node in graph.nodes if node.op == "Softmax")
    graph.outputs[0] = tail.inputs[0]
    graph.cleanup()


def test_a_tail_is_cut_and_the_other_outputs_compared() -> None:
    result = graphopt.optimize(small(), [cut])
    record = only(result)
    assert record.status == "done"
    assert [(edit.node, edit.what) for edit in record.changes] == [
        ("nodes", "removed 1: 1 Softmax"),
        ("interface", "no longer has the output 'probs'"),
        ("interface", "has the new output 'logits'"),
        ("lost on the way", "doc strings of the model (1)"),
    ]
    model = result.model
    assert [value.name for value in model.graph.output] == ["logits", "aside"]
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    answers, before = run_model(model), run_model(small())
    powers = np.exp(answers["logits"])
    np.testing.assert_allclose(powers / powers.sum(-1, keepdims=True), before["probs"], 1e-5)
    assert result.report.quality is not None
    assert list(result.report.quality.sqnr_db) == ["aside"]
    assert "outputs no longer there, so not compared: 'probs'" in result.report.messages
    assert "new outputs, so not compared: 'logits'" in result.report.messages


def test_a_metric_takes_the_outputs_of_each_model_itself() -> None:
    samples = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
    labels = np.arange(16) % 4
    result = graphopt.optimize(small(), cut, evaluation={"x": samples, "labels": labels})
    assert result.report.quality is not None
    metric = result.report.quality.metric
    assert metric is not None
    assert metric.name == "top1"
    assert metric.before == metric.after


def without_aside(model: ModelProto) -> None:
    del model.graph.output[:]
    model.graph.output.add(name="h").type.CopyFrom(model.graph.input[0].type)


def test_a_limit_is_not_met_by_what_cannot_be_compared() -> None:
    result = graphopt.optimize(small(), without_aside, min_sqnr_db=20)
    assert only(result).status == "rolled back"
    assert only(result).reason == "min-sqnr asks 20 dB, and no output can be compared"
    assert not result.limits_met


def off_by(share: float) -> Callable[[ModelProto], ModelProto]:
    def step(model: ModelProto) -> ModelProto:
        (weight,) = model.graph.initializer
        values = onnx.numpy_helper.to_array(weight) * np.float32(1 + share)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return model

    return step


def test_limits_hold_for_a_step_of_ones_own() -> None:
    assert only(graphopt.optimize(small(), off_by(0.1))).status == "done"
    broken = graphopt.optimize(small(), off_by(0.1), min_sqnr_db=40)
    assert only(broken).status == "rolled back"
    assert broken.model.graph.initializer == small().graph.initializer
    lossless = graphopt.optimize(small(), Foreign(off_by(0.1), lossless=True))
    assert only(lossless).status == "rolled back"
    assert "lossless asks 90 dB" in only(lossless).reason
    assert only(graphopt.optimize(small(), Foreign(off_by(0), lossless=True))).changes == []
    dropping = only(graphopt.optimize(small(), Foreign(cut, lossless=True)))
    assert "drops the output 'probs', which is not lossless" in dropping.reason


def unknown(model: ModelProto) -> None:
    model.graph.node[1].op_type = "NoSuchOperator"


def in_a_sequence(model: ModelProto) -> None:
    """Give a list of tensors under the name of an output that was one."""
    model.graph.node[3].output[0] = "inner"
    model.graph.node.append(onnx.helper.make_node("SequenceConstruct", ["inner"], ["aside"]))
    listed = onnx.helper.make_tensor_sequence_value_info("aside", onnx.TensorProto.FLOAT, None)
    model.graph.output[1].CopyFrom(listed)


@pytest.mark.parametrize("step", [unknown, in_a_sequence])
def test_an_invalid_result_is_rolled_back(step: Callable[[ModelProto], ModelProto | None]) -> None:
    result = graphopt.optimize(small(), step)
    assert only(result).status == "rolled back"
    assert result.model.graph == small().graph


def of_ir(model: Any) -> Any:
    node = next(node for node in model.graph if node.op_type == "Relu")
    node.op_type = "Sigmoid"
    return model


def test_a_function_on_onnx_ir_that_loses_nothing() -> None:
    onnx_ir = pytest.importorskip("onnx_ir")
    of_ir.__annotations__["model"] = onnx_ir.Model
    record = only(graphopt.optimize(MODELS["cnn"](), of_ir))
    assert [(edit.node, edit.what) for edit in record.changes] == [
        ("nodes", "changed 1: 1 Sigmoid")
    ]


def other_form(model: ModelProto) -> gs.Graph:
    graph = gs.import_onnx(model)
    graph.nodes[1].op = "Sigmoid"
    return graph


def test_it_may_take_one_form_and_give_another() -> None:
    result = graphopt.optimize(small(), other_form)
    assert [node.op_type for node in result.model.graph.node][1] == "Sigmoid"
    assert only(result).changes[0].what == "changed 1: 1 Sigmoid"


def test_the_recipe_of_a_model_is_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\ndef f(model): pass\n"
    )
    recipe = f'[[passes]]\nname = "apply-function"\nfunction = "{trap}:f"\n'
    model = small()
    model.metadata_props.add(key=METADATA_KEY, value=recipe)
    graphopt.optimize(model)
    graphopt.inspect(model)
    graphopt.compare(model, model)
    assert not (tmp_path / "ran").exists()
    file = tmp_path / "by_hand.toml"
    file.write_text(recipe)
    graphopt.optimize(model, recipe_file=file, dry_run=True)
    assert not (tmp_path / "ran").exists()
    graphopt.optimize(model, recipe_file=file)
    assert (tmp_path / "ran").exists()


def test_a_callable_is_named_as_a_recipe_can_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Foreign(cut).function == f"{__name__}:cut"
    assert Foreign(cut) == Foreign(cut)
    assert Foreign(lambda model: model).function.endswith("<lambda>")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "run.py", raising=False)
    monkeypatch.setattr(cut, "__module__", "__main__")
    assert Foreign(cut).function == "run.py:cut"


def test_external_weights_stay_external(tmp_path: Path, script: Path) -> None:
    path = tmp_path / "in.onnx"
    onnx.save(small(), path, save_as_external_data=True, location="in.data", size_threshold=0)
    result = graphopt.optimize(path, f'apply-function{{function="{script}:rename"}}')
    assert only(result).status == "done"
    result.save(tmp_path / "out.onnx")
    written = onnx.load(tmp_path / "out.onnx", load_external_data=True)
    weight = onnx.numpy_helper.to_array(written.graph.initializer[0])
    np.testing.assert_array_equal(weight, onnx.numpy_helper.to_array(small().graph.initializer[0]))


def test_a_class_is_no_step() -> None:
    with pytest.raises(UsageError, match="is no pass; give spec text, passes such as"):
        graphopt.optimize(small(), [ModelProto])
