"""The streaming run: answers against numpy, whatever the shapes, opsets, batches and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from graphopt.data.samples import Feeds
from graphopt.deadline import Deadline
from graphopt.errors import DataError, LimitError, ModelError, PassError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics import ranges
from graphopt.observe.extremes import ChannelAbsMax, ChannelMin, HistogramOf, MinMax, RowWidths
from graphopt.observe.means import ChannelMean
from graphopt.observe.request import Request
from graphopt.observe.run import observe
from graphopt.runtime.session import Session
from tests.observe.stub import Stub


def graph(text: str) -> Graph:
    return Graph(parser.parse_model(text))


def images(count: int, *shape: int, seed: int = 0) -> Stub:
    rng = np.random.default_rng(seed)
    return Stub([({"x": rng.normal(size=shape).astype(np.float32)}, 1) for _ in range(count)])


CONV = """
<ir_version: 8, opset_import: ["": {opset}]>
g (float[{batch}, 3, 8, 8] x, float[4, 3, 3, 3] w) => (float[{batch}, 4, 6, 6] y) {{
    c = Conv(x, w)
    r = Relu(c)
    y = Neg(r)
}}
"""


def conv(opset: int = 13, batch: int | str = 1) -> Graph:
    made = graph(CONV.format(opset=opset, batch=batch))
    rng = np.random.default_rng(1)
    made.main.initializers["w"] = made.store("w", rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    return made


def true_values(made: Graph, samples: Stub, tensor: str) -> list[Array]:
    """What the tensor holds on each feed, real rows only."""
    session = Session(made, outputs=[tensor])
    return [session.run(feeds)[tensor][:real] for feeds, real in samples.held]


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 17, 18, 21])
@pytest.mark.parametrize("batch", [1, "N"])
def test_answers_are_those_of_numpy(opset: int, batch: int | str) -> None:
    made, samples = conv(opset, batch), images(5, 1, 3, 8, 8)
    for tensor in ("x", "c", "r", "y"):
        values = np.concatenate(true_values(made, samples, tensor))
        requests: list[Request[Any]] = [
            MinMax(tensor),
            HistogramOf(tensor, bins=64),
            ChannelMean(tensor),
            ChannelAbsMax(tensor, axis=-3),
        ]
        found = observe(made, requests, samples)
        assert list(found) == requests
        assert found[requests[0]] == (values.min(), values.max())
        histogram = found[requests[1]]
        assert (histogram.low, histogram.high) == (values.min(), values.max())
        assert histogram.total == values.size  # small tensors are looked at in full
        np.testing.assert_allclose(found[requests[2]], values.mean(axis=(0, 2, 3)), atol=1e-6)
        np.testing.assert_array_equal(found[requests[3]], np.abs(values).max(axis=(0, 2, 3)))


def test_row_widths_are_those_of_single_rows_and_of_their_run() -> None:
    made = graph(
        """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[N, T, 3] x) => (float[N, T, 3] y) { y = Neg(x) }
        """
    )
    rows = np.array([[1, 2, -2], [0, 0, 0], [0, 0, 4]], np.float32)
    samples = Stub([({"x": rows[None]}, 1), ({"x": np.abs(rows[None, :1])}, 1)])
    request = RowWidths("y")
    # By hand: ranges with 0 in them over the mean squares 3 and 16/3; the row of zeros is no row.
    expected = [[36 / 3, 16 / 3], [36 * 3 / 16, 64 * 3 / 16], [4 / 3, 16 / 3]]
    np.testing.assert_allclose(observe(made, [request], samples)[request], expected, rtol=1e-6)
    few = RowWidths("y", most=1)
    assert observe(made, [few], samples)[few].shape == (2, 2)


@pytest.mark.parametrize("batch", [4, "N"])
def test_rows_that_fill_up_the_last_batch_do_not_count(batch: int | str) -> None:
    made = conv(batch=batch)
    rng = np.random.default_rng(2)
    whole = rng.normal(size=(6, 3, 8, 8)).astype(np.float32) + 1
    filled = np.concatenate([whole[4:], np.repeat(whole[-1:], 2, axis=0)])
    parts = [({"x": whole[:4]}, 4), ({"x": filled}, 2)]
    samples = Stub(parts if batch == 4 else [({"x": whole[:4]}, 4), ({"x": whole[4:]}, 2)])
    for tensor in ("x", "c"):
        values = np.concatenate(true_values(made, samples, tensor))
        requests: list[Request[Any]] = [
            ChannelMean(tensor),
            HistogramOf(tensor),
            ChannelMean(tensor, axis=-1),
        ]
        mean, histogram, last = observe(made, requests, samples).values()
        np.testing.assert_allclose(mean, values.mean(axis=(0, 2, 3)), atol=1e-5)
        np.testing.assert_allclose(last, values.mean(axis=(0, 1, 2)), atol=1e-5)
        assert histogram.total == values.size


def test_the_only_batch_may_be_filled_up_too() -> None:
    made = conv(batch=4)
    x = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    samples = Stub([({"x": np.concatenate([x, x[-1:]])}, 3)])
    (mean,) = observe(made, [ChannelMean("x")], samples).values()
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3)), atol=1e-6)


RANKS = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 6] x) => (float[N, 6] y) {
    scalar = ReduceMean<keepdims = 0>(x)
    vector = ReduceMean<axes = [1], keepdims = 0>(x)
    shape5 = Constant<value_ints = [1, -1, 2, 3, 1]>()
    five = Reshape(x, shape5)
    shape3 = Constant<value_ints = [0, 2, 3]>()
    three = Reshape(x, shape3)
    y = Identity(x)
}
"""


