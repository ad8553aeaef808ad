"""One door: the same question of the same state runs the model once, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import parser

from graphopt import targets
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.data.samples import Feeds
from graphopt.errors import DataError, LimitError, Need, PassError
from graphopt.extend import (
    ChannelMean,
    Folder,
    Gram,
    HistogramOf,
    MeanOutput,
    MeanSquare,
    MinMax,
    Request,
    Rows,
    Tap,
    TapNodes,
    Values,
)
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.observe.observer import Observer
from graphopt.observe.request import Answers
from graphopt.observe.walk import Walk
from graphopt.run.drive import drive
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.runtime.session import Session

TEXT = """
<ir_version: 8, opset_import: ["": {opset}]>
g (float[N, 3, 4] x) => (float[N, 3, 4] y) {{ h = Neg(x) y = Relu(h) }}
"""


@dataclass
class Stub:
    """Samples in memory that count how often somebody goes through them."""

    held: list[tuple[Feeds, int]]
    rounds: int = 0
    labels: Array | None = None

    @property
    def count(self) -> int:
        return len(self.held)

    def feeds(self, batch: int = 1, limit: int | None = None) -> Iterator[tuple[Feeds, int]]:
        self.rounds += 1
        yield from self.held[:limit]


def samples(*shapes: tuple[int, ...]) -> Stub:
    rng = np.random.default_rng(3)
    shapes = shapes or ((1, 3, 4),) * 5
    return Stub([({"x": rng.normal(size=s).astype(np.float32)}, s[0]) for s in shapes])


def graph(opset: int = 17) -> Graph:
    return Graph(parser.parse_model(TEXT.format(opset=opset)))


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The outputs asked of each session made."""
    made: list[list[str]] = []
    plain = Session.__init__

    def noting(self: Session, graph: Graph, **options: Any) -> None:
        plain(self, graph, **options)
        made.append(self.outputs)

    monkeypatch.setattr(Session, "__init__", noting)
    return made


def test_only_new_questions_run_the_model(sessions: list[list[str]]) -> None:
    observer = Observer(graph(), samples())
    first = observer.ask([MinMax("h"), HistogramOf("h")])
    assert len(sessions) == 1
    again = observer.ask([HistogramOf("h")])
    assert again[HistogramOf("h")] is first[HistogramOf("h")]
    assert list(again) == [HistogramOf("h")]
    observer.ask([MinMax("y"), MinMax("h")])
    assert [len(outputs) for outputs in sessions] == [4, 3]
    observer.ask([])
    assert len(sessions) == 2


def test_first_samples_are_a_question_of_their_own(sessions: list[list[str]]) -> None:
    data = samples()
    observer = Observer(graph(), data)
    two, all_of_them = observer.ask([Values("x")], 2), observer.ask([Values("x")])
    assert (len(two[Values("x")]), len(all_of_them[Values("x")])) == (2, 5)
    rounds = data.rounds
    assert observer.ask([Values("x")], 99)[Values("x")] is all_of_them[Values("x")]
    assert data.rounds == rounds


def test_answers_are_kept_as_far_as_the_memory_limit_goes() -> None:
    data = samples()
    observer = Observer(graph(), data, memory_limit=2 * 8 * 12)
    answers = [observer.ask([MeanOutput(name)])[MeanOutput(name)] for name in "xhy"]
    rounds = data.rounds
    assert observer.ask([MeanOutput("y")])[MeanOutput("y")] is answers[2]
    assert data.rounds == rounds
    observer.ask([MeanOutput("x")])
    assert data.rounds > rounds


def test_nobody_can_spoil_what_the_next_one_reads() -> None:
    mean = Observer(graph(), samples()).ask([ChannelMean("h")])[ChannelMean("h")]
    with pytest.raises(ValueError, match="read-only"):
        mean += 1
    histogram = Observer(graph(), samples()).ask([HistogramOf("h")])[HistogramOf("h")]
    with pytest.raises(ValueError, match="read-only"):
        histogram.add(np.full(9, histogram.low))


def test_without_samples_the_door_says_so() -> None:
    observer = Observer(graph(), None)
    with pytest.raises(PassError, match=r"needs calibration samples$") as refusal:
        observer.ask([MinMax("h")])
    assert refusal.value.needs == (Need.CALIBRATION,)
    assert len(observer.ask([])) == 0


