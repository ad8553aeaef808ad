"""Gram matrices against what onnxruntime itself computes with a weight that copies its input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.errors import DataError, LimitError, ModelError
from graphopt.facts.layers import Layer, Refusal, layer
from graphopt.graph.graph import Graph
from graphopt.numerics.im2col import AutoPad, Window
from graphopt.observe import gram
from graphopt.observe.gram import Gram
from graphopt.observe.run import observe
from graphopt.observe.walk import Walk
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text
from tests.observe.stub import Stub


def graph_of(body: str, ports: str, **weights: Any) -> Graph:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g {ports} {{ {body} }}'
    return Graph(model_from_text(text, weights))


def request_of(graph: Graph) -> Gram:
    """The request for the node that gives y."""
    node = graph.main.producer("y")
    assert node is not None
    found = layer(graph.main, node)
    assert isinstance(found, Layer)
    request = Gram.of(found)
    assert isinstance(request, Gram)
    return request


def samples_of(*shapes: Sequence[int], real: int | None = None) -> Stub:
    rng = np.random.default_rng(7)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    last = len(arrays) - 1
    rows = [len(x) if real is None or i < last else real for i, x in enumerate(arrays)]
    return Stub([({"x": x}, count) for x, count in zip(arrays, rows, strict=True)])


def conv(channels: int, groups: int, window: Window, sizes: str) -> Graph:
    """``y = Conv(-x)`` with a weight that copies each value of a group to a channel of its own."""
    inner, taps = channels // groups, math.prod(window.kernel)
    weight = np.eye(inner * taps, dtype=np.float32).reshape(-1, inner, *window.kernel)
    listed = {
        "strides": window.strides,
        "dilations": window.dilations,
        "pads": window.pads if window.auto_pad == "NOTSET" else (),
    }
    texts = [f"{name} = {list(values)}" for name, values in listed.items() if values]
    texts += [f'auto_pad = "{window.auto_pad}"', f"group = {groups}"]
    outs = ", ".join(f"O{i}" for i in range(len(window.kernel)))
    ports = f"(float[N, {channels}, {sizes}] x) => (float[N, {groups * inner * taps}, {outs}] y)"
    body = f"h = Neg(x) y = Conv<{', '.join(texts)}>(h, w)"
    return graph_of(body, ports, w=np.concatenate([weight] * groups))


def copied(graph: Graph, samples: Stub, groups: int) -> NDArray[np.float64]:
    """The same matrices from what a copying Conv gives out."""
    session = Session(graph)
    total: Any = 0.0
    for feeds, real in samples.held:
        y = session.run(feeds)["y"][:real].astype(np.float64)
        rows = y.reshape(real, groups, y.shape[1] // groups, -1)
        total = total + np.einsum("bgip,bgjp->gij", rows, rows)
    return np.asarray(total)


@st.composite
def convs(draw: st.DrawFn) -> tuple[int, int, Window, tuple[int, ...]]:
    rank = draw(st.integers(1, 3))
    groups, inner = draw(st.integers(1, 3)), draw(st.integers(1, 2))

    def each(low: int, high: int, count: int = rank) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(count))

    modes: list[AutoPad] = ["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]
    auto_pad = draw(st.sampled_from(modes))
    window = Window(each(1, 3), each(1, 3), each(0, 2, 2 * rank), each(1, 2), auto_pad)
    return groups * inner, groups, window, each(1, 6)


@settings(max_examples=60)
@given(convs())
def test_conv(case: tuple[int, int, Window, tuple[int, ...]]) -> None:
    channels, groups, window, sizes = case
    graph = conv(channels, groups, window, ", ".join(f"D{i}" for i in range(len(sizes))))
    samples = samples_of((2, channels, *sizes), (1, channels, *sizes))
    try:
        expected = copied(graph, samples, groups)
    except ModelError:  # onnxruntime takes no input that is smaller than the window
        assume(False)
    request = request_of(graph)
    assert request.groups == groups
    answer = observe(graph, [request], samples)[request]
    width = channels // groups * math.prod(window.kernel)
    assert answer.shape == (groups, width, width)
    np.testing.assert_allclose(answer, expected, rtol=1e-12, atol=1e-12)


LINEAR = {
    "rows": ("y = MatMul(h, w)", "(float[N, K] x) => (float[N, 4] y)", (5, 4)),
    "positions": ("y = MatMul(h, w)", "(float[N, L, K] x) => (float[N, L, 4] y)", (2, 3, 4)),
    "left": ("y = MatMul(w, h)", "(float[N, K, L] x) => (float[N, 4, L] y)", (2, 4, 3)),
    "gemm": ("y = Gemm(h, w)", "(float[N, K] x) => (float[N, 4] y)", (5, 4)),
    "turned": ("y = Gemm<transA = 1>(h, w)", "(float[K, N] x) => (float[N, 4] y)", (4, 5)),
    "left gemm": ("y = Gemm(w, h)", "(float[K, N] x) => (float[4, N] y)", (4, 5)),
    "left turned": (
        "y = Gemm<transB = 1>(w, h)",
        "(float[N, K] x) => (float[4, N] y)",
        (5, 4),
    ),
}


@pytest.mark.parametrize("case", LINEAR)
def test_matmul_and_gemm(case: str) -> None:
    body, ports, shape = LINEAR[case]
    graph = graph_of(f"h = Neg(x) {body}", ports, w=np.eye(4, dtype=np.float32))
    samples = samples_of(shape, shape)
    request = request_of(graph)
    total: Any = 0.0
    for feeds, _ in samples.held:
        x = np.moveaxis(feeds["x"].astype(np.float64), shape.index(4), -1).reshape(-1, 4)
        total = total + x.T @ x
    np.testing.assert_allclose(observe(graph, [request], samples)[request], total, rtol=1e-12)
    np.testing.assert_allclose(Walk(graph, samples).ask(request), total, rtol=1e-12)


def test_rows_that_fill_up_a_fixed_batch_do_not_count() -> None:
    window = Window((2, 2), pads=(1, 0, 0, 1))
    graph = conv(2, 1, window, "5, 4")
    graph.main.proto.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    samples = samples_of((3, 2, 5, 4), (3, 2, 5, 4), real=1)
    request = request_of(graph)
    expected = copied(graph, samples, 1)
    np.testing.assert_allclose(observe(graph, [request], samples)[request], expected, rtol=1e-12)


def test_a_batch_that_lies_behind_the_channels_counts_whole_or_not_at_all() -> None:
    graph = graph_of(
        "t = Transpose<perm = [1, 0]>(x) y = Gemm<transA = 1>(t, w)",
        "(float[3, 4] x) => (float[3, 4] y)",
        w=np.eye(4, dtype=np.float32),
    )
    request = request_of(graph)
    samples = samples_of((3, 4), (3, 4), real=1)
    x = samples.held[0][0]["x"].astype(np.float64)
    np.testing.assert_allclose(observe(graph, [request], samples)[request], x.T @ x, rtol=1e-12)


def test_slices_of_positions_sum_up_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = conv(4, 2, Window((3, 3), (2, 1), (1, 1, 1, 1)), "H, W")
    samples = samples_of((2, 4, 9, 7))
    request = request_of(graph)
    expected = copied(graph, samples, 2)
    monkeypatch.setattr(gram, "_SLICE_BYTES", 5 * 4 * 9 * 8)
    np.testing.assert_allclose(observe(graph, [request], samples)[request], expected, rtol=1e-12)


def test_an_empty_tensor_has_a_matrix_of_zeros() -> None:
    graph = graph_of(
        "h = Neg(x) y = MatMul(h, w)",
        "(float[N, L, 4] x) => (float[N, L, 4] y)",
        w=np.eye(4, dtype=np.float32),
    )
    request = request_of(graph)
    answer = observe(graph, [request], samples_of((1, 0, 4)))[request]
    np.testing.assert_array_equal(answer, np.zeros((4, 4)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named(bad: float) -> None:
    graph = conv(1, 1, Window((2,)), "L")
    samples = samples_of((1, 1, 6))
    samples.held[0][0]["x"][0, 0, 3] = bad
    with pytest.raises(DataError, match="'h' holds NaN or infinite values"):
        observe(graph, [request_of(graph)], samples)[request_of(graph)]


def test_memory_is_bounded_by_splitting_and_a_matrix_above_the_limit_is_refused() -> None:
    text = "a = Neg(x) b = Abs(x) p = MatMul(a, w) q = MatMul(b, w) y = Add(p, q)"
    weight = np.eye(100, dtype=np.float32)
    graph = graph_of(text, "(float[N, 100] x) => (float[N, 100] y)", w=weight)
    samples = samples_of((1, 100), (1, 100))
    requests = [Gram("a"), Gram("b")]
    needed = requests[0].bytes((1, 100)) + 2 * 4 * 100
    assert needed >= 2 * 8 * 100 * 100
    told: list[int] = []

    def progress(what: str, done: int, total: int, detail: str = "", /) -> None:
        told.append(total)

    answers = observe(graph, requests, samples, memory_limit=needed, progress=progress)
    assert set(told) == {4}  # two runs over two samples
    x = np.concatenate([feeds["x"] for feeds, _ in samples.held]).astype(np.float64)
    np.testing.assert_allclose(answers[Gram("b")], np.abs(x).T @ np.abs(x), rtol=1e-12)
    with pytest.raises(LimitError, match="'a' takes"):
        observe(graph, requests, samples, memory_limit=needed - 1)


def test_a_tensor_that_does_not_fit_the_kernel_is_refused() -> None:
    graph = conv(2, 1, Window((2, 2)), "H, W")
    request = Gram("h", groups=3, window=Window((2, 2)))
    with pytest.raises(DataError, match="no input of a Conv with a 2-d kernel and 3 groups"):
        observe(graph, [request], samples_of((1, 2, 4, 4)))


def test_rows_may_not_change_their_width() -> None:
    graph = graph_of("y = Neg(x)", "(float[N, L] x) => (float[N, L] y)")
    with pytest.raises(DataError, match="rows of 3 values on one sample and of 4 on another"):
        observe(graph, [Gram("y")], samples_of((1, 3), (1, 4)))[Gram("y")]


def test_other_layers_are_refused() -> None:
    graph = graph_of(
        "y = ConvTranspose(x, w)",
        "(float[N, 2, L] x) => (float[N, 3, M] y)",
        w=np.ones((2, 3, 2), np.float32),
    )
    found = layer(graph.main, graph.main.nodes[0])
    assert isinstance(found, Layer)
    refusal = Gram.of(found)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "nobody knows which rows a ConvTranspose reads"
