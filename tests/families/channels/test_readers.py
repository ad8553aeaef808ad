"""What is known of the layers that read a group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphopt.analysis.channels import channel_groups
from graphopt.data import SyntheticSamples
from graphopt.facts.layers import Layer, Refusal, layers
from graphopt.facts.shapes import infer
from graphopt.families.channels.readers import layer_rows, readers_of
from graphopt.graph.graph import Graph
from graphopt.numerics.elimination import Reader, eliminate
from graphopt.observe.observer import Observer
from graphopt.observe.request import Answers, Request
from graphopt.testing import model_from_text


def _readers(graph: Graph, count: int) -> dict[str, list[Reader] | Refusal]:
    """Of every group, by the name of the group, from random samples."""
    observer = Observer(graph, SyntheticSamples(graph, count=count, seed=0), threads=1)

    def observe(
        requests: Iterable[Request[Any]], graph: Graph | None = None, limit: int | None = None
    ) -> Answers:
        assert graph is None
        return observer.ask(requests, limit)

    shapes = infer(graph)
    known = layer_rows(
        (each for each in layers(graph) if isinstance(each, Layer)), shapes, observe, 4096
    )
    groups = channel_groups(graph, shapes).groups
    return {group.name: readers_of(group, known, shapes) for group in groups}


def test_rows_of_what_reads_a_mean_are_those_before_it() -> None:
    graph = Graph(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[4,3,8,8] x) => (float[4,5] y) {
              c = Conv (x, W1)
              r = Relu (c)
              p = GlobalAveragePool (r)
              f = Flatten (p)
              y = Gemm (f, W2, B2)
            }""",
            {"W1": (24, 3, 3, 3), "W2": (24, 5), "B2": (5,)},
        )
    )
    (readers,) = _readers(graph, 4).values()
    assert not isinstance(readers, Refusal)
    assert np.linalg.matrix_rank(readers[0].moments) == 24  # of 4 means it would be 3
    assert eliminate(readers).errors[12] > 0.02  # and of means nothing


def test_each_group_of_a_conv_is_a_reader() -> None:
    graph = Graph(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[4,3,8,8] x) => (float[4,6,6,6] y) {
              c = Conv <pads = [1, 1, 1, 1]> (x, W1)
              r = Relu (c)
              y = Conv <group = 2> (r, W2)
            }""",
            {"W1": (8, 3, 3, 3), "W2": (6, 4, 3, 3)},
        )
    )
    (readers,) = _readers(graph, 8).values()
    assert not isinstance(readers, Refusal)
    assert [reader.weight.shape for reader in readers] == [(36, 3), (36, 3)]
    assert all((reader.columns >= 0).any() for reader in readers)
    held = np.concatenate([reader.columns[reader.columns >= 0] for reader in readers])
    assert sorted(held.tolist()) == sorted([*range(36)] * 2)


def test_a_transposed_conv_reads_channels_at_each_position() -> None:
    graph = Graph(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[4,3,8,8] x) => (float[4,6,16,16] y) {
              c = Conv <pads = [1, 1, 1, 1]> (x, W1)
              y = ConvTranspose <strides = [2, 2]> (c, W2)
            }""",
            {"W1": (8, 3, 3, 3), "W2": (8, 6, 2, 2)},
        )
    )
    (readers,) = _readers(graph, 4).values()
    assert not isinstance(readers, Refusal)
    assert (readers[0].moments.shape, readers[0].weight.shape) == ((8, 8), (8, 24))


def test_a_group_that_no_known_layer_reads_is_refused() -> None:
    graph = Graph(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[4,5,8] x) => (float[4,1,5,6] y) {
              c = MatMul (x, W1)
              y, h = LSTM <hidden_size = 6> (c, W2, R)
            }""",
            {"W1": (8, 8), "W2": (1, 24, 8), "R": (1, 24, 6)},
        )
    )
    (found,) = _readers(graph, 4).values()
    assert isinstance(found, Refusal)
    assert found.reason == "what its LSTM reads is not known by rows"
