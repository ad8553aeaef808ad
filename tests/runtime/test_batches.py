from __future__ import annotations

import numpy as np
import pytest

from graphopt.data import open_data
from graphopt.graph.graph import Graph
from graphopt.runtime.batches import largest_batch
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

ROWS = {"x": np.zeros((5, 4), np.float32)}
HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
FREE = f"{HEADER} test (float[N, 4] x) => (float[N, 4] y) {{ y = Relu(x) }}"
FIXED_INSIDE = f"""{HEADER} test (float[N, 4] x) => (float[1, 4] y)
    <int64[2] shape = {{1, 4}}> {{ y = Reshape(x, shape) }}"""


@pytest.mark.parametrize(("text", "expected"), [(FREE, 3), (FIXED_INSIDE, 1)])
def test_a_batch_is_taken_only_where_the_model_runs_on_it(text: str, expected: int) -> None:
    graph = Graph(model_from_text(text))
    assert largest_batch(Session(graph), open_data(ROWS, graph), 3) == expected
