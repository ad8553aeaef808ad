"""Costs by widths, held against the graph that is really cut."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.analysis.channels import channel_groups
from graphopt.facts.cost import params
from graphopt.facts.macs import count_macs
from graphopt.facts.shapes import infer
from graphopt.families.channels.costs import ChannelCosts, TimeTable, mac_terms, size_terms
from graphopt.graph.graph import Graph
from graphopt.rewrite.remove_channels import remove_channels
from graphopt.testing import MODELS


def _sized(name: str) -> Graph:
    graph = Graph(MODELS[name]())
    for value in graph.main.proto.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = 2
    return graph


@pytest.mark.parametrize("name", ["cnn", "mlp", "fixed-batch", "constant-nodes"])
def test_costs_are_those_of_the_cut_graph(name: str) -> None:
    graph = _sized(name)
    shapes = infer(graph)
    channels = channel_groups(graph, shapes)
    groups = channels.groups
    assert groups
    by_macs = ChannelCosts(mac_terms(graph, shapes), groups)
    by_params = ChannelCosts(size_terms(graph, in_bytes=False), groups)
    whole = [group.size for group in groups]
    assert by_macs(whole) == count_macs(graph, shapes).total
    assert by_params(whole) == params(graph)
    widths = [group.size - max(1, group.size // 3) for group in groups]
    gone = {group: range(group.size - w) for group, w in zip(groups, widths, strict=True)}
    remove_channels(graph, shapes, channels.gone(gone))
    assert by_macs(widths) == pytest.approx(count_macs(graph, infer(graph)).total, rel=1e-9)
    assert by_params(widths) == pytest.approx(params(graph), rel=1e-9)


def test_tables_are_read_between_their_widths() -> None:
    table = TimeTable(
        (("x", 1), ("y", 1)),
        (np.array([0.0, 4.0, 8.0]), np.array([10.0])),
        np.array([[0.0], [3.0], [4.0]]),
    )
    assert [table.at(length, 10) for length in (0, 2, 4, 6, 8)] == [0, 1.5, 3, 3.5, 4]
