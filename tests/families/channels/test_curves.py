"""What is measured of groups that get narrower, and how often."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.contract.passes import Context
from graphopt.families.answer_damage import AnswerDamage
from graphopt.families.channels import curves
from graphopt.graph.difference import first_difference
from graphopt.graph.graph import Graph
from graphopt.passes.prune import PruneChannels
from graphopt.testing import apply_pass, model_from_text


class _Watched(AnswerDamage):
    """Notes on how many samples answers are measured, and where edits begin."""

    samples: list[int]
    places: list[int]

    def __init__(self, graph: Graph, context: Context, samples: int) -> None:
        super().__init__(graph, context, samples)
        self.samples.append(samples)
        self.original = graph

    def of(self, graph: Graph) -> float:
        node = first_difference(self.original, graph)
        self.places.append(self.original.main.nodes.index(node) if node is not None else -1)
        return super().of(graph)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[_Watched]:
    monkeypatch.setattr(_Watched, "samples", [], raising=False)
    monkeypatch.setattr(_Watched, "places", [], raising=False)
    monkeypatch.setattr(curves, "AnswerDamage", _Watched)
    rng = np.random.default_rng(0)
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 8] x) => (float[N, 3] y) {
      a = Gemm (x, W1)  ra = Relu (a)  b = Gemm (ra, W2)  rb = Relu (b)  y = Gemm (rb, W3)
    }"""
    shapes = {"W1": (8, 16), "W2": (16, 16), "W3": (16, 3)}
    weights = {n: rng.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    apply_pass(PruneChannels(macs=0.6, round_to=1), model_from_text(text, weights))
    return _Watched


def test_groups_are_measured_from_front_to_back(watched: type[_Watched]) -> None:
    assert watched.places == [2, 2, 2, 4, 4, 4]


def test_all_samples_asked_for_are_taken_where_the_model_is_small(watched: type[_Watched]) -> None:
    assert watched.samples == [128]


@pytest.mark.parametrize(("most", "samples"), [(1, 16), (1728 * 40, 40)])
def test_large_models_are_measured_on_fewer(
    monkeypatch: pytest.MonkeyPatch, most: int, samples: int, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(curves, "_MOST_MACS", most)
    watched: type[_Watched] = request.getfixturevalue("watched")
    assert watched.samples == [samples]  # 8 * 16 + 16 * 16 + 16 * 3 MACs, 3 points of 2 groups
