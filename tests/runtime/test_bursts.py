"""Rounds of bursts, on clocks that the test turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from onnx import parser

from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.bursts import Clocks, Runner, measure, runner
from graphopt.runtime.latency import Clock, ratio, timed
from graphopt.runtime.session import Session

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }
"""


class Machine:
    """Its clocks go on only where a model runs; others keep it ``busy`` in between."""

    def __init__(self, busy: Callable[[], float] = lambda: 0.0) -> None:
        self.wall = self.worked = 0.0
        self.busy, self.turns = busy, list[str]()

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall, lambda: self.worked, lambda: 2 * self.worked)

    def session(self, name: str, seconds: float) -> Session:
        return Fake(self, name, seconds)


class Fake(Session):
    def __init__(self, machine: Machine, name: str, seconds: float) -> None:
        self.machine, self.name, self.seconds = machine, name, seconds

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        self.machine.worked += self.seconds
        self.machine.wall += self.seconds + self.machine.busy()
        self.machine.turns.append(self.name)
        return {}


def pair(machine: Machine, *seconds: float) -> list[Runner]:
    return [Runner(machine.session(n, s), {}) for n, s in zip("ab", seconds, strict=True)]


def moods() -> Callable[[], float]:
    """What others take: the same for no two bursts in a row."""
    draw: Iterator[float] = cycle(np.random.default_rng(0).exponential(0.2, 997))
    return lambda: next(draw)


def test_both_clocks_are_read() -> None:
    machine = Machine()
    first, second = measure(pair(machine, 0.02, 0.05), rounds=6, clocks=machine.clocks)
    assert first.wall.bursts_ms == pytest.approx([20.0] * 6)
    assert second.processor.bursts_ms == pytest.approx([50.0] * 6)


def test_a_busy_machine_is_heard_by_the_wall_only() -> None:
    machine = Machine(moods())
    found = measure(pair(machine, 0.02, 0.01), rounds=20, seconds=1e9, clocks=machine.clocks)
    assert found[0].wall.median_ms > 40
    assert ratio(found[1].processor, found[0].processor).median == pytest.approx(0.5)
    told = timed(found)[1]
    assert told.ratio.clock == "processor"
    assert told.ratio.median == pytest.approx(0.5)


def test_short_runs_are_repeated_however_busy_the_machine_is() -> None:
    machine = Machine(lambda: 1.0)
    measure(pair(machine, 0.001, 0.02), rounds=1, seconds=1e9, clocks=machine.clocks)
    burst = machine.turns[2:]  # one run of each took the second that warming up may take
    assert burst.count("a") == 20 * burst.count("b")


def test_every_model_runs_in_every_round_and_none_always_first() -> None:
    machine = Machine()
    measure(pair(machine, 0.02, 0.02), rounds=4, clocks=machine.clocks)
    rounds = machine.turns[2 * 3 :]  # behind the runs that warm up
    assert [set(rounds[i : i + 2]) for i in range(0, 8, 2)] == [{"a", "b"}] * 4
    assert rounds[0::2].count("a") == 2


def test_slow_models_get_fewer_rounds() -> None:
    machine = Machine()
    (times,) = measure(
        [Runner(machine.session("a", 7.0), {})], rounds=1000, seconds=0.0, clocks=machine.clocks
    )
    assert len(times.wall.bursts_ms) == 5


@pytest.mark.parametrize(
    ("busy", "settled", "clock", "rounds"),
    [
        (False, 0.0, None, 12),  # all that are asked for
        (False, 0.02, None, 10),
        (True, 0.0, None, 24),  # the clocks disagree: as many again
        (True, 0.02, None, 12),  # the processor's ratio is steady by then
        (True, 0.0, "processor", 12),  # the wall is not asked
        (True, 0.02, "processor", 10),
    ],
)
def test_no_round_more_than_is_needed(
    busy: bool, settled: float, clock: Clock | None, rounds: int
) -> None:
    machine = Machine(moods()) if busy else Machine()
    seen: list[tuple[int, int]] = []
    found = measure(
        pair(machine, 0.02, 0.01),
        rounds=12,
        seconds=1e9,
        settled=settled,
        clock=clock,
        progress=lambda *at: seen.append(at),
        clocks=machine.clocks,
    )
    assert [len(each.wall.bursts_ms) for each in found] == [rounds, rounds]
    assert seen[-1] == (rounds, 24 if rounds > 12 else 12)


def test_a_session_of_one_thread_is_read_by_the_processor() -> None:
    machine = Machine()
    model = Runner(machine.session("all", 0.02), {}, machine.session("one", 0.04))
    (found,) = measure([model], rounds=3, clocks=machine.clocks)
    assert found.wall.median_ms == pytest.approx(20)
    assert found.processor.median_ms == pytest.approx(40)


def test_several_threads_without_a_second_session_are_summed() -> None:
    machine = Machine()
    model = Runner(machine.session("all", 0.02), {}, None, threads=2)
    (found,) = measure([model], rounds=3, clocks=machine.clocks)
    assert found.processor.median_ms == pytest.approx(2 * found.wall.median_ms)


@pytest.mark.parametrize(
    ("threads", "light", "second", "read"),
    [(1, True, False, 1), (2, True, True, 1), (2, False, False, 2)],
)
def test_a_second_session_only_beside_several_threads_and_where_it_is_light(
    threads: int, light: bool, second: bool, read: int
) -> None:
    graph = Graph(parser.parse_model(MODEL))
    session = Session(graph, threads=threads)
    made = runner(graph, {}, session, threads=threads, light=light)
    assert (made.alone is not None, made.threads) == (second, read)
