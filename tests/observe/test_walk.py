"""Walking along a graph that is edited: the same means as running all of it again each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.data import open_data
from graphopt.data.samples import Feeds
from graphopt.deadline import Deadline
from graphopt.errors import DataError, Need, PassError
from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.observe.means import ChannelMean
from graphopt.observe.walk import Walk
from graphopt.rewrite import qdq
from graphopt.rewrite.integer_layers import WeightGrid, set_integer_weight
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text
from tests.observe.stub import Stub

RNG = np.random.default_rng(11)


def graph_of(body: str, ports: str, **weights: Any) -> Graph:
    text = f'<ir_version: 8, opset_import: ["" : 13]> g {ports} {{ {body} }}'
    return Graph(model_from_text(text, weights))


def values(*shape: int) -> Array:
    return RNG.normal(0.2, 1, shape).astype(np.float32)


def plain_mean(graph: Graph, samples: Stub, tensor: str, axis: int) -> Array:
    """The mean over all real rows, from runs of the whole graph."""
    session = Session(graph, level="off", outputs=[tensor])
    rows = np.concatenate([session.run(feeds)[tensor][:real] for feeds, real in samples.held])
    flat = np.moveaxis(rows.astype(np.float64), axis, 0).reshape(rows.shape[axis], -1)
    return np.asarray(flat.mean(1))


def shift(graph: Graph, name: str) -> None:
    """Edit a bias between two questions."""
    constant = graph.main.constant(name)
    assert constant is not None
    constant.set(constant.values + values(*constant.shape))


RESIDUAL = """
    c1 = Conv(x, w1, b1) r1 = Relu(c1)
    c2 = Conv(r1, w2, b2) c3 = Conv(x, w3, b3)
    s = Add(r1, c2) t = Mul(s, c3)
    c4 = Conv(t, w2, b4) y = Add(c4, s)
