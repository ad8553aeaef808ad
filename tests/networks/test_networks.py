"""Networks of every kind, in both forms that torch writes: half of what can go is taken out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.analysis.channels import channel_groups
from graphopt.data import SyntheticSamples
from graphopt.facts.cost import params
from graphopt.facts.sized import single, sized
from graphopt.graph.graph import Graph
from graphopt.rewrite.remove_channels import remove_channels
from graphopt.runtime.session import Session
from graphopt.testing import zeroed
from tests.networks.stored import entries, read_graph
from tests.networks.table import folded, row

PAGE = Path(__file__).parents[2] / "docs" / "channels.md"
ROUNDING = 1e-5
"""Relative to the largest value; float32 sums in another order."""
LEAST = 0.4
"""Share of the parameters that can go; more is said for each network in the table."""


def answers(graph: Graph) -> dict[str, np.ndarray]:
    feeds = next(SyntheticSamples(graph, count=2, seed=0).feeds())[0]
    return Session(graph, threads=1).run(feeds)


@pytest.mark.parametrize("entry", entries())
def test_half_of_the_channels_go_and_the_rest_computes_as_before(entry: str) -> None:
    graph = folded(read_graph(entry))
    run = sized(graph, single(graph))
    found = channel_groups(graph, run.shapes)
    assert row(entry, graph, found) in PAGE.read_text(encoding="utf-8")
    assert found.share.params >= LEAST * found.whole.params
    rng = np.random.default_rng(0)
    removed = {
        group: rng.choice(group.size, group.size // 2, replace=False).tolist()
        for group in found.groups
    }
    gone = found.gone(removed)
    before, expected = answers(graph), answers(zeroed(graph, run.shapes, gone))
    pruned = graph.copy()
    remove_channels(pruned, run.shapes, gone)
    onnx.checker.check_model(pruned.to_model(), full_check=True)
    changes = False
    for name, values in answers(pruned).items():
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=ROUNDING * largest)
        changes |= not np.allclose(values, before[name], rtol=0, atol=1e-3 * largest)
    assert changes
    expects = found.amount(removed)
    assert params(graph) - params(pruned) == expects.params > 0
    after = sized(pruned, single(pruned)).macs.total
    if run.macs.total is not None and after is not None and expects.macs is not None:
        assert run.macs.total - after == pytest.approx(expects.macs, rel=0.02)
        assert after < 0.8 * run.macs.total