@dataclass(frozen=True, kw_only=True)
class AskBeforeAndAfter(Pass):
    """Asks about the graph as it came, edits it, and asks again."""

    name: ClassVar[str] = "ask"
    seen: ClassVar[list[Any]] = []

    def run(self, graph: Graph, context: Context) -> Changes:
        graph.main.nodes[0].op_type = "Abs"
        graph.main.touch()
        for which in (None, graph, context.reference):
            self.seen.append(context.observe([MinMax("h")], which)[MinMax("h")])
        return Changes()


def staged(data: Stub) -> tuple[Stage, Means]:
    made = graph()
    means = Means(reference=made, target=targets.find("host"), calibration=data)
    return Stage(made, means), means


def test_none_stands_for_the_graph_as_it_was_handed_over() -> None:
    data = samples()
    AskBeforeAndAfter.seen.clear()
    drive(AskBeforeAndAfter(), *staged(data))
    values = -np.concatenate([feeds["x"] for feeds, _ in data.held])
    before, after, _ = AskBeforeAndAfter.seen
    assert before == (values.min(), values.max())
    assert after == (np.abs(values).min(), np.abs(values).max())


@dataclass(frozen=True, kw_only=True)
class OnlyAsk(Pass):
    """Asks for the range of a tensor and does nothing."""

    name: ClassVar[str] = "only-ask"

    def run(self, graph: Graph, context: Context) -> Changes:
        context.observe([MinMax("h")])
        return Changes()


def test_passes_and_trials_that_ask_the_same_share_one_run(sessions: list[list[str]]) -> None:
    stage, means = staged(samples())
    for _ in range(3):
        drive(OnlyAsk(), stage, means)
    assert sessions == [["h_ReduceMin", "h_ReduceMax", "h_ReduceMean"]]


@dataclass(frozen=True)
class Cubes(Tap):
    """The sum of the third powers; not a tap of this package."""

    def add(self, nodes: TapNodes) -> str:
        source = nodes.floats(self.tensor)
        return nodes.node(
            "ReduceSum", [nodes.node("Mul", [nodes.node("Mul", [source] * 2), source])]
        )

    def compute(self, values: Array, drawn: Mapping[int, int]) -> Array:
        return np.asarray((np.asarray(values, np.float64) ** 3).sum())


@dataclass(frozen=True)
class SumOfCubes(Request[float]):
    """A request that a pass from elsewhere brings along."""

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[float]:
        return _SumOfCubes(self.tensor)


class _SumOfCubes(Folder[float]):
    def __init__(self, tensor: str) -> None:
        self.cubes = Cubes(tensor)
        self.taps = (self.cubes,)
        self.sum = 0.0

    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        self.sum += float(arrays[self.cubes].squeeze())

    def result(self) -> float:
        return self.sum


def test_a_request_from_elsewhere_is_answered_in_the_graph(sessions: list[list[str]]) -> None:
    data = samples()
    observer = Observer(graph(), data)
    answers = observer.ask([SumOfCubes("h"), MinMax("h")])
    cubes: float = answers[SumOfCubes("h")]
    expected = -sum(float((feeds["x"].astype(np.float64) ** 3).sum()) for feeds, _ in data.held)
    assert cubes == pytest.approx(expected, rel=1e-5)
    (outputs,) = sessions
    assert outputs[0].endswith("ReduceSum")
    assert outputs[1:] == ["h_ReduceMin", "h_ReduceMax", "h_ReduceMean"]
    assert Walk(graph(), data).ask(SumOfCubes("h")) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("opset", [9, 13, 18])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("tensor", ["x", "h"])
def test_mean_square(opset: int, axis: int, tensor: str) -> None:
    data = samples((2, 3, 4), (1, 3, 4))
    request = MeanSquare(tensor, axis)
    answer = Observer(graph(opset), data).ask([request])[request]
    values = np.concatenate([feeds["x"] for feeds, _ in data.held]).astype(np.float64)
    others = (0, 2) if axis == 1 else (0, 1)
    np.testing.assert_allclose(answer, (values**2).mean(axis=others), rtol=1e-6)
    np.testing.assert_allclose(Walk(graph(opset), data).ask(request), answer, rtol=1e-6)


