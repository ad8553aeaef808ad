"""A preset run over its own output changes nothing, byte for byte.

Nothing is timed here: every candidate of ``auto`` is as fast as its kind says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.contract import presets
from graphopt.contract.spec import parse_passes
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run import verify
from graphopt.run.means import Means
from graphopt.run.sequence import run_passes
from graphopt.runtime.latency import SAME, Ratio, Timed, Times
from graphopt.search import planner, trials
from graphopt.search.candidate import Candidate
from graphopt.testing import MODELS, model_from_text, staged
from graphopt.testing.cell import same

LATENCIES = {"static": 0.5, "mixed": 0.6, "dynamic": 0.7, "smoothed": 0.7, "weights": 1.0}
HEAD = '<ir_version: 10, opset_import: ["" : 17]>'
ONES = np.ones(4, np.float32)
BN = {"w": (4, 3, 1, 1), "s": (4,), "v": ONES}
SCALARS = {n: np.array(v, np.float32) for n, v in {"k3": 3, "k0": 0, "k6": 6}.items()}
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "a buffer that a dead node reads": (
        "g (float[N,4] x) => (float[N,4] y) "
        "{ w = Reshape (flat, s)  d = Add (flat, flat)  y = MatMul (x, w) }",
        {"flat": (16,), "s": np.array([4, 4])},
    ),
    "a layer that a dead node reads": (
        "g (float[N,3,8,8] x) => (float[N,4,8,8] y) "
        "{ c = Conv (x, w)  d = Exp (c)  y = BatchNormalization (c, s, s, s, v) }",
        BN,
    ),
    "turned there and back between a layer and its norm": (
        """g (float[N,3,8,8] x) => (float[N,4,8,8] y) { c = Conv (x, w)
          t = Transpose <perm = [0, 2, 3, 1]> (c)  u = Transpose <perm = [0, 3, 1, 2]> (t)
          y = BatchNormalization (u, s, s, s, v) }""",
        BN,
    ),
    "an Einsum and its norm": (
        """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
          c = Einsum <equation = "bchw,oc->bohw"> (x, w)
          y = BatchNormalization (c, s, s, s, v) }""",
        {**BN, "w": (4, 3)},
    ),
    "a hard swish with a factor of one": (
        """g (float[N,4] x) => (float[N,4] y) { o = Mul (x, v)  a = Add (o, k3)
          c = Clip (a, k0, k6)  m = Mul (o, c)  d = Div (m, k6)  y = MatMul (d, w) }""",
        {"w": (4, 64), "v": np.ones((1, 4), np.float32), **SCALARS},
    ),
    "a branch of a constant condition": (
        """g (float[N,4] x) => (float[N,4] y) { k = Constant <value = bool {1}> ()
          y = If (k) <then_branch = a () => (float[N,4] t) { i = Identity (w)  t = MatMul (x, i) },
                      else_branch = b () => (float[N,4] t) { t = Mul (x, s) }> }""",
        {"w": (4, 4), "s": (4,)},
    ),
    "parameters of a body in one buffer": (
        """g (float[2,4] x) => (float[2,4] y) {
          n = Constant <value = int64 {2}> ()  k = Constant <value = bool {1}> ()
          p, q = Split (flat, sizes)  w = Reshape (q, s)
          y = Loop (n, k, x) <body = b (int64 i, bool go, float[2,4] h) => (bool on, float[2,4] t)
            { on = Identity (go)  u = Reshape (p, s)  z = MatMul (h, u)  t = MatMul (z, w) }> }""",
        {"flat": (32,), "sizes": np.array([16, 16]), "s": np.array([4, 4])},
    ),
    "shapes that only folding fixes": (
        """g (float[2,3,4] x) => (float[2,12] y) { s = Shape (x)
          i = Constant <value = int64 {0}> ()  b = Gather (s, i)
          u = Constant <value = int64[1] {0}> ()  m = Constant <value = int64[1] {-1}> ()
          c = Unsqueeze (b, u)  t = Concat <axis = 0> (c, m)  y = Reshape (x, t) }""",
        {},
    ),
    "a table that is the last layer as well": (
        """g (int64[N] i) => (float[N,64] y) {
          e = Gather (w, i)  t = Transpose <perm = [1, 0]> (w)  y = MatMul (e, t) }""",
        {"w": (64, 32)},
    ),
}
"""Models on which one pass of the clean-up uncovers something for another."""
ALL = [*MODELS, *WRITTEN]


def made(name: str) -> onnx.ModelProto:
    if name in MODELS:
        return MODELS[name]()
    text, weights = WRITTEN[name]
    return model_from_text(f"{HEAD} {text}", weights)


def once(graph: Graph, preset: str) -> Graph:
    """What a preset makes of a model, on samples that are the same each time."""
    stage, means = staged(graph, count=4, target="x86-vnni")
    spec = presets.find(preset)
    if spec is None:
        return planner.search(stage, means).stage.graph
    return run_passes(stage, means, parse_passes(spec))[0].graph


def untimed(base: Candidate, candidates: Sequence[Candidate], means: Means) -> list[Ratio]:
    return [Ratio(LATENCIES.get(each.kind, 1.0), 0.02) for each in candidates]


def all_alike(graphs: Sequence[Graph], *_: Any, **__: Any) -> tuple[list[Timed], int]:
    return [Timed(Times((1.0,)), SAME)] * len(graphs), 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("preset", presets.names())
def test_a_second_time_changes_nothing(
    preset: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "ratios", untimed)
    monkeypatch.setattr(verify, "side_by_side", all_alike)
    first = once(io.load(made(name)), preset).to_model()
    assert same(once(io.load(first), preset).to_model(), first)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_clean_up_finds_what_is_there(name: str) -> None:
    graph = once(io.load(made(name)), "clean")
    left = {node.op_type for scope in graph.scopes() for node in scope.nodes}
    assert not left & {"BatchNormalization", "Split", "Einsum", "If", "Shape", "Clip"}
