import pytest
from onnx import AttributeProto, helper

from graphopt.errors import ModelError
from graphopt.graph.node import attribute, in_default_domain, is_op, label


def test_the_default_domain_has_two_names() -> None:
    for domain, default in (("", True), ("ai.onnx", True), ("com.microsoft", False)):
        node = helper.make_node("Gelu", ["x"], ["y"], domain=domain)
        assert in_default_domain(node) is default
        assert is_op(node, "Relu", "Gelu") is default
        assert not is_op(node, "Relu")


def test_attributes_come_as_plain_values() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 2], auto_pad="VALID", group=3)
    assert attribute(node, "pads", []) == [1, 2]
    assert attribute(node, "auto_pad", "NOTSET") == "VALID"
    assert attribute(node, "group", 1) == 3
    assert attribute(node, "strides", [7]) == [7]


def test_a_reference_to_an_attribute_of_the_function_has_no_value() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    reference = node.attribute.add()
    reference.name, reference.ref_attr_name = "group", "groups"
    assert attribute(node, "group", 1) == 1


def test_a_label_is_the_name_or_the_type_and_first_output() -> None:
    assert label(helper.make_node("Relu", ["x"], ["y"], "act")) == "act"
    assert label(helper.make_node("Relu", ["x"], ["y"])) == "Relu(y)"


@pytest.mark.parametrize(
    ("value", "default", "kind"),
    [("4", 0, "string"), ([4], 0, "ints"), (4, [], "int"), (4, "", "int"), (1.5, 0, "float")],
)
def test_an_attribute_of_another_type_is_an_error_of_the_model(
    value: object, default: object, kind: str
) -> None:
    node = helper.make_node("MatMulNBits", ["x", "w"], ["y"], "n", domain="com.microsoft", K=value)
    with pytest.raises(
        ModelError, match=f"node 'n': attribute 'K' of MatMulNBits is of type {kind}"
    ):
        attribute(node, "K", default)
    assert attribute(node, "K", None) is not None


def test_an_attribute_without_a_type_is_an_error_of_the_model() -> None:
    node = helper.make_node("Own", ["x"], ["y"], domain="own")
    node.attribute.append(AttributeProto(name="k", i=1))
    with pytest.raises(ModelError, match="attribute 'k' of Own is of type undefined"):
        attribute(node, "k", None)