def test_mean_output_keeps_every_position() -> None:
    data = samples((2, 3, 4), (3, 3, 4))
    answer = Observer(graph(), data).ask([MeanOutput("h")])[MeanOutput("h")]
    values = np.concatenate([feeds["x"] for feeds, _ in data.held]).astype(np.float64)
    np.testing.assert_allclose(answer, -values.mean(axis=0), rtol=1e-12)


def fixed(count: int) -> tuple[Graph, Stub]:
    """A model that takes three rows, the last feed with ``count`` real ones."""
    made = graph()
    made.main.proto.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    data = samples((3, 3, 4), (3, 3, 4))
    data.held[1] = (data.held[1][0], count)
    return made, data


def test_rows_that_fill_up_a_fixed_batch_do_not_count() -> None:
    made, data = fixed(1)
    requests = MeanOutput("h"), Values("h"), MeanSquare("h")
    mean, values, square = Observer(made, data).ask(requests).values()
    real = np.concatenate([-feeds["x"][:count] for feeds, count in data.held])
    np.testing.assert_array_equal(np.concatenate(values), real)
    np.testing.assert_allclose(mean, real.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(square, (real.astype(np.float64) ** 2).mean(axis=(0, 2)), rtol=1e-6)


def test_values_above_the_cap_are_refused() -> None:
    data = samples()
    request = Values("h", most_bytes=5 * 12 * 4)
    assert len(Observer(graph(), data).ask([request])[request]) == 5
    with pytest.raises(LimitError, match="values of tensor 'h' take more than"):
        Observer(graph(), data).ask([Values("h", most_bytes=5 * 12 * 4 - 1)])


def test_values_of_an_input_are_copies() -> None:
    data = samples()
    (first, *_) = Observer(graph(), data).ask([Values("x")])[Values("x")]
    assert not np.shares_memory(first, data.held[0][0]["x"])


@pytest.mark.parametrize("request_of", [MeanSquare, MeanOutput, Values, Gram])
def test_empty_tensors(request_of: type[Request[Any]]) -> None:
    made = Graph(parser.parse_model(TEXT.format(opset=17).replace("[N, 3, 4]", "[N, L, 4]")))
    request = request_of("h")
    answer: Any = Observer(made, samples((1, 0, 4))).ask([request])[request]
    flat: NDArray[Any] = np.concatenate(answer) if isinstance(answer, list) else answer
    assert not flat.any()


@pytest.mark.parametrize("request_of", [MeanSquare, MeanOutput, Values, Gram])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named(request_of: type[Request[Any]], bad: float) -> None:
    data = samples()
    data.held[3][0]["x"][0, 1, 2] = bad
    request, observer = request_of("h"), Observer(graph(), data)
    words = "tensor 'h' holds (NaN or infinite values|values that are infinite or too large)"
    for _ in range(2):
        with pytest.raises(DataError, match=words):
            observer.ask([request])[request]
    walk = Walk(graph(), data)
    with pytest.raises(DataError, match=words):
        walk.ask(request)


def test_values_too_large_to_be_squared_are_not_said_to_be_nan() -> None:
    data = samples()
    data.held[3][0]["x"][0, 1, 2] = 3e38
    request = MeanSquare("h")
    answers = Observer(graph(), data).ask([request])
    with pytest.raises(DataError, match="values that are infinite or too large to be squared on"):
        answers[request]


def test_positions_may_not_change() -> None:
    made = Graph(parser.parse_model(TEXT.format(opset=17).replace("[N, 3, 4]", "[N, L, 4]")))
    with pytest.raises(DataError, match=r"positions \[3, 4\] on one sample and \[2, 4\] on"):
        Observer(made, samples((1, 3, 4), (1, 2, 4))).ask([MeanOutput("h")])[MeanOutput("h")]


def test_answers_read_like_a_mapping() -> None:
    answers = Answers({MinMax("a"): (0.0, 1.0)})
    assert answers == {MinMax("a"): (0.0, 1.0)}
    assert MinMax("b") not in answers
    low, high = answers[MinMax("a")]
    assert (low, high) == (0.0, 1.0)