@pytest.mark.parametrize("tensor", ["scalar", "vector", "three", "five", "y"])
def test_every_rank(tensor: str) -> None:
    made, samples = graph(RANKS), images(3, 2, 6)
    session = Session(made, outputs=[tensor])
    values = [session.run(feeds)[tensor] for feeds, _ in samples.held]
    requests: list[Request[Any]] = [MinMax(tensor), HistogramOf(tensor)]
    rank = values[0].ndim
    requests += [
        kind(tensor, axis)
        for axis in range(rank)
        for kind in (ChannelMean, ChannelAbsMax, ChannelMin)
    ]
    found = observe(made, requests, samples)
    stacked = np.stack(values)
    assert found[MinMax(tensor)] == (stacked.min(), stacked.max())
    assert found[HistogramOf(tensor)].total == stacked.size
    for axis in range(rank):
        others = (0, *(a + 1 for a in range(rank) if a != axis))
        mean, peak = found[ChannelMean(tensor, axis)], found[ChannelAbsMax(tensor, axis)]
        np.testing.assert_allclose(mean, stacked.mean(axis=others), atol=1e-6)
        np.testing.assert_array_equal(peak, np.abs(stacked).max(axis=others))
        np.testing.assert_array_equal(found[ChannelMin(tensor, axis)], stacked.min(axis=others))


TYPES = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1, 2, 3, 4] x, int64[1, 3] ids) => (bool[1, 2, 3, 4] y) {
    half = Cast<to = 10>(x)
    double = Cast<to = 11>(x)
    int = Cast<to = 6>(x)
    scale = Constant<value_float = 0.1>()
    zero = Constant<value = uint8 {7}>()
    codes = QuantizeLinear(x, scale, zero)
    y = Greater(x, scale)
    text = Cast<to = 8>(x)
}
"""


@pytest.mark.parametrize("tensor", ["half", "double", "int", "codes", "y", "ids"])
def test_numbers_of_any_type(tensor: str) -> None:
    made = graph(TYPES)
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1, 2, 3, 4)) * 5).astype(np.float32)
    samples = Stub([({"x": x, "ids": np.array([[1, -2, 40000]], dtype=np.int64)}, 1)])
    values = Session(made, outputs=[tensor]).run(samples.held[0][0])[tensor].astype(np.float32)
    found = observe(made, [MinMax(tensor), HistogramOf(tensor), ChannelMean(tensor)], samples)
    assert found[MinMax(tensor)] == (values.min(), values.max())
    assert found[HistogramOf(tensor)].total == values.size
    others = tuple(axis for axis in range(values.ndim) if axis != 1)
    np.testing.assert_allclose(found[ChannelMean(tensor)], values.mean(axis=others), rtol=1e-5)


def test_text_has_no_range() -> None:
    feeds: Feeds = {"x": np.zeros((1, 2, 3, 4), np.float32), "ids": np.zeros((1, 3), np.int64)}
    with pytest.raises(DataError, match="'text' holds no real numbers"):
        observe(graph(TYPES), [MinMax("text")], Stub([(feeds, 1)]))


DYNAMIC = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1, 2, L] x) => (float[1, 2, K] y) {
    low = Constant<value_float = 0.0>()
    over = Greater(x, low)
    where = NonZero(over)
    picked = GatherND(x, rows)
    rows = Transpose(where)
    y = Relu(x)
}
"""


def dynamic_samples() -> Stub:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(1, 2, length)).astype(np.float32) for length in (5, 9, 3)]
    arrays.append(-np.ones((1, 2, 4), np.float32))  # nothing is picked
    return Stub([({"x": x}, 1) for x in arrays])


