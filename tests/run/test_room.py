from __future__ import annotations

import numpy as np
import pytest

from graphopt.graph.graph import Graph
from graphopt.run.room import room_beside
from graphopt.testing import model_from_text

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, w) }
"""


def graph_of(megabytes: int) -> Graph:
    return Graph(model_from_text(TEXT, {"w": np.zeros((megabytes << 16, 4), np.float32)}))


@pytest.mark.parametrize(
    ("megabytes", "macs", "limit", "room"),
    [
        (1, 40_000_000, None, True),
        (130, 40_000_000, None, False),  # twice 130 MB are more than 256
        (1, 20_000_000_000, None, False),
        (1, None, None, False),
        (1, 40_000_000, 1 << 30, False),
    ],
)
def test_a_second_session_is_held_where_memory_allows(
    megabytes: int, macs: int | None, limit: int | None, room: bool
) -> None:
    assert room_beside([graph_of(megabytes)] * 2, macs, limit) is room
