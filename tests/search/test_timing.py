"""What of a candidate's time counts for the choice. Nothing is timed: bursts are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from graphopt.contract.settings import Machine
from graphopt.contract.spec import parse_passes
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run.means import Means
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.runtime.bursts import Runner
from graphopt.runtime.latency import SAME, Readings, Times
from graphopt.search import timing
from graphopt.search.candidate import Candidate
from graphopt.search.timing import ratios
from graphopt.testing import model_from_text, staged

MLP = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N, 64] x) => (float[N, 64] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }
"""
TABLE = """<ir_version: 8, opset_import: ["" : 13]>
g (int64[4] x) => (float[4, 64] y) { e = Gather(t, x) r = Relu(e) y = MatMul(r, w) }
"""


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[list[Runner]]:
    """What was timed together: the first takes 2 ms of the processor, each other one 1 ms.

    By the wall the others take ten times as long.
    """
    found: list[list[Runner]] = []

    def fake(runners: Sequence[Runner], **options: Any) -> list[Readings]:
        assert options["clock"] == "processor"
        found.append(list(runners))
        first = Readings(Times((2.0,) * 9), Times((2.0,) * 9))
        return [first, *[Readings(Times((20.0,) * 9), Times((1.0,) * 9))] * (len(runners) - 1)]

    monkeypatch.setattr(timing, "measure", fake)
    return found


def model(text: str = MLP) -> Graph:
    shapes = {"w": (64, 64), "v": (64, 64), "t": (99, 64)}
    names = [name for name in shapes if f", {name})" in text or f"({name}," in text]
    return io.load(model_from_text(text, {name: shapes[name] for name in names}))


def tried(stage: Stage, means: Means, *specs: str) -> tuple[Candidate, list[Candidate]]:
    def candidate(spec: str) -> Candidate:
        made, records = run_passes(stage, means, parse_passes(spec) if spec else [])
        assert all(record.status == "done" for record in records)
        return Candidate("static", spec, [], made, records, io.size(made.graph))

    return candidate(""), [candidate(spec) for spec in specs]


def test_the_processor_time_of_one_thread_counts(groups: list[list[Runner]]) -> None:
    stage, means = staged(model())
    base, forms = tried(stage, means, "quantize-dynamic", "quantize-static")
    found = ratios(base, forms, means)
    assert [(each.median, each.clock) for each in found] == [(0.5, "processor")] * 2
    (together,) = groups
    assert [(each.alone, each.threads) for each in together] == [(None, 1)] * 3


@pytest.mark.parametrize(
    ("first", "again", "slower", "timings"),
    [(2.2, 1.9, False, 2), (2.2, 2.2, True, 2), (2.8, 1.9, True, 1), (1.9, 2.2, False, 1)],
)
@pytest.mark.parametrize(("threads", "limit"), [(1, None), (2, None), (1, 1 << 30)])
def test_one_that_is_a_little_slower_is_timed_again_in_other_sessions(
    monkeypatch: pytest.MonkeyPatch,
    first: float,
    again: float,
    slower: bool,
    timings: int,
    threads: int,
    limit: int | None,
) -> None:
    taken: list[list[int]] = []
    held: list[Any] = []

    def fake(runners: Sequence[Runner], **_: Any) -> list[Readings]:
        others = [2.0, *[again if taken else first] * (len(runners) - 1)]
        if len(others) > 2:
            others[2] = 1.0  # the second form is fast in any case
        taken.append([id(each.session) for each in runners])
        held.extend(each.session for each in runners)
        return [Readings(Times((ms,) * 9), Times((ms,) * 9)) for ms in others]

    monkeypatch.setattr(timing, "measure", fake)
    stage, means = staged(model())
    means = replace(means, machine=Machine(threads=threads, memory_limit=limit))
    base, forms = tried(Stage(stage.graph, means), means, "quantize-dynamic", "quantize-static")
    found = ratios(base, forms[: 1 if limit else 2], means)
    assert found[0].slower is slower
    assert len(taken) == timings
    if not limit:
        assert all({*taken[0]}.isdisjoint(later) for later in taken[1:])
        assert found[1].median == 0.5
        assert [len(each) for each in taken] == [3, 2][:timings]


@pytest.mark.parametrize("spec", ["quantize-weights", "mask-weights{min_size=4}"])
def test_a_form_that_folds_to_float_is_not_timed(groups: list[list[Runner]], spec: str) -> None:
    stage, means = staged(model())
    base, forms = tried(stage, means, spec)
    assert ratios(base, forms, means) == [SAME]
    assert groups == []


def test_nor_is_one_of_a_higher_opset(groups: list[list[Runner]]) -> None:
    text = MLP.replace(": 13", ": 10").replace("Relu(h)", "Clip<min = -1.0, max = 1.0>(h)")
    stage, means = staged(model(text))
    base, forms = tried(stage, means, "upgrade-opset,quantize-weights")
    assert ratios(base, forms, means) == [SAME]


def test_a_table_of_codes_is_never_faster(groups: list[list[Runner]]) -> None:
    stage, means = staged(model(TABLE))
    base, forms = tried(stage, means, "quantize-weights{which=embeddings}")
    (found,) = ratios(base, forms, means)
    assert len(groups) == 1
    assert (found.median, found.clock) == (1.0, "processor")


@pytest.mark.parametrize(
    ("threads", "limit", "sizes", "several"),
    [(1, None, [3], 1), (2, None, [3], 1), (2, 1 << 30, [2, 2], 2), (1, 1 << 30, [2, 2], 1)],
)
def test_where_memory_is_short_sessions_are_few(
    groups: list[list[Runner]], threads: int, limit: int | None, sizes: list[int], several: int
) -> None:
    stage, means = staged(model())
    means = replace(means, machine=Machine(threads=threads, memory_limit=limit))
    stage = Stage(stage.graph, means)
    base, forms = tried(stage, means, "quantize-dynamic", "quantize-static")
    ratios(base, forms, means)
    assert [len(group) for group in groups] == sizes
    assert {each.threads for group in groups for each in group} == {several}


def test_nothing_is_timed_without_a_judge(groups: list[list[Runner]]) -> None:
    stage, means = staged(model(), judged=False)
    base, _ = tried(stage, means)
    assert ratios(base, [], means) == []
    assert groups == []
