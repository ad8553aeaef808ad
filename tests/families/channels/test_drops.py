"""Branches that are constants once a group is gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGroup, channel_groups
from graphopt.facts.shapes import infer
from graphopt.families.channels.cuts import Cut, cut_out
from graphopt.families.channels.drops import branch_of
from graphopt.graph.graph import Graph
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
BRANCH = f"""{HEAD}
g (float[2,3,6,6] x) => (float[2,4,6,6] y) {{
  c0 = Conv <pads = [1, 1, 1, 1]> (x, W0)
  r0 = Relu (c0)
  c1 = Conv <pads = [1, 1, 1, 1]> (r0, W1)
  r1 = Relu (c1)
  c2 = Conv <pads = [1, 1, 1, 1]> (r1, W2, B2)
  TAIL
  r2 = Relu (s)
  y = Conv (r2, W3)
}}"""
SHAPES = {
    "W0": (8, 3, 3, 3),
    "W1": (6, 8, 3, 3),
    "W2": (8, 6, 3, 3),
    "B2": (8,),
    "W3": (4, 8, 1, 1),
}


def _model(tail: str, more: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    return model_from_text(BRANCH.replace("TAIL", tail), {**SHAPES, **(more or {})})


def _inner(graph: Graph) -> ChannelGroup:
    groups = channel_groups(graph, infer(graph)).groups
    return next(group for group in groups if ("W1", 0) in group.positions)


def _answer(graph: Graph) -> NDArray[Any]:
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    return np.asarray(Session(graph, threads=1).run({"x": x})["y"])


NORM = dict.fromkeys(("gamma", "beta", "mean"), (8,)) | {"var": np.ones(8, np.float32)}


@pytest.mark.parametrize(
    ("tail", "more"),
    [
        ("s = Add (c2, r0)", {}),
        ("s = Add (r0, c2)", {}),
        ("n = BatchNormalization (c2, gamma, beta, mean, var)  s = Add (n, r0)", NORM),
    ],
)
def test_what_is_left_of_a_branch_is_its_bias(tail: str, more: Mapping[str, Any]) -> None:
    graph = Graph(_model(tail, more))
    shapes = infer(graph)
    silent = graph.copy()
    weight = silent.main.constant("W2")
    assert weight is not None
    weight.set(np.zeros_like(weight.values))
    group = _inner(graph)
    branch = branch_of(group, graph, shapes)
    assert branch is not None
    stream = next(g for g in channel_groups(graph, shapes).groups if ("W0", 0) in g.positions)
    cuts = [Cut(group, tuple(range(6)), branch)]
    whole = graph.copy()
    cut_out(whole, shapes, cuts, {})
    np.testing.assert_allclose(_answer(whole), _answer(silent), rtol=1e-5, atol=1e-5)
    assert [node.op_type for node in whole.main.nodes] == ["Conv", "Relu", "Add", "Relu", "Conv"]
    narrow = graph.copy()
    kept = cut_out(narrow, shapes, [*cuts, Cut(stream, (1, 4))], {})
    assert kept["r2", 1].tolist() == [0, 2, 3, 5, 6, 7]
    assert _answer(narrow).shape == (2, 4, 6, 6)


@pytest.mark.parametrize(
    "tail", ["s = Mul (c2, r0)", "s = Add (c2, c2)", "u = Relu (c2)  s = Add (u, c2)"]
)
def test_other_ends_are_no_branches(tail: str) -> None:
    graph = Graph(_model(tail))
    assert branch_of(_inner(graph), graph, infer(graph)) is None
