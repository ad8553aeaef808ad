"""Sampled rows against what onnxruntime makes of them, and against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.facts.layers import Layer, layer
from graphopt.graph.graph import Graph
from graphopt.numerics.im2col import AutoPad, Window
from graphopt.observe.request import Request, Rows
from graphopt.observe.rows import RowMoments, SampledRows
from graphopt.observe.run import observe
from graphopt.observe.walk import Walk
from graphopt.testing import model_from_text
from tests.observe.stub import Stub


def graph_of(body: str, ports: str, **weights: Any) -> Graph:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g {ports} {{ {body} }}'
    return Graph(model_from_text(text, weights))


def layer_of(graph: Graph) -> Layer:
    """The layer that gives y."""
    node = graph.main.producer("y")
    assert node is not None
    found = layer(graph.main, node)
    assert isinstance(found, Layer)
    return found


def samples_of(*shapes: Sequence[int], real: int | None = None) -> Stub:
    rng = np.random.default_rng(7)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    last = len(arrays) - 1
    rows = [len(x) if real is None or i < last else real for i, x in enumerate(arrays)]
    return Stub([({"x": x}, count) for x, count in zip(arrays, rows, strict=True)])


def asked(graph: Graph, samples: Stub, *requests: Request[Any]) -> list[Any]:
    answers = observe(graph, requests, samples, threads=1)
    return [answers[request] for request in requests]


MATMUL = graph_of("y = MatMul(x, W)", "(float[N, T, 3] x) => (float[N, T, 2] y)", W=np.eye(3, 2))


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int, Window, tuple[int, ...]]:
    """Groups, channels of a group, a window, and sizes that it fits into."""
    rank = draw(st.integers(1, 2))
    few = st.integers(1, 3)
    kernel = tuple(draw(st.lists(few, min_size=rank, max_size=rank)))
    strides = tuple(draw(st.lists(few, min_size=rank, max_size=rank)))
    auto: AutoPad = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    pads = st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank)
    sizes = tuple(draw(st.lists(st.integers(3, 9), min_size=rank, max_size=rank)))
    dilations = tuple(draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank)))
    plain = auto == "NOTSET"
    window = Window(
        kernel, strides, tuple(draw(pads)) if plain else (), dilations if plain else (), auto
    )
    assume(all(window.positions(sizes)))
    return draw(few), draw(few), window, sizes


@settings(deadline=None, max_examples=40)
@given(windows(), st.integers(1, 60))
def test_what_a_conv_reads_times_its_weight_is_what_it_gives(
    drawn: tuple[int, int, Window, tuple[int, ...]], most: int
) -> None:
    groups, inner, window, sizes = drawn
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(2 * groups, inner, *window.kernel)).astype(np.float32)
    listed = {
        "strides": window.strides,
        "dilations": window.dilations,
        "pads": window.pads if window.auto_pad == "NOTSET" else (),
    }
    texts = [f"{name} = {list(values)}" for name, values in listed.items() if values]
    texts += [f'auto_pad = "{window.auto_pad}"', f"group = {groups}"]
    ports = ", ".join(["N", str(groups * inner), *map(str, sizes)])
    outs = ", ".join(f"O{i}" for i in range(len(sizes)))
    body = f"y = Conv<{', '.join(texts)}>(x, W)"
    graph = graph_of(body, f"(float[{ports}] x) => (float[N, C, {outs}] y)", W=weight)
    request = SampledRows.of(layer_of(graph))
    assert isinstance(request, SampledRows)
    request = SampledRows(request.tensor, groups=groups, window=request.window, most=most)
    given_out = SampledRows("y", axis=1, most=most)
    rows, results = asked(graph, samples_of((2, groups * inner, *sizes)), request, given_out)
    assert len(rows) == min(most, 2 * math.prod(window.positions(sizes)))
    matrices = weight.reshape(groups, 2, -1)
    expected = np.einsum("ngk,gok->ngo", rows, matrices).reshape(len(rows), 1, -1)
    np.testing.assert_allclose(results, expected, rtol=1e-4, atol=1e-4)


def test_rows_do_not_depend_on_how_samples_are_batched() -> None:
    request = SampledRows("x", most=20)
    values = np.random.default_rng(1).normal(size=(6, 11, 3)).astype(np.float32)
    singly = Stub([({"x": values[i : i + 1]}, 1) for i in range(6)])
    together = Stub([({"x": values[:4]}, 4), ({"x": values[4:]}, 2)])
    one, two = asked(MATMUL, singly, request)[0], asked(MATMUL, together, request)[0]
    assert len(one) == 20
    assert (one == two).all()
    walked = Walk(MATMUL, together, threads=1).ask(request)
    assert (walked == one).all()


def test_rows_belong_together_whatever_stands_around_the_channels() -> None:
    body = "f = Reshape(x, S) y = MatMul(f, W) t = Transpose<perm = [0, 2, 1]>(x)"
    ports = "(float[N, T, 3] x) => (float[M, 3] y, float[N, 3, T] t)"
    graph = graph_of(body, ports, S=np.array([-1, 3]), W=np.eye(3, dtype=np.float32))
    requests = [SampledRows("x", most=7), SampledRows("y", most=7), SampledRows("t", 1, most=7)]
    plain, flat, turned = asked(graph, samples_of((2, 5, 3), (3, 5, 3)), *requests)
    assert plain.shape == (7, 1, 3)
    assert (plain == flat).all()
    assert (plain == turned).all()


def test_they_lie_evenly_over_samples_and_positions() -> None:
    values = np.arange(32 * 1024, dtype=np.float32).reshape(32, 1024, 1)
    graph = graph_of("y = MatMul(x, W)", "(float[N, T, 1] x) => (float[N, T, 1] y)", W=np.eye(1))
    samples = Stub([({"x": values[i : i + 1]}, 1) for i in range(32)])
    rows = asked(graph, samples, SampledRows("x", most=2048))[0].reshape(-1).astype(int)
    assert len(rows) == 2048
    assert np.abs(np.bincount(rows // 1024) - 64).max() <= 2
    assert np.abs(np.bincount(rows % 1024 // 32) - 64).max() <= 4
    assert np.abs(np.bincount(rows % 32) - 64).max() <= 12


def test_no_more_rows_than_asked_for_where_the_first_sample_is_the_smallest() -> None:
    samples = samples_of((1, 2, 3), *[(1, 50, 3)] * 4)
    rows, moments = asked(MATMUL, samples, SampledRows("x", most=9), RowMoments("x", most=9))
    assert len(rows) == 9
    assert moments.count > 9


def test_what_only_fills_up_a_feed_does_not_count() -> None:
    samples = samples_of((3, 2, 3), real=1)
    fixed = graph_of("y = MatMul(x, W)", "(float[3, 2, 3] x) => (float[3, 2, 2] y)", W=np.eye(3, 2))
    rows = asked(fixed, samples, SampledRows("x"))[0]
    assert (rows[:, 0] == samples.held[0][0]["x"][0]).all()
    turned = graph_of("y = MatMul(W, x)", "(float[3, N] x) => (float[2, N] y)", W=np.eye(2, 3))
    request = SampledRows.of(layer_of(turned))
    assert isinstance(request, SampledRows)
    rows = asked(turned, samples_of((3, 4)), request)[0]
    assert rows.shape == (4, 1, 3)


@pytest.mark.parametrize("most", [5, 1000])
def test_moments_are_those_of_the_rows(most: int) -> None:
    samples = samples_of(*[(1, 4, 4, 5)] * 3)
    weight = np.ones((2, 2, 3, 3), np.float32)
    ports = "(float[N, 4, 4, 5] x) => (float[N, 2, 2, 3] y)"
    graph = graph_of("y = Conv<group = 2>(x, W)", ports, W=weight)
    options: dict[str, Any] = {"groups": 2, "window": Window((3, 3))}
    moments = asked(graph, samples, RowMoments("x", **options, most=most))[0]
    assert abs(moments.count - min(most, 18)) <= 1
    rows = asked(graph, samples, SampledRows("x", **options, most=moments.count))[0]
    for group in range(2):
        alone: NDArray[np.float64] = rows[:, group].astype(np.float64)
        np.testing.assert_allclose(moments.mean[group], alone.mean(axis=0), atol=1e-6)
        expected = np.cov(alone.T, bias=True)
        np.testing.assert_allclose(moments.covariance[group], expected, atol=1e-5)


def test_values_that_are_not_finite_and_widths_that_change_are_refused() -> None:
    broken = samples_of((1, 2, 3))
    broken.held[0][0]["x"][0, 1, 2] = np.nan
    with pytest.raises(DataError, match="tensor 'x' holds NaN"):
        asked(MATMUL, broken, SampledRows("x"))
    folder = RowMoments("x", axis=1).folder((1, 2, 3), 1)
    tap = folder.taps[0]
    folder.take({tap: np.zeros((1, 2, 3))}, Rows(1, 1, first=True))
    with pytest.raises(DataError, match="rows of 2 values on one sample and of 4 on another"):
        folder.take({tap: np.zeros((1, 4, 3))}, Rows(1, 1, first=False))


@pytest.mark.parametrize("large", [3.4e38, -1e20])
def test_values_whose_squares_are_beyond_float32_are_refused(large: float) -> None:
    graph = graph_of("y = MatMul(x, w)", "(float[N, 2] x) => (float[N, 3] y)", w=(2, 3))
    samples = Stub([({"x": np.array([[1.0, large]], np.float32)}, 1)])
    for request in (RowMoments("x"), SampledRows("x")):
        with pytest.raises(DataError, match="tensor 'x' holds values too large to be squared"):
            asked(graph, samples, request)
