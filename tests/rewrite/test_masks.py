from __future__ import annotations

import numpy as np
import pytest

from graphopt.graph.graph import Graph
from graphopt.rewrite.masks import bound_masks
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

LOWEST = np.array(np.finfo(np.float32).min)


def masked(end: str, mask: float = float(LOWEST)) -> Graph:
    return Graph(
        model_from_text(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            g (float[2,4] x, bool[2,4] seen) => (float[2,4] y) {{
                m = Where(seen, zero, low)  s = Add(x, m)  {end}
            }}""",
            {"zero": np.array(0, np.float32), "low": np.array(mask, np.float32)},
        )
    )


@pytest.mark.parametrize("mask", [float(LOWEST), -np.inf, -1e9])
def test_a_mask_of_a_softmax_is_brought_into_the_range(mask: float) -> None:
    graph = masked("y = Softmax(s)", mask)
    feeds = {
        "x": np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32),
        "seen": np.array([[1, 1, 0, 1], [0, 1, 0, 0]], bool),
    }
    before = Session(graph, threads=1).run(feeds)["y"]
    ((name, told),) = bound_masks(graph, 65504.0, -8188.0)
    assert (name, told) == ("low", "masks with -8188: it lay beyond the range")
    assert graph.main.constant("low").values == np.float32(-8188)  # type: ignore[union-attr]
    np.testing.assert_array_equal(Session(graph, threads=1).run(feeds)["y"], before)


@pytest.mark.parametrize(
    ("end", "mask"),
    [
        ("y = Identity(s)", float(LOWEST)),  # no Softmax
        ("p = Softmax(s)  y = Add(p, m)", float(LOWEST)),  # somebody else sees it
        ("y = Softmax(s)", 1e9),  # it does not mask
        ("y = Softmax(s)", -1e4),  # it lies within the range
        ("q = ReduceSum<keepdims=1>(s)  r = Add(q, s)  y = Softmax(r)", float(LOWEST)),
    ],
)
def test_other_constants_stay(end: str, mask: float) -> None:
    graph = masked(end, mask)
    assert bound_masks(graph, 65504.0, -8188.0) == []
    assert graph.main.constant("low").values == np.float32(mask)  # type: ignore[union-attr]
