from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
from onnx import parser

from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run import layer_figures as layers
from graphopt.runtime.session import Session

FLOAT = """
<ir_version: 8, opset_import: ["": 17]>
main (float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] z)
<float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] ones = {1, 1}, float[2] zeros = {0, 0},
 float[2, 2, 1, 1] v = {1, 0, 0, 1}> {
  [first] y = Conv (x, w)
  [norm] n = BatchNormalization (y, ones, zeros, zeros, ones)
  [act] r = Relu (n)
  [second] z = Conv (r, v)
}
"""

FUSED = """
<ir_version: 8, opset_import: ["": 17]>
main (float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] z)
<float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {0, 0}, float scale = {0.5},
 uint8 zero = {0}, int8[2, 2, 1, 1] v_quantized = {2, 0, 0, 2}, int8 none = {0}> {
  [first] n = Conv (x, w, b)
  [act] r = Relu (n)
  [q] r_quantized = QuantizeLinear (r, scale, zero)
  [dq] r_dequantized = DequantizeLinear (r_quantized, scale, zero)
  [dqv] v = DequantizeLinear (v_quantized, scale, none)
  [second] z = Conv (r_dequantized, v)
}
"""

SPLIT = """
<ir_version: 8, opset_import: ["": 17]>
main (float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] z)
<float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[1, 2, 1, 1] down = {1, 1},
 float[2, 1, 1, 1] up = {1, 1}> {
  [first] n = Conv (x, w)
  [act] r = Relu (n)
  [second_down] thin = Conv (r, down)
  [second_up] z = Conv (thin, up)
}
"""

X = {"x": np.linspace(-1, 1, 18, dtype=np.float32).reshape(1, 2, 3, 3)}


def graph(text: str) -> Graph:
    return io.load(parser.parse_model(text))


def names(found: list[layers.Match]) -> list[tuple[str, list[str], list[str]]]:
    return [
        (
            str(layer.node.name),
            sorted(str(node.name) for node in layer.before),
            sorted(str(node.name) for node in layer.after),
        )
        for layer in found
    ]


def test_a_layer_meets_its_successor_behind_what_was_merged_and_quantized() -> None:
    found = layers.match(graph(FLOAT), graph(FUSED))
    assert names(found) == [
        ("first", ["act", "first", "norm"], ["act", "first"]),
        ("second", ["second"], ["dq", "dqv", "q", "second"]),
    ]
    assert [(layer.tensor, layer.observed) for layer in found] == [
        ("r", "r_dequantized"),
        ("z", "z"),
    ]


def test_a_layer_that_became_two_counts_both() -> None:
    found = layers.match(graph(FLOAT), graph(SPLIT))
    assert names(found)[1] == ("second", ["second"], ["second_down", "second_up"])
    records, _ = layers.describe(graph(FLOAT), graph(SPLIT), [X])
    assert [(item.bytes_before, item.bytes_after) for item in records] == [(32, 16), (16, 16)]


def test_figures_of_an_untouched_model_are_equal_and_exact() -> None:
    records, notes = layers.describe(graph(FLOAT), graph(FLOAT), [X])
    assert notes == []
    assert [item.node for item in records] == ["first", "second"]
    assert all(item.bytes_before == item.bytes_after for item in records)
    assert all(item.sqnr_db == 300.0 for item in records)
    assert any(item.ms_before is not None for item in records)


def test_noise_is_that_of_the_rounded_tensor() -> None:
    records, _ = layers.describe(graph(FLOAT), graph(FUSED), [X])
    reference = np.einsum("oc,chw->ohw", [[1, 2], [3, 4]], X["x"][0])
    right = np.maximum(reference / np.sqrt(1 + 1e-5), 0)
    rounded = np.clip(np.round(np.maximum(reference, 0) / 0.5), 0, 255) * 0.5
    expected = 10 * np.log10((right**2).sum() / ((right - rounded) ** 2).sum())
    assert records[0].sqnr_db == pytest.approx(expected, abs=0.01)
    assert [(item.bytes_before, item.bytes_after) for item in records] == [(32, 24), (16, 10)]


