from __future__ import annotations

import numpy as np
import onnx

from graphopt import optimize
from graphopt.graph import io
from graphopt.graph.sparse_tensors import make_sparse
from graphopt.passes.cleanup import Densify
from graphopt.rewrite.sparse import store_sparse
from graphopt.testing import apply_pass, model_from_text, run_model


def _sparse() -> onnx.ModelProto:
    """A sparse initializer, and a Constant node of the same values."""
    values = np.zeros((4, 6), np.float32)
    values[1, 2], values[3, 5] = 2, -1
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,4] x) => (float[N,6] y, float[4,6] z) {
          c = Constant <value = float {0}> ()  y = MatMul (x, w)  z = Exp (c)
        }""",
        {"w": values},
    )
    graph = io.load(model)
    store_sparse(graph.main, "w", values)
    model = graph.to_model()
    (attribute,) = model.graph.node[0].attribute
    attribute.Clear()
    attribute.name, attribute.type = "sparse_value", onnx.AttributeProto.SPARSE_TENSOR
    attribute.sparse_tensor.CopyFrom(make_sparse(graph, "c", values))
    return model


def test_sparse_initializers_and_constants_get_all_their_values() -> None:
    model = _sparse()
    graph, record = apply_pass(Densify(), model)
    assert record.status == "done"
    told = {change.node: change.what for change in record.changes}
    assert told == {
        "w": "stored dense: 96 bytes in place of 24",
        "c": "stored dense: 96 bytes in place of 24",
    }
    after = graph.to_model()
    assert not after.graph.sparse_initializer
    assert [each.name for each in after.graph.node[0].attribute] == ["value"]
    onnx.checker.check_model(after, full_check=True)
    expected = run_model(model)
    for name, values in run_model(after).items():
        np.testing.assert_array_equal(values, expected[name])


def test_a_dense_model_stays() -> None:
    graph, _ = apply_pass(Densify(), _sparse())
    _, record = apply_pass(Densify(), graph)
    assert (record.status, record.reason) == ("nothing to do", "no weight is stored sparse")


def test_a_file_with_sparse_weights_is_told_and_densify_named() -> None:
    told = "2 weights are stored sparse, which most runtimes but onnxruntime refuse; densify"
    left = optimize(_sparse(), "eliminate-dead", trial=False).report.messages
    assert [text for text in left if text.startswith(told)]
    dense = optimize(_sparse(), "densify", trial=False).report.messages
    assert not [text for text in dense if "sparse" in text]
