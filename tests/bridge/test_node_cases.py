"""The node tests that onnx generates, against their reference outputs.

Counted are float and quantized cases of standard operators: no sequences, no text, no element types
that runtimes lack, none of the doubles in which onnx writes an operator as others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from graphopt.bridge import to_torch
from graphopt.bridge.tensors import from_torch, to_tensor
from graphopt.errors import GraphoptError
from graphopt.graph import io
from graphopt.graph.tensors import Array

COMMON = {
    *(TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT8, TensorProto.INT16),
    *(TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16),
    *(TensorProto.UINT32, TensorProto.UINT64),
}
QUANTIZED = ("uantize", "Integer", "QLinear")
RANDOM = "draws from another generator"
KNOWN = {
    "test_bernoulli_seed": RANDOM,
    "test_training_dropout": RANDOM,
    "test_training_dropout_default": RANDOM,
    "test_training_dropout_default_mask": RANDOM,
    "test_training_dropout_mask": RANDOM,
    "test_optional_get_element_tensor": "not in the bridge",
    **dict.fromkeys(
        (
            "test_tfidfvectorizer_tf_batch_onlybigrams_skip0",
            "test_tfidfvectorizer_tf_batch_onlybigrams_skip5",
            "test_tfidfvectorizer_tf_batch_uniandbigrams_skip5",
            "test_tfidfvectorizer_tf_only_bigrams_skip0",
            "test_tfidfvectorizer_tf_onlybigrams_levelempty",
            "test_tfidfvectorizer_tf_onlybigrams_skip5",
            "test_tfidfvectorizer_tf_uniandbigrams_skip5",
        ),
        "not in the bridge",
    ),
}
"""The cases that do not pass, with the reason."""
ROUNDING = 1e-6  # sums of another order, as an absolute difference of values near one


def cases() -> Iterator[TestCase]:
    """The cases that count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases are made with overflowing casts on purpose
        collected = collect_testcases(None)
    for case in collected:
        assert case.model is not None
        graph = case.model.graph
        declared = [value.type for value in (*graph.input, *graph.output)]
        kinds = {kind.WhichOneof("value") for kind in declared}
        types = {kind.tensor_type.elem_type for kind in declared}
        operator = graph.node[0].op_type
        floats = TensorProto.FLOAT in types or any(word in operator for word in QUANTIZED)
        if (
            kinds == {"tensor_type"}
            and types <= COMMON
            and floats
            and {node.domain for node in graph.node} == {""}
            and "_expanded" not in case.name
        ):
            yield case


def array(value: Any) -> Array:
    """A recorded value, whichever form the case has it in."""
    if isinstance(value, onnx.TensorProto):
        return np.asarray(onnx.numpy_helper.to_array(value))
    return np.asarray(value)


def wrong(case: TestCase) -> str:
    """What differs from the reference, in a first run and in one that reuses what shapes gave."""
    assert case.model is not None
    assert case.data_sets is not None
    inputs, outputs = case.data_sets[0]
    try:
        module = to_torch(io.load(case.model), trainable=[])
        feeds = {
            name: to_tensor(array(value))
            for name, value in zip(module.input_names, inputs, strict=True)
        }
        for found in (module(feeds), module(feeds)):
            for name, expected in zip(module.output_names, map(array, outputs), strict=True):
                value = from_torch(found[name])
                assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
                atol = max(case.atol, ROUNDING)
                np.testing.assert_allclose(value, expected, rtol=case.rtol, atol=atol)
    except (GraphoptError, AssertionError) as err:
        return str(err)
    return ""


@pytest.mark.slow
def test_node_cases_of_onnx() -> None:
    counted = list(cases())
    assert len(counted) > 800
    failures = {case.name: text for case in counted if (text := wrong(case))}
    assert {name: text for name, text in failures.items() if name not in KNOWN} == {}
    assert set(KNOWN) == set(failures)
    assert len(failures) <= 0.05 * len(counted)
