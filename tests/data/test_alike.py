"""Samples that are one and the same."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.data import open_data
from graphopt.data.alike import alike
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.testing import model_from_text


def _graph(batch: str) -> Graph:
    return io.load(
        model_from_text(
            f"""<ir_version: 8, opset_import: ["" : 13]>
            g (float[{batch},2] x) => (float[{batch},2] y) {{ y = Relu (x) }}"""
        )
    )


SAME = np.tile(np.array([[1, 2]], np.float32), (6, 1))
LAST = SAME.copy()
LAST[5, 1] = 3


@pytest.mark.parametrize("batch", ["N", "1", "2", "4"])
@pytest.mark.parametrize(("x", "expected"), [(SAME, True), (LAST, False), (SAME[:1], False)])
def test_samples_are_compared_one_by_one(batch: str, x: Array, expected: bool) -> None:
    graph = _graph(batch)
    assert alike(open_data({"x": x}, graph)) is expected
