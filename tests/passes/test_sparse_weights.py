"""Weights that are stored sparse, under passes that change them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.contract.spec import parse_passes
from graphopt.facts import cost
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.testing import apply_passes, model_from_text, run_model

SIZE = 40


def network(zeros: float = 0.9) -> onnx.ModelProto:
    """Two MatMuls whose weights are mostly zero, stored sparse."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 40] x) => (float[N, 40] y) { a = MatMul(x, v) b = Relu(a) y = MatMul(b, w) }"""
    model = model_from_text(text, {"v": (SIZE, SIZE), "w": (SIZE, SIZE)})
    masking = f"mask-weights{{sparsity={zeros},storage=sparse}}"
    graph, records = apply_passes(parse_passes(masking), io.load(model))
    assert [record.status for record in records] == ["done"]
    assert not graph.main.initializers
    return graph.to_model()


def sparse(graph: Graph) -> list[str]:
    return sorted(each.values.name for each in graph.main.proto.sparse_initializer)


def test_a_second_run_changes_nothing() -> None:
    model = network()
    graph, records = apply_passes(
        parse_passes("mask-weights{sparsity=0.9,storage=sparse}"), io.load(model)
    )
    assert [record.status for record in records] == ["nothing to do"]
    assert graph.to_model() == model


def test_more_zeros_are_stored_sparse_again() -> None:
    graph, _ = apply_passes(parse_passes("mask-weights{sparsity=0.95}"), io.load(network()))
    assert sparse(graph) == ["v", "w"]
    assert cost.sparsity(graph) == pytest.approx(0.95)
    assert np.isfinite(run_model(graph)["y"]).all()


@pytest.mark.parametrize(
    ("spec", "codes"), [("quantize-weights", 2), ("quantize-dynamic", 2), ("quantize-static", 2)]
)
def test_codes_take_the_place_of_sparse_floats(spec: str, codes: int) -> None:
    graph, records = apply_passes(parse_passes(spec), io.load(network(0.7)))
    assert [record.status for record in records] == ["done"]
    assert sparse(graph) == []
    kinds = [graph.read(tensor).dtype for tensor in graph.main.initializers.values()]
    assert sum(kind == np.int8 for kind in kinds) >= codes
    assert records[0].sqnr_db is not None
    assert records[0].sqnr_db > 25


def test_what_takes_less_as_it_is_stays_sparse() -> None:
    model = network(0.97)
    graph, records = apply_passes(parse_passes("quantize-weights"), io.load(model))
    assert [record.status for record in records] == ["nothing to do"]
    assert "hardly anything to gain" in records[0].skipped[0].reason
    assert graph.to_model() == model


def test_a_sparse_initializer_that_is_listed_is_frozen() -> None:
    model = network()
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [SIZE, SIZE]))
    graph, _ = apply_passes(parse_passes("freeze-initializers"), io.load(model))
    assert graph.main.inputs == ["x"]
    assert sparse(graph) == ["v", "w"]
