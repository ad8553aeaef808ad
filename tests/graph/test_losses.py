"""What a step did, in sentences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from graphopt.graph.losses import edits, losses

TEXT = """<ir_version: 10, opset_import: ["" : 21, "own" : 1], producer_name: "p",
    doc_string: "doc">
    g (float[N, 2] x, bool c) => (float[N, 2] y, float[N, 2] z)
    <float[2, 2] w = {1, 2, 3, 4}, float[N, 2] h> {
      [first] h = MatMul (x, w)
      [second] y = Relu (h)
      [branch] z = If (c) <
        then_branch = t () => (float[N, 2] a) { a = own.twice (h) },
        else_branch = e () => (float[N, 2] b) <float[2] v = {5, 6}> { b = Add (h, v) }
      >
    }
    <domain: "own", opset_import: ["" : 21]> twice (i) => (o) { o = Add (i, i) }"""


def rich() -> ModelProto:
    model = onnx.parser.parse_model(TEXT)
    model.graph.node[0].doc_string = "node doc"
    model.graph.input[0].doc_string = "input doc"
    for holder in (model.graph.node[0], model.graph.node[1], model.graph):
        holder.metadata_props.add(key="k", value="v")
    helper.set_model_props(model, {"author": "me", "date": "today"})
    return model


Change = Callable[[ModelProto], object]


def changed(*steps: Change) -> ModelProto:
    model = rich()
    for step in steps:
        step(model)
    return model


def test_equal_models_differ_in_nothing() -> None:
    assert edits(rich(), rich()) == []
    assert losses(rich(), rich()) == []


EDITS: dict[str, tuple[Change, tuple[str, str]]] = {
    "op type": (
        lambda m: setattr(m.graph.node[1], "op_type", "Sigmoid"),
        ("nodes", "changed 1: 1 Sigmoid"),
    ),
    "input": (lambda m: m.graph.node[1].input.__setitem__(0, "x"), ("nodes", "changed 1: 1 Relu")),
    "attribute": (
        lambda m: m.graph.node[1].attribute.append(helper.make_attribute("alpha", 1.0)),
        ("nodes", "changed 1: 1 Relu"),
    ),
    "in a body": (
        lambda m: setattr(m.graph.node[2].attribute[1].g.node[0], "op_type", "Mul"),
        ("nodes", "changed 1: 1 Mul"),
    ),
    "weight": (
        lambda m: m.graph.initializer[0].float_data.__setitem__(0, -1),
        ("initializers", "changed 1: 4 elements"),
    ),
    "weight in a body": (
        lambda m: m.graph.node[2].attribute[1].g.initializer[0].float_data.__setitem__(0, 0),
        ("initializers", "changed 1: 2 elements"),
    ),
    "new input": (lambda m: m.graph.input.add(name="n"), ("interface", "has the new input 'n'")),
    "lost output": (
        lambda m: m.graph.output.pop(),
        ("interface", "no longer has the output 'z'"),
    ),
    "type": (
        lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 10),
        ("interface", "declares the output 'y' otherwise"),
    ),
    "opset": (
        lambda m: setattr(m.opset_import[0], "version", 22),
        ("operator set", "ai.onnx 21 became 22"),
    ),
    "function": (
        lambda m: setattr(m.functions[0].node[0], "op_type", "Mul"),
        ("functions", "changed 1: twice"),
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_is_told_and_is_no_loss(name: str) -> None:
    step, row = EDITS[name]
    model = changed(step)
    assert edits(rich(), model) == [row]
    assert losses(rich(), model) == []


def test_a_node_more_and_one_less() -> None:
    model = changed(lambda m: m.graph.node[1].output.__setitem__(0, "r"))
    model.graph.node.add(op_type="Identity", input=["r"], output=["y"])
    assert edits(rich(), model) == [
        ("nodes", "added 1: 1 Relu"),
        ("nodes", "changed 1: 1 Identity"),
    ]


def store_raw(model: ModelProto) -> None:
    values = np.array([[1, 2], [3, 4]], np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "w"))


HARMLESS: dict[str, Change] = {
    "values stored otherwise": store_raw,
    "domain spelt out": lambda m: setattr(m.graph.node[0], "domain", "ai.onnx"),
    "order of nodes": lambda m: m.graph.node.append(m.graph.node.pop(1)),
    "more metadata": lambda m: m.metadata_props.add(key="new", value="v"),
    "a declared type more": lambda m: m.graph.value_info.add(name="y"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_neither(name: str) -> None:
    model = changed(HARMLESS[name])
    assert edits(rich(), model) == []
    assert losses(rich(), model) == []


LOSSES: dict[str, tuple[Change, str]] = {
    "model doc": (lambda m: m.ClearField("doc_string"), "doc strings of the model (1)"),
    "node doc": (lambda m: m.graph.node[0].ClearField("doc_string"), "doc strings of nodes (1)"),
    "input doc": (
        lambda m: setattr(m.graph.input[0], "doc_string", ""),
        "doc strings of inputs (1)",
    ),
    "node metadata": (
        lambda m: [node.ClearField("metadata_props") for node in m.graph.node],
        "metadata entries of nodes (2)",
    ),
    "one of two": (lambda m: m.metadata_props.pop(), "metadata entries of the model (1)"),
    "all": (lambda m: m.ClearField("metadata_props"), "metadata entries of the model (2)"),
    "another value": (
        lambda m: setattr(m.metadata_props[0], "value", "you"),
        "metadata entries of the model (1)",
    ),
    "node names": (lambda m: [n.ClearField("name") for n in m.graph.node], "names of nodes (3)"),
    "graph name": (lambda m: setattr(m.graph, "name", "other"), "names of the graph (1)"),
    "types": (lambda m: m.graph.ClearField("value_info"), "declared types of tensors (1)"),
    "producer": (lambda m: setattr(m, "producer_name", "q"), "the producer_name 'p', now 'q'"),
    "no producer": (lambda m: m.ClearField("producer_name"), "the producer_name 'p', now gone"),
    "ir": (lambda m: setattr(m, "ir_version", 8), "the ir_version 10, now 8"),
    "function": (lambda m: m.ClearField("functions"), "functions (1)"),
    "order": (lambda m: m.graph.output.append(m.graph.output.pop(0)), "the order of the outputs"),
    "dimension": (
        lambda m: m.graph.output[0].type.tensor_type.shape.dim[0].Clear(),
        "declared dimensions or types of inputs and outputs (1)",
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_told_with_its_count_and_is_no_edit(name: str) -> None:
    step, words = LOSSES[name]
    model = changed(step)
    assert losses(rich(), model) == [words]
    assert edits(rich(), model) == []


def test_what_goes_with_its_node_is_not_lost() -> None:
    model = changed(lambda m: m.graph.node.pop(0), lambda m: m.graph.ClearField("value_info"))
    assert losses(rich(), model) == []
    assert edits(rich(), model) == [("nodes", "removed 1: 1 MatMul")]
