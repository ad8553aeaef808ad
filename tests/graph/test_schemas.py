"""Nodes that are not what their operator asks for, one fault a row."""

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from onnx import AttributeProto, ModelProto, NodeProto

from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.graph.schemas import misuse

LIST: dict[str, object] = {"type": AttributeProto.INTS, "ints": [1, 2]}


def softmax(**fields: object) -> NodeProto:
    """A Softmax whose axis has these fields instead."""
    node = onnx.helper.make_node("Softmax", ["x"], ["y"], name="s")
    given = {"name": "axis", "type": AttributeProto.INT, **fields}
    node.attribute.append(AttributeProto(**given))  # type: ignore[arg-type]  # odd on purpose
    return node


def conditional(branches: dict[str, Any]) -> NodeProto:
    return onnx.helper.make_node("If", ["c"], ["y"], name="if", **branches)


BODY = onnx.helper.make_graph([], "body", [], [])


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (softmax(**LIST), "node 's': attribute 'axis' is of type INTS, Softmax needs INT"),
        (softmax(type=AttributeProto.STRING, s=b"1"), "is of type STRING, Softmax needs INT"),
        (softmax(type=0, i=1), "attribute 'axis' is of type undefined, Softmax needs INT"),
        (softmax(i=1, f=1.0), "attribute 'axis' is of type INT and holds a value in 'f'"),
        (softmax(ints=[1]), "attribute 'axis' is of type INT and holds a value in 'ints'"),
        (softmax(name="axes", i=1), "node 's': Softmax has no attribute 'axes'"),
        (softmax(name="", i=1), "node 's': Softmax has no attribute ''"),
        (
            onnx.helper.make_node("Cast", ["x"], ["y"], name="c"),
            "node 'c' lacks attribute 'to', which Cast needs",
        ),
        (conditional({"then_branch": BODY}), "node 'if' lacks attribute 'else_branch'"),
        (
            conditional({"then_branch": BODY, "else_branch": 1}),
            "attribute 'else_branch' is of type INT, If needs GRAPH",
        ),
        (onnx.helper.make_node("", ["x"], ["y"], name="n"), "node 'n' has no operator"),
        (onnx.helper.make_node("Constant", [], ["y"], name="k"), "node 'k' has no value"),
        (onnx.helper.make_node("Add", ["x", ""], ["y"], name="a"), "input 1 of Add has no name"),
        (onnx.helper.make_node("Relu", ["x"], [""], name="r"), "output 0 of Relu has no name"),
        (
            onnx.helper.make_node("Relu", ["x", "x"], ["y"]),
            "has 2 inputs, Relu of opset 17 needs 1",
        ),
    ],
)
def test_faults(node: NodeProto, words: str) -> None:
    (fault,) = misuse(node, 17)
    assert words in fault


def test_an_operator_from_before_its_time_is_judged_by_its_newest_version() -> None:
    node = onnx.helper.make_node("LayerNormalization", ["x", "s"], ["y"], name="n", axis=1)
    assert list(misuse(node, 11)) == []  # onnxruntime has it from opset 1 on
    node.attribute[0].type = AttributeProto.FLOAT
    assert len(list(misuse(node, 11))) == 1


def test_an_attribute_that_comes_twice() -> None:
    node = softmax(i=1)
    node.attribute.append(node.attribute[0])
    assert set(misuse(node, 17)) == {"node 's' has attribute 'axis' twice"}


def test_a_body_without_a_graph() -> None:
    node = conditional({"then_branch": BODY})
    node.attribute.add(name="else_branch", type=AttributeProto.GRAPH)
    assert list(misuse(node, 17)) == ["node 'if': attribute 'else_branch' has no value"]


@pytest.mark.parametrize(
    "node",
    [
        softmax(i=1),
        softmax(),  # no value is 0
        softmax(name="__runtime", i=1),
        softmax(ref_attr_name="outer"),
        onnx.helper.make_node("Constant", [], ["y"], value_int=[1]),
        onnx.helper.make_node("Clip", ["x", "", "high"], ["y"]),
        onnx.helper.make_node("Softmax", ["x", "y"], ["z"], domain="own", axis="text"),
        onnx.helper.make_node("NoSuchOperator", [], []),
    ],
)
def test_what_onnxruntime_takes_or_nobody_knows_passes(node: NodeProto) -> None:
    assert list(misuse(node, 17)) == []


def pads_as_text(model: ModelProto) -> None:
    item = model.graph.node[0].attribute[0]
    item.type = AttributeProto.STRINGS
    item.strings.append(b"NOTSET")


def old_axis_as_list(model: ModelProto) -> None:
    model.graph.node[0].attribute[0].type = AttributeProto.INTS
    model.graph.node[0].op_type = "Softmax"
    model.graph.node[0].attribute[0].name = "axis"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (pads_as_text, "node 'p': attribute 'pads' is of type STRINGS, Pad needs INTS"),
        (old_axis_as_list, "node 'p': attribute 'axis' is of type INTS, Softmax needs INT"),
    ],
)
def test_loading_names_node_and_field(edit: Callable[[ModelProto], None], words: str) -> None:
    text = '<ir_version: 4, opset_import: ["": 9]> g (float[2] x) => (float[2] y)'
    model = onnx.parser.parse_model(text + " { [p] y = Pad <pads = [0, 0]> (x) }")
    io.load(model)
    edit(model)
    with pytest.raises(ModelError, match="not valid") as caught:
        io.load(model)
    assert words in str(caught.value)