"""
IMAGE = "(float[N, 3, 4, 4] x) => (float[N, 8, 4, 4] y)"


def residual() -> Graph:
    shapes: dict[str, Any] = {f"b{i}": (8,) for i in range(1, 5)}
    shapes |= {"w1": (8, 3, 1, 1), "w2": (8, 8, 1, 1), "w3": (8, 3, 1, 1)}
    return graph_of(RESIDUAL, IMAGE, **shapes)


def images(*batches: int) -> Stub:
    return Stub([({"x": values(batch, 3, 4, 4)}, batch) for batch in batches])


def test_means_are_those_of_the_whole_graph_as_it_is_now() -> None:
    graph, samples = residual(), images(2, 2, 1)
    walk = Walk(graph, samples, threads=1)
    for tensor, bias in (("c1", "b1"), ("c2", "b2"), ("c3", "b3"), ("c4", "b4")):
        expected = plain_mean(graph, samples, tensor, 1)
        np.testing.assert_allclose(walk.ask(ChannelMean(tensor, 1)), expected, rtol=1e-5, atol=1e-6)
        shift(graph, bias)
        moved = plain_mean(graph, samples, tensor, 1)
        assert np.abs(moved - expected).max() > 0.1
    np.testing.assert_allclose(
        walk.ask(ChannelMean("y", 1)), plain_mean(graph, samples, "y", 1), rtol=1e-5, atol=1e-5
    )


def test_the_last_layer_may_be_asked_for_again_after_an_edit() -> None:
    graph, samples = residual(), images(2)
    walk = Walk(graph, samples, threads=1)
    walk.ask(ChannelMean("c1", 1))
    for _ in range(2):
        shift(graph, "b2")
        now = plain_mean(graph, samples, "c2", 1)
        np.testing.assert_allclose(walk.ask(ChannelMean("c2", 1)), now, rtol=1e-5, atol=1e-6)


def test_a_bias_that_was_not_there_before() -> None:
    graph = graph_of("c = Conv(x, w) y = Conv(c, v)", IMAGE, w=(8, 3, 1, 1), v=(8, 8, 1, 1))
    samples = images(2, 1)
    walk = Walk(graph, samples, threads=1)
    walk.ask(ChannelMean("c", 1))
    conv = graph.main.nodes[0]
    graph.main.set_input(conv, 2, graph.main.add_constant("bias", values(8)))
    np.testing.assert_allclose(
        walk.ask(ChannelMean("y", 1)), plain_mean(graph, samples, "y", 1), rtol=1e-5, atol=1e-6
    )


class Watched(Walk):
    """A walk that notes which nodes each piece runs."""

    def __init__(self, graph: Graph, samples: Stub) -> None:
        super().__init__(graph, samples, threads=1)
        self.pieces: list[list[str]] = []

    def _session(self, tensors: list[str], outputs: list[str]) -> Session:
        piece = self.graph.main.ancestors(tensors, stop=self.held())
        self.pieces.append([str(node.output[0]) for node in piece])
        return super()._session(tensors, outputs)

    def held(self) -> set[str]:
        return set(self._held[0])


def test_each_node_runs_about_twice_and_no_more_is_held_than_is_read() -> None:
    walk = Watched(residual(), images(1))
    assert walk.held() == {"x"}
    held = {}
    for tensor in ("c1", "c2", "c3", "c4"):
        walk.ask(ChannelMean(tensor, 1))
        held[tensor] = walk.held()
    assert walk.pieces == [
        ["c1"],
        ["c1", "r1", "c2"],
        ["c3"],
        ["c2", "c3", "s", "t", "c4"],
    ]
    assert held == {
        "c1": {"x"},
        "c2": {"x", "r1"},  # c1 is read by r1 alone, which has run
        "c3": {"x", "r1"},
        "c4": {"s", "t"},  # y reads s, and c4 runs again from t
    }


def test_an_edited_copy_is_run_from_where_it_was_edited() -> None:
    graph, samples = residual(), images(2)
    walk = Watched(graph, samples)
    edited = graph.copy()
    shift(edited, "b3")
    for place, held in ((0, {"x"}), (3, {"r1", "c2", "x"}), (5, {"s", "c3"})):
        walk.advance(graph.main.nodes[place])
        assert walk.held() == held
        if place == 3:  # c3 reads b3
            fork = walk.fork(edited)
            given, wanted = fork.ask(ChannelMean("y", 1)), plain_mean(edited, samples, "y", 1)
            np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        walk.ask(ChannelMean("y", 1)), plain_mean(graph, samples, "y", 1), rtol=1e-5, atol=1e-6
    )
    assert walk.pieces == [
        ["c1", "r1", "c2"],
        ["c3", "s", "t", "c4", "y"],  # the fork's
        ["c3", "s"],
        ["t", "c4", "y"],
    ]


def test_what_the_model_gives_early_is_held_and_what_follows_from_constants_is_not() -> None:
    graph = graph_of(
        "v = Transpose <perm = [1, 0]> (w) early = MatMul(x, v) r = Relu(early) y = MatMul(r, v)",
        "(float[N, 4] x) => (float[N, 4] y, float[N, 4] early)",
        w=(4, 4),
    )
    samples = Stub([({"x": values(2, 4)}, 2)])
    walk = Watched(graph, samples)
    walk.advance(graph.main.nodes[3])
    assert walk.held() == {"early", "r"}
    fork = walk.fork(graph.copy())
    for name in ("y", "early"):
        given, wanted = fork.ask(ChannelMean(name, 1)), plain_mean(graph, samples, name, 1)
        np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-6)


def test_codes_are_held_in_place_of_what_they_stand_for() -> None:
    graph = graph_of(
        "c = Conv(x, w) r = Relu(c) y = Conv(r, v)", IMAGE, w=(8, 3, 1, 1), v=(8, 8, 1, 1)
    )
    grid = WeightGrid(per_channel=True, method="max", saturates=True)
    for layer in layers(graph.main):
        assert isinstance(layer, Layer)
        set_integer_weight(layer, 0.03, grid)
    qdq.add_quantize_dequantize(graph.main, "x", 0.03, 128)
    qdq.add_quantize_dequantize(graph.main, "r", 0.03, 0)
    samples = images(2)
    walk = Watched(graph, samples)
    walk.ask(ChannelMean("c", 1))
    assert walk.held() == {"x_quantized"}
    np.testing.assert_allclose(
        walk.ask(ChannelMean("y", 1)), plain_mean(graph, samples, "y", 1), rtol=1e-3, atol=1e-3
    )  # integer kernels round some codes the other way
    assert walk.held() == {"r_quantized"}
    activations = [[name for name in piece if name[0] not in "wv"] for piece in walk.pieces]
    assert activations == [
        ["x_quantized", "x_dequantized", "c"],
        ["x_dequantized", "c", "r", "r_quantized", "r_dequantized", "y"],
    ]


def test_tensors_that_a_body_reads_are_held_until_its_node_has_run() -> None:
    body = """
        c = Conv(x, w) r = Relu(c)
        d = Conv(r, v)
        h = If (flag) <
            then_branch = a () => (float[N, 8, 4, 4] p) { p = Add(r, d) },
            else_branch = b () => (float[N, 8, 4, 4] q) { q = Identity(d) }
        >
        e = Conv(h, v) y = Conv(e, v)
    """
    ports = IMAGE.replace(") =>", ", bool flag) =>")
    graph = graph_of(body, ports, w=(8, 3, 1, 1), v=(8, 8, 1, 1))
    for flag in (True, False):
        feeds: Feeds = {"x": values(2, 3, 4, 4), "flag": np.array(flag)}
        samples = Stub([(feeds, 2)])
        walk = Watched(graph, samples)
        for tensor in ("c", "d", "e"):
            np.testing.assert_allclose(
                walk.ask(ChannelMean(tensor, 1)),
                plain_mean(graph, samples, tensor, 1),
                rtol=1e-5,
                atol=1e-5,
            )
        assert walk.held() == {"h"}


@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_any_axis(axis: int) -> None:
    graph = graph_of("y = MatMul(x, w)", "(float[N, 5, 4] x) => (float[N, 5, 6] y)", w=(4, 6))
    samples = Stub([({"x": values(2, 5, 4)}, 2)])
    np.testing.assert_allclose(
        Walk(graph, samples).ask(ChannelMean("y", axis)),
        plain_mean(graph, samples, "y", axis),
        rtol=1e-5,
    )


def test_rows_that_fill_up_a_fixed_batch_do_not_count() -> None:
    ports = "(float[4, 3] x) => (float[4, 6] y)"
    graph = graph_of("y = MatMul(x, w)", ports, w=(3, 6))
    samples = Stub([({"x": values(4, 3)}, 4), ({"x": values(4, 3)}, 1)])
    np.testing.assert_allclose(
        Walk(graph, samples).ask(ChannelMean("y", -1)),
        plain_mean(graph, samples, "y", -1),
        rtol=1e-5,
    )


def test_every_row_counts_where_positions_are_folded_into_rows() -> None:
    ports = "(float[N, 5, 3] x) => (float[M, 6] y)"
    body = "f = Reshape(x, shape) y = MatMul(f, w)"
    graph = graph_of(body, ports, w=(3, 6), shape=np.array([-1, 3]))
    samples = Stub([({"x": values(2, 5, 3)}, 2), ({"x": values(1, 5, 3)}, 1)])
    rows = Stub([(feeds, 5 * real) for feeds, real in samples.held])
    np.testing.assert_allclose(
        Walk(graph, samples).ask(ChannelMean("y", -1)), plain_mean(graph, rows, "y", -1), rtol=1e-5
    )


def test_samples_come_in_batches() -> None:
    asked: list[int] = []

    class Batched(Stub):
        def feeds(self, batch: int = 1, limit: int | None = None) -> Iterator[tuple[Feeds, int]]:
            asked.append(batch)
            return super().feeds(batch, limit)

    Walk(residual(), Batched(images(3, 2).held), batch=3)
    assert asked == [3]


def test_the_graph_itself_stays_as_it_is() -> None:
    graph = residual()
    before = graph.to_model().SerializeToString(deterministic=True)
    walk = Walk(graph, images(1))
    walk.ask(ChannelMean("c1", 1))
    walk.ask(ChannelMean("y", 1))
    assert graph.to_model().SerializeToString(deterministic=True) == before


def test_initializers_listed_as_inputs_keep_their_value() -> None:
    graph = graph_of("c = Conv(x, w) y = Conv(c, v)", IMAGE, w=(8, 3, 1, 1), v=(8, 8, 1, 1))
    graph.main.proto.input.append(onnx.helper.make_tensor_value_info("v", 1, [8, 8, 1, 1]))
    samples = images(2)
    np.testing.assert_allclose(
        Walk(graph, samples).ask(ChannelMean("y", 1)), plain_mean(graph, samples, "y", 1), rtol=1e-5
    )


def test_what_is_held_is_bounded() -> None:
    graph = graph_of("a = Relu(x)  y = Relu(a)", "(float[N, 8] x) => (float[N, 8] y)")
    samples = Stub([({"x": values(4, 8)}, 4)] * 3)
    held = 3 * 4 * 8 * 4
    walk = Walk(graph, samples, threads=1, memory_limit=2 * held)
    walk.ask(ChannelMean("a", 1))
    small = Walk(graph, samples, threads=1, memory_limit=held - 1)
    with pytest.raises(PassError, match="more memory than is allowed") as caught:
        small.ask(ChannelMean("a", 1))
    assert caught.value.needs == (Need.MEMORY_LIMIT,)
    counted = open_data({"x": values(12, 8)}, graph)
    with pytest.raises(PassError, match="give fewer samples"):
        Walk(graph, counted, threads=1, memory_limit=held - 1)


def test_the_clock_is_asked_before_each_run_of_a_piece() -> None:
    graph = graph_of("a = Relu(x)  y = Relu(a)", "(float[N, 8] x) => (float[N, 8] y)")
    samples = Stub([({"x": values(4, 8)}, 4)] * 3)
    walk = Walk(graph, samples, threads=1, deadline=Deadline(0.0))
    with pytest.raises(PassError, match="limit of 0 s was over before all layers were walked thr"):
        walk.ask(ChannelMean("a", 1))
    assert (
        len(Walk(graph, samples, threads=1, deadline=Deadline(1e6)).ask(ChannelMean("a", 1))) == 8
    )


@pytest.mark.parametrize("kind", ["double", "bfloat16", "float16"])
def test_floats_of_other_widths_are_walked_in_float32_where_there_are_no_kernels(kind: str) -> None:
    number = {"double": 11, "bfloat16": 16, "float16": 10}[kind]
    body = f"""
        h = Cast<to = {number}>(x) k = Cast<to = {number}>(w)
        c = Conv(h, k) r = Relu(c) d = Conv(r, v) z = Cast<to = 1>(d) y = Abs(z)
    """
    wide = onnx.helper.tensor_dtype_to_np_dtype(number)
    ports = "(float[N, 3, 4, 4] x) => (float[N, 8, 4, 4] y)"
    graph = graph_of(body, ports, w=(8, 3, 1, 1), v=values(8, 8, 1, 1).astype(wide))
    data = images(2, 1)
    walk = Walk(graph, data, threads=1)
    for tensor in ("h", "c", "d"):
        means = walk.ask(ChannelMean(tensor, 1))
        feeds = [Session(graph, outputs=[tensor]).run(feeds)[tensor] for feeds, _ in data.held]
        expected = np.concatenate(feeds).astype(np.float64).mean(axis=(0, 2, 3))
        # halves round what lies between two pieces
        np.testing.assert_allclose(means, expected, rtol=2e-2, atol=2e-2)


def test_behind_values_that_are_not_finite_others_may_be_asked_for() -> None:
    body = "a = Log(x) b = Sigmoid(a) c = Abs(b) y = Mul(c, x)"
    graph = graph_of(body, "(float[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y)")
    data = Stub([({"x": np.abs(values(2, 3, 4, 4))}, 2) for _ in range(2)])
    for feeds, _ in data.held:
        feeds["x"][0, 0] = 0
    walk = Walk(graph, data, threads=1)
    with pytest.raises(DataError, match="tensor 'a' holds NaN or infinite values"):
        walk.ask(ChannelMean("a", 1))
    for tensor in ("c", "y"):
        expected = plain_mean(graph, data, tensor, 1)
        np.testing.assert_allclose(walk.ask(ChannelMean(tensor, 1)), expected, rtol=1e-5)