def test_sizes_that_change_and_tensors_that_are_empty() -> None:
    made, samples = graph(DYNAMIC), dynamic_samples()
    arrays = [feeds["x"] for feeds, _ in samples.held]
    requests: list[Request[Any]] = [MinMax("picked"), HistogramOf("picked")]
    requests += [ChannelMean("y"), ChannelAbsMax("y")]
    extent, histogram, mean, peak = observe(made, requests, samples).values()
    picked = np.concatenate([x[x > 0] for x in arrays])
    assert extent == (picked.min(), picked.max())
    assert histogram.total == picked.size
    flat = np.maximum(np.concatenate(arrays, axis=2), 0)
    np.testing.assert_allclose(mean, flat.mean(axis=(0, 2)), atol=1e-6)
    np.testing.assert_array_equal(peak, flat.max(axis=(0, 2)))


def test_a_tensor_that_is_always_empty() -> None:
    samples = Stub(dynamic_samples().held[-1:])
    extent, histogram = observe(
        graph(DYNAMIC), [MinMax("picked"), HistogramOf("picked")], samples
    ).values()
    assert extent == (0, 0)
    assert ranges.mse(histogram, 0, 255) == (0, 0)


def test_channels_that_change_have_no_mean() -> None:
    request = ChannelMean("y", axis=2)
    answers = observe(graph(DYNAMIC), [request], dynamic_samples())
    with pytest.raises(DataError, match="5 channels on one sample and 9 on another"):
        answers[request]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [MinMax, HistogramOf, ChannelMean, ChannelAbsMax, RowWidths])
@pytest.mark.parametrize("tensor", ["x", "y"])
def test_what_is_not_finite_is_named(bad: float, kind: type, tensor: str) -> None:
    made = graph(
        """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y) { y = Neg(x) }
        """
    )
    samples = images(3, 1, 3, 8, 8)
    samples.held[1][0]["x"][0, 1, 5, 3] = bad
    answers = observe(made, [kind(tensor)], samples)
    with pytest.raises(DataError, match=f"'{tensor}' holds"):
        answers[kind(tensor)]


def test_what_is_not_finite_is_a_matter_of_who_asks_for_it() -> None:
    made = graph(
        """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1, 4] x) => (float[1, 4] y, float[1, 4] z) { y = Log(x) z = Abs(x) }
        """
    )
    samples = Stub([({"x": np.array([[-2, 1, 3, 4]], np.float32)}, 1)])
    answers = observe(made, [MinMax("y"), MinMax("z")], samples)
    assert answers[MinMax("z")] == (1, 4)
    assert "'y' holds NaN" in str(answers.failure(MinMax("y")))
    assert answers.failure(MinMax("z")) is None


def test_constants_are_observed_like_the_rest() -> None:
    made = conv()
    weight = made.read(made.main.initializers["w"])
    extent, peak = observe(
        made, [MinMax("w"), ChannelAbsMax("w", axis=0)], images(2, 1, 3, 8, 8)
    ).values()
    assert extent == (weight.min(), weight.max())
    np.testing.assert_array_equal(peak, np.abs(weight).max(axis=(1, 2, 3)))


def test_an_early_tensor_needs_no_later_node() -> None:
    made = graph(
        """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1, 3] x, float[1, 3] unused) => (float[1, 3] y) {
            early = Relu(x)
            shape = Constant<value_ints = [7]>()
            y = Reshape(early, shape)
        }
        """
    )
    feeds: Feeds = {
        "x": np.array([[-1, 2, 3]], np.float32),
        "unused": np.zeros((1, 3), np.float32),
    }
    samples = Stub([(feeds, 1)])
    assert observe(made, [MinMax("early")], samples) == {MinMax("early"): (0, 3)}
    with pytest.raises(ModelError, match="cannot run"):
        observe(made, [MinMax("y")], samples)


def test_tensors_read_inside_a_body_are_found() -> None:
    made = graph(
        """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2] x, bool c) => (float[2] y) {
            seen = Neg(x)
            y = If (c) <
                then_branch = a () => (float[2] t) { t = Neg(seen) },
                else_branch = b () => (float[2] e) { e = Relu(seen) }
            >
        }
        """
    )
    samples = Stub([({"x": np.array([1, -4], np.float32), "c": np.array(True)}, 1)])
    assert observe(made, [MinMax("y"), MinMax("seen")], samples) == {
        MinMax("y"): (-4, 1),
        MinMax("seen"): (-1, 4),
    }


def test_quantized_graphs_are_observed() -> None:
    made = graph(
        """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
        <float s = {0.05}, uint8 z = {128}> {
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            y = Relu(d)
        }
        """
    )
    samples = images(4, 1, 2, 4, 4)
    expected = np.concatenate(true_values(made, samples, "d"))
    mean, extent = observe(made, [ChannelMean("d"), MinMax("y")], samples).values()
    np.testing.assert_allclose(mean, expected.mean(axis=(0, 2, 3)), atol=1e-6)
    assert extent == (0, expected.max())