def test_noise_is_that_of_the_channels_that_are_left() -> None:
    narrow = """
    <ir_version: 8, opset_import: ["": 17]>
    main (float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] z)
    <float[1, 2, 1, 1] w = {3, 4}, float[1] one = {1}, float[1] zero = {0},
     float[2, 1, 1, 1] v = {0, 1}> {
      y = Conv (x, w)
      n = BatchNormalization (y, one, zero, zero, one)
      r = Relu (n)
      z = Conv (r, v)
    }
    """
    left = {(name, 1): np.array([1]) for name in ("y", "n", "r")}
    records, _ = layers.describe(graph(FLOAT), graph(narrow), [X], kept=left)
    assert records[0].sqnr_db == 300.0, "the channel that is left is what it was"
    assert records[1].sqnr_db is not None and 0 < records[1].sqnr_db < 30
    blind, _ = layers.describe(graph(FLOAT), graph(narrow), [X])
    assert blind[0].sqnr_db == -300.0


def test_sessions_of_one_group_of_tensors_go_before_those_of_the_next_are_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_, most = WeakSet[Session](), list[int]()

    def opened(*given: Any, **named: Any) -> Session:
        session = Session(*given, **named)
        open_.add(session)
        most.append(len(open_))
        return session

    monkeypatch.setattr(layers, "Session", opened)
    records, notes = layers.describe(graph(FLOAT), graph(FUSED), [X], memory=1)
    assert notes == []
    assert most == [1, 2, 1, 2], "each tensor is a group of its own"
    together, _ = layers.describe(graph(FLOAT), graph(FUSED), [X])
    assert [each.sqnr_db for each in records] == [each.sqnr_db for each in together]


def test_a_layer_that_is_gone_keeps_its_bytes_before() -> None:
    gone = FLOAT.replace("[second] z = Conv (r, v)", "[same] z = Identity (r)")
    record = layers.describe(graph(FLOAT), graph(gone), [X])[0][1]
    assert (record.bytes_before, record.bytes_after) == (16, 0)


def test_embeddings_are_layers_and_lookups_of_shapes_are_not() -> None:
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    main (int64[3] ids, float[2, 5] t) => (float[3, 2] y, int64 n)
    <float[4, 2] table = {0, 1, 2, 3, 4, 5, 6, 7}, int64 one = {1}> {
      [embed] y = Gather (table, ids)
      s = Shape (t)
      n = Gather (s, one)
    }
    """
    feeds = {"ids": np.array([3, 0, 1]), "t": np.zeros((2, 5), np.float32)}
    records, notes = layers.describe(graph(text), graph(text), [feeds])
    assert notes == []
    assert [(item.node, item.bytes_before, item.sqnr_db) for item in records] == [
        ("embed", 32, 300.0)
    ]


def test_memory_is_bounded_by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_GROUP_BYTES", 1)
    whole, _ = layers.describe(graph(FLOAT), graph(FUSED), [X])
    assert [item.sqnr_db is None for item in whole] == [False, False]


def test_what_cannot_be_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ModelError("no profile here")

    monkeypatch.setattr(layers, "node_times", refuse)
    records, notes = layers.describe(graph(FLOAT), graph(FUSED), [X])
    assert notes == ["no times of single layers: no profile here"]
    assert records[0].ms_before is None
    assert records[0].sqnr_db is not None


def test_a_busy_moment_is_not_the_time_of_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Graph] = []

    def profile(graph: Graph, *_: object, **__: object) -> dict[str, float]:
        asked.append(graph)
        return {"first": 90.0 if len(asked) == 3 else 2.0, "second": 1.0}

    monkeypatch.setattr(layers, "node_times", profile)
    before, after = Graph(parser.parse_model(FLOAT)), Graph(parser.parse_model(FLOAT))
    records, _ = layers.describe(before, after, [X])
    assert [each.ms_before for each in records] == [2.0, 1.0]
    assert asked == [before, after] * 3  # in turns
