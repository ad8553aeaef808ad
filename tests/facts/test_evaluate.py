from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from graphopt.facts.evaluate import NotEvaluated, can_evaluate, evaluate, moves_only


def _run(op_type: str, *inputs: Any, max_bytes: int = 1 << 20, **attributes: Any) -> Any:
    names = [f"i{index}" for index in range(len(inputs))]
    node = helper.make_node(op_type, names, ["o"], **attributes)
    return evaluate(node, dict(zip(names, inputs, strict=True)), 17, max_bytes)[0]


def test_computes_what_the_operator_says() -> None:
    np.testing.assert_array_equal(_run("Range", np.int64(1), np.int64(7), np.int64(3)), [1, 4])
    np.testing.assert_array_equal(_run("Transpose", np.eye(2, 3)), np.eye(3, 2))
    assert _run("Cast", np.ones(2, np.float32), to=10).dtype == np.float16
    np.testing.assert_array_equal(_run("NonZero", np.array([0, 3, 0, 5])), [[1, 3]])


def test_outputs_without_a_name_are_left_out() -> None:
    node = helper.make_node("Split", ["x", "s"], ["", "b"])
    found = evaluate(node, {"x": np.arange(4), "s": np.array([1, 3])}, 13, 1000)
    assert found[0] is None
    np.testing.assert_array_equal(found[1], [1, 2, 3])


@pytest.mark.parametrize(
    ("op_type", "inputs", "words"),
    [
        ("ConstantOfShape", [np.array([1 << 40])], "max_bytes leaves"),
        ("Add", [np.ones((1 << 10, 1)), np.ones((1, 1 << 10))], "max_bytes leaves"),
        ("Reshape", [np.ones(4), np.array([3])], "refuses it"),
        ("Add", [np.ones(2, np.float16), np.ones(2, np.float16)], "half precision"),
        ("Add", [np.ones(2), np.ones(3)], "refuses it"),
    ],
)
def test_refuses_with_a_phrase(op_type: str, inputs: list[Any], words: str) -> None:
    with pytest.raises(NotEvaluated, match=words):
        _run(op_type, *inputs)


def test_which_operators() -> None:
    def node(op_type: str, domain: str = "") -> Any:
        return helper.make_node(op_type, ["x"], ["y"], domain=domain)

    assert can_evaluate(node("Gather"))
    for op_type in ("RandomNormalLike", "DequantizeLinear", "Dropout", "If", "Conv"):
        assert not can_evaluate(node(op_type))
    assert not can_evaluate(node("Gather", "custom"))
    assert moves_only(node("Squeeze"))
    assert not moves_only(node("Add"))