def test_groups_answer_like_one_run_and_keep_to_the_limit() -> None:
    made, samples = conv(), images(3, 1, 3, 8, 8)
    requests: list[Request[Any]] = [MinMax(t) for t in ("x", "c", "r", "y")]
    requests += [HistogramOf("r", bins=16), ChannelMean("c")]
    limit = 3000
    told: list[int] = []
    whole = observe(made, requests, samples)

    def progress(what: str, done: int, total: int, detail: str = "", /) -> None:
        told.append(total)

    split = observe(made, requests, samples, memory_limit=limit, progress=progress)
    assert max(told) > samples.count  # more than one run over the samples
    assert list(whole) == list(split) == requests
    for request in requests:
        if isinstance(request, HistogramOf):
            np.testing.assert_array_equal(whole[request].counts, split[request].counts)
        else:
            np.testing.assert_array_equal(whole[request], split[request])
    with pytest.raises(LimitError, match="memory limit leaves"):
        observe(made, requests, samples, memory_limit=500)


def test_the_clock_is_asked_before_each_run() -> None:
    class Counted(Deadline):
        def check(self, what: str) -> None:
            asked.append(what)
            if len(asked) > 2:
                super().check(what)

    asked: list[str] = []
    with pytest.raises(PassError, match="limit of 0 s was over before all samples were observed"):
        observe(conv(), [MinMax("c")], images(3, 1, 3, 8, 8), deadline=Counted(0.0))
    assert len(asked) == 3
    observe(conv(), [MinMax("c")], images(3, 1, 3, 8, 8), deadline=Deadline(1e6))


@pytest.mark.parametrize("find", [ranges.mse, ranges.percentile, ranges.entropy])
@pytest.mark.parametrize("pattern", ["checkerboard", "columns", "smooth"])
def test_ranges_from_sampled_positions_hold(find: object, pattern: str) -> None:
    """Positions are sampled; ranges must be those of all values, in regular pictures too."""
    rng = np.random.default_rng(0)
    shape = (1, 16, 64, 64)
    rows, columns = np.ogrid[:64, :64]
    scale = {
        "checkerboard": 1 + 3 * ((rows + columns) % 2),
        "columns": np.where(columns % 16 == 0, 5, 1) + 0 * rows,
        "smooth": 1 + np.sin(rows / 9.0) ** 2 + columns / 64,
    }[pattern]
    arrays = [(rng.normal(size=shape) * scale).astype(np.float32) for _ in range(16)]
    made = graph(
        """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1, 16, 64, 64] x) => (float[1, 16, 64, 64] y) { y = Relu(x) }
        """
    )
    samples = Stub([({"x": x}, 1) for x in arrays])
    for tensor, values in (("x", np.stack(arrays)), ("y", np.maximum(np.stack(arrays), 0))):
        full = ranges.Histogram()
        full.add(values)
        (sampled,) = observe(made, [HistogramOf(tensor)], samples).values()
        assert (sampled.low, sampled.high) == (full.low, full.high)
        assert sampled.total < full.total / 3
        arguments = (0, 255) if find is ranges.mse else ()
        wanted, found = (np.array(find(h, *arguments)) for h in (full, sampled))  # type: ignore[operator]
        extent = full.high - full.low
        # entropy jumps between thresholds that are nearly as good
        slack = 0.15 if find is ranges.entropy else 0.05
        np.testing.assert_allclose(found, wanted, atol=slack * extent)


def test_asked_for_nothing_or_given_nothing() -> None:
    assert observe(conv(), [], images(1, 1, 3, 8, 8)) == {}
    with pytest.raises(DataError, match="no sample"):
        observe(conv(), [MinMax("c")], Stub([]))


def test_unknown_tensors_and_axes_are_refused() -> None:
    with pytest.raises(ModelError, match="no tensor 'nowhere'"):
        observe(conv(), [MinMax("nowhere")], images(1, 1, 3, 8, 8))
    with pytest.raises(DataError, match="rank 4 has no axis 4"):
        observe(conv(), [ChannelMean("c", axis=4)], images(1, 1, 3, 8, 8))


def test_the_graph_is_left_alone_and_progress_is_told() -> None:
    made, samples = conv(), images(3, 1, 3, 8, 8)
    before = made.to_model().SerializeToString(deterministic=True)
    told: list[tuple[str, int, int]] = []
    observe(made, [MinMax("c")], samples, progress=lambda *state: told.append(state))
    assert told == [("observing", done, 3) for done in (1, 2, 3)]
    assert made.to_model().SerializeToString(deterministic=True) == before


def test_is_deterministic() -> None:
    samples = images(4, 1, 3, 8, 8)
    first, second = (observe(conv(), [HistogramOf("c")], samples)[HistogramOf("c")] for _ in "ab")
    np.testing.assert_array_equal(first.counts, second.counts)
