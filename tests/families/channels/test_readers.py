"""What is known of the layers that read a group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx

from graphopt.analysis.channels import channel_groups
from graphopt.data import SyntheticSamples
from graphopt.facts.layers import Layer, layers
from graphopt.facts.shapes import infer
from graphopt.families.channels.readers import layer_rows, readers_of
from graphopt.families.channels.unsolved import input_energies
from graphopt.graph.graph import Graph
from graphopt.numerics.elimination import Reader, eliminate
from graphopt.observe.observer import Observer
from graphopt.observe.request import Answers, Request
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text


def _readers(graph: Graph, count: int) -> dict[str, list[Reader]]:
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
    energies = input_energies(groups, known, shapes, observe, 4096)
    return {group.name: readers_of(group, known, shapes, energies) for group in groups}


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
    assert (readers[0].moments.shape, readers[0].weight.shape) == ((8, 8), (8, 24))


def test_each_group_of_a_transposed_conv_is_a_reader() -> None:
    graph = Graph(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[4,3,8,8] x) => (float[4,6,16,16] y) {
              c = Conv <pads = [1, 1, 1, 1]> (x, W1)
              y = ConvTranspose <strides = [2, 2], group = 2> (c, W2)
            }""",
            {"W1": (8, 3, 3, 3), "W2": (8, 3, 2, 2)},
        )
    )
    (readers,) = _readers(graph, 4).values()
    assert [reader.weight.shape for reader in readers] == [(4, 12), (4, 12)]
    assert [reader.moments.shape for reader in readers] == [(4, 4), (4, 4)]


def test_what_recurrent_layers_read_is_known_by_its_energy() -> None:
    graph = Graph(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[4,5,8] x) => (float[4,5,3] y) {
              c = MatMul (x, W1)
              h, last = LSTM <hidden_size = 6> (c, W2, R)
              s = Squeeze (h, one)
              y = MatMul (s, W3)
            }""",
            {"W1": (8, 8), "W2": (1, 24, 8), "R": (1, 24, 6), "W3": (6, 3), "one": np.array([1])},
        )
    )
    inputs, hidden = _readers(graph, 4).values()
    assert [reader.weight.shape for reader in inputs] == [(8, 24)]
    assert [reader.weight.shape for reader in hidden] == [(6, 24), (6, 3)]
    (x,) = _values(graph, 4, "c")
    energies = np.square(x.reshape(-1, 8), dtype=np.float64).mean(axis=0)
    np.testing.assert_allclose(inputs[0].moments, np.diag(energies), rtol=1e-4)
    assert not (hidden[0].moments - np.diag(np.diag(hidden[0].moments))).any()


def _values(graph: Graph, count: int, *names: str) -> list[np.ndarray]:
    """Tensors of a run on the same samples, one behind the other."""
    opened = graph.to_model()
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    session = Session(Graph(opened), threads=1)
    for feeds, real in SyntheticSamples(graph, count=count, seed=0).feeds():
        answers = session.run(feeds)
        for name in names:
            found[name].append(answers[name][:real])
    return [np.concatenate(found[name]) for name in names]
