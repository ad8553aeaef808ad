"""Every weight is in the list of weights, under the operator that works with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphopt.contract.spec import parse_passes
from graphopt.facts import cost
from graphopt.facts.inventory import inventory
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.testing import MODELS, apply_passes, model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[a, b] y)'


def held(body: str, **values: NDArray[Any] | tuple[int, ...]) -> list[tuple[str, str, int, int]]:
    graph = Graph(model_from_text(f"{HEAD} {{{body}}}", values))
    return [(each.reader, each.stored, each.tensors, each.elements) for each in inventory(graph)]


def test_weights_are_listed_by_reader_and_type() -> None:
    found = held("a = Gemm(x, w, b) y = Add(a, v)", w=(4, 6), b=(6,), v=(1, 6))
    assert found == [("Gemm", "float", 2, 30), ("Add", "float", 1, 6)]


def test_codes_belong_to_the_layer_and_their_factors_are_no_weights() -> None:
    found = held(
        "c = Cast <to = 1> (q) m = Mul(c, s) t = Transpose(m) y = MatMul(x, t)",
        q=np.ones((6, 4), np.int8),
        s=np.ones((6, 1), np.float32),
    )
    assert sorted(found) == [("MatMul", "int8", 1, 24)]


def test_a_weight_of_two_operators_and_one_that_nothing_reads() -> None:
    found = held("a = MatMul(x, w) y = Add(a, w)", w=(4, 4), u=(2, 3))
    assert found == [("Add and MatMul", "float", 1, 16), ("nothing", "float", 1, 6)]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_sum_is_the_number_of_parameters(name: str) -> None:
    graph = io.load(MODELS[name]())
    assert sum(each.elements for each in inventory(graph)) == cost.params(graph)


def test_sparse_weights_are_marked() -> None:
    spec = "mask-weights{sparsity=0.9,storage=sparse,min_size=0}"
    graph, _ = apply_passes(parse_passes(spec), io.load(MODELS["mlp"]()))
    assert ("Gemm", "float, sparse") in [(each.reader, each.stored) for each in inventory(graph)]
