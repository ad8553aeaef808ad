"""A later pass that destroys zeros is told; one that keeps them is not."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.contract.spec import parse_passes
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.rewrite.sparse import store_sparse
from graphopt.testing import apply_passes, model_from_text

MASK = "mask-weights{sparsity=0.5,min_size=0}"
RANK = "factorize-matmul{rank=4,allow_slower=true}"


def network(share: float = 0.0) -> Graph:
    """Two MatMuls; of their weights a share is zero."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 32] x) => (float[N, 32] y) { a = MatMul(x, v) b = Relu(a) y = MatMul(b, w) }"""
    values = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    values[np.abs(values) < np.quantile(np.abs(values), share)] = 0
    return io.load(model_from_text(text, {"v": values[0], "w": values[1]}))


def notes(spec: str, share: float = 0.0) -> list[str]:
    _, records = apply_passes(parse_passes(spec), network(share))
    assert {record.status for record in records} == {"done"}
    return [record.note for record in records]


def test_zeros_that_an_earlier_pass_made() -> None:
    first, second = notes(f"{MASK},{RANK}")
    assert first == ""
    assert second.startswith("factorize-matmul destroyed zeros: 50.0 % of the weights were zero")
    assert second.endswith("put it in front of the pass that made them")


def test_zeros_that_the_model_came_with() -> None:
    assert notes(RANK, share=0.3)[0].endswith("the model came with them")


@pytest.mark.parametrize(
    "spec", [f"{RANK},{MASK}", f"{MASK},quantize-static", f"{MASK},quantize-weights", RANK]
)
def test_what_keeps_them_is_not_told(spec: str) -> None:
    assert set(notes(spec)) == {""}


def test_those_that_are_stored_sparse_count() -> None:
    graph = network(0.8)
    for name in ("v", "w"):
        constant = graph.main.constant(name)
        assert constant is not None
        store_sparse(graph.main, name, constant.values)
    _, records = apply_passes(parse_passes(RANK), graph)
    assert "80.0 % of the weights were zero before it" in records[0].note
