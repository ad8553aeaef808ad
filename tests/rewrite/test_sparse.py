from __future__ import annotations

import numpy as np

from graphopt.graph import check, io
from graphopt.graph.sparse_tensors import sparse_bytes
from graphopt.rewrite.sparse import store_dense, store_sparse
from graphopt.testing import model_from_text, run_model


def test_a_sparse_initializer_gives_the_same_answers() -> None:
    values = np.zeros((4, 6), np.float32)
    values[1, 2], values[3, 5] = 2, -1
    graph = io.load(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 13]>
            g (float[N,4] x) => (float[N,6] y) { y = MatMul (x, w) }""",
            {"w": values},
        )
    )
    dense = run_model(graph.to_model())["y"]
    store_sparse(graph.main, "w", values)
    assert sparse_bytes(values) == 24
    assert not graph.main.initializers
    assert check.problems(graph) == []
    np.testing.assert_array_equal(run_model(graph.to_model())["y"], dense)
    constant = graph.main.constant("w")
    assert constant is not None
    store_dense(constant)
    assert not graph.main.proto.sparse_initializer
    np.testing.assert_array_equal(graph.read(graph.main.initializers["w"]), values)
