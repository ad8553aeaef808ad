"""Cutting and joining parts into feeds, against plain slicing of all rows."""

from __future__ import annotations

import numpy as np
import onnx.parser
from hypothesis import given
from hypothesis import strategies as st

from graphopt.data import open_data
from graphopt.graph.graph import Graph


def graph_of(first_axis: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[{first_axis}, 2] x) => (float[{first_axis}, 2] y) {{ y = Identity(x) }}"""
    return Graph(onnx.parser.parse_model(text))


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    batch=st.integers(1, 9),
    limit=st.none() | st.integers(0, 50),
    fixed=st.booleans(),
)
def test_every_sample_comes_once_and_in_order(
    sizes: list[int], batch: int, limit: int | None, fixed: bool
) -> None:
    rows = np.arange(2 * sum(sizes), dtype=np.float32).reshape(-1, 2)
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    samples = open_data(lambda: iter(parts), graph_of(str(batch) if fixed else "N"))
    found = list(samples.feeds(1 if fixed else batch, limit))
    wanted = rows if limit is None else rows[:limit]
    read = [feeds["x"][:real] for feeds, real in found]
    assert np.array_equal(np.concatenate([rows[:0], *read]), wanted)
    assert [real for _, real in found[:-1]] == [batch] * (len(found) - 1)
    if fixed:
        assert {feeds["x"].shape[0] for feeds, _ in found} <= {batch}
    else:
        assert all(len(feeds["x"]) == real for feeds, real in found)


def test_what_is_not_asked_for_is_not_read() -> None:
    asked = 0

    def feeds() -> object:
        nonlocal asked
        for _ in range(10):
            asked += 1
            yield np.zeros(2, np.float32)

    samples = open_data(feeds, graph_of("N"))
    asked = 0
    assert len(list(samples.feeds(limit=3))) == 3
    assert asked == 3
