from __future__ import annotations

import numpy as np
import pytest
import torch

from graphopt.bridge import to_torch, write_back
from graphopt.errors import UsageError
from graphopt.graph import io
from graphopt.graph.lossless import differences
from graphopt.rewrite.sparse import store_sparse
from graphopt.testing import MODELS, model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


@pytest.mark.parametrize("name", sorted(MODELS))
def test_untouched_is_the_same_file(name: str) -> None:
    graph = io.load(MODELS[name]())
    before = io.whole(graph).SerializeToString()
    assert write_back(to_torch(graph), graph) == []
    assert io.whole(graph).SerializeToString() == before


def test_only_what_was_trained_changes() -> None:
    model = model_from_text(
        f"""{HEAD} net (float[N,4] x) => (float[N,2] y) {{
          h = MatMul (x, W1)
          B = Constant <value_floats = [1.0, 2.0, 3.0]> ()
          b = Add (h, B)
          y = MatMul (b, W2)
        }}""",
        {"W1": (4, 3), "W2": (3, 2)},
    )
    graph = io.load(model)
    module = to_torch(graph)
    weights = dict(module.weights())
    with torch.no_grad():
        weights["W1"].mul_(2)
        weights["B"].add_(1)
    assert write_back(module, graph) == ["W1", "B"]
    constant = graph.main.constant("B")
    assert constant is not None
    assert constant.values.tolist() == [2.0, 3.0, 4.0]
    after = graph.to_model()
    assert after.graph.initializer[1] == model.graph.initializer[1]
    assert len(differences(model, after)) == 3  # the attribute of B, lost and new, and W1
    np.testing.assert_array_equal(
        io.load(after).main.constant("W1").values,  # type: ignore[union-attr]
        2 * io.load(model).main.constant("W1").values,  # type: ignore[union-attr]
    )


def test_statistics_go_back_after_batch_statistics_only() -> None:
    parts = dict.fromkeys(("scale", "shift", "mean", "variance"), (3,))
    model = model_from_text(
        f"""{HEAD} net (float[N,3] x) => (float[N,3] y) {{
          y = BatchNormalization (x, scale, shift, mean, variance)
        }}""",
        parts,
    )
    graph = io.load(model)
    for mode, changed in (("frozen", []), ("batch", ["mean", "variance"])):
        module = to_torch(graph, batch_norm=mode).train()  # type: ignore[arg-type]
        module({"x": torch.randn(6, 3)})
        assert write_back(module, graph) == changed


def test_half_precision_stays_half() -> None:
    model = model_from_text(
        f"{HEAD} net (float16[N,2] x) => (float16[N,2] y) {{ y = MatMul (x, W) }}",
        {"W": np.eye(2, dtype=np.float16)},
    )
    graph = io.load(model)
    module = to_torch(graph).float()
    assert write_back(module, graph) == []
    with torch.no_grad():
        next(module.parameters()).mul_(3)
    assert write_back(module, graph) == ["W"]
    constant = graph.main.constant("W")
    assert constant is not None
    assert constant.values.dtype == np.float16


def test_another_graph_is_refused() -> None:
    models = [
        io.load(
            model_from_text(
                f"{HEAD} net (float[N,2] x) => (float[N,K] y) {{ y = MatMul (x, W) }}",
                {"W": (2, columns)},
            )
        )
        for columns in (2, 3)
    ]
    with pytest.raises(UsageError, match=r"constant 'W' of shape \(2, 2\) is not in the graph"):
        write_back(to_torch(models[0]), models[1])


def test_sparse_weights_are_trained_and_stored_sparse_again() -> None:
    values = np.zeros((8, 6), np.float32)
    values[1, 2], values[3, 5] = 2, -1
    model = model_from_text(
        f"{HEAD} net (float[N,8] x) => (float[N,6] y) {{ y = MatMul (x, w) }}", {"w": values}
    )
    graph = io.load(model)
    store_sparse(graph.main, "w", values)
    module = to_torch(graph)
    with torch.no_grad():
        dict(module.weights())["w"].mul_(2)
    assert write_back(module, graph) == ["w"]
    assert graph.main.sparse("w") is not None
    constant = graph.main.constant("w")
    assert constant is not None
    np.testing.assert_array_equal(constant.values, 2 * values)
