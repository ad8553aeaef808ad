"""Which layers hurt most: one at a time on integers, all others float."""

from __future__ import annotations

import numpy as np

from graphopt.data import open_data
from graphopt.graph import io
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.search.sensitivity import sensitive_layers
from graphopt.testing import model_from_text, staged

TEXT = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {
    [fine] a = Conv(x, w)
    r = Relu(a)
    b = Mul(r, outlier)
    [rough] c = Conv(b, v)
    s = Relu(c)
    [last] y = Conv(s, w)
}"""


def staged_of(text: str = TEXT) -> tuple[Stage, Means]:
    """``rough`` reads one channel that is 300 times as large as the others, and ignores it."""
    rng = np.random.default_rng(2)
    outlier = np.ones((1, 4, 1, 1), np.float32)
    outlier[0, 2] = 300
    v = rng.normal(size=(4, 4, 1, 1)).astype(np.float32)
    v[:, 2] = 1e-4
    w = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    graph = io.load(model_from_text(text, {"w": w, "v": v, "outlier": outlier}))
    samples = open_data({"x": rng.normal(size=(8, 4, 6, 6)).astype(np.float32)}, graph)
    return staged(graph, samples=samples, target="x86-avx2")


def test_the_layer_behind_an_outlier_comes_first() -> None:
    found = list(sensitive_layers(*staged_of()))
    assert found[0] == "rough"
    assert sorted(found) == ["fine", "last", "rough"]


def test_a_layer_that_stays_float_anyway_comes_last() -> None:
    computed = TEXT.replace(
        "[last] y = Conv(s, w)", "[last] t = ConvTranspose(s, w) y = Conv(t, v)"
    )
    found = list(sensitive_layers(*staged_of(computed)))
    assert found[0] == "rough"
    assert found[-1] == "last"


def test_names_that_look_like_patterns_mean_their_own_layer() -> None:
    stage, means = staged_of()
    odd = {"fine": "a[0]*", "rough": 'r, "o" \\u', "last": "?"}
    for node in stage.graph.main.nodes:
        node.name = odd.get(node.name, node.name)
    assert next(iter(sensitive_layers(stage, means))) == 'r, "o" \\u'
