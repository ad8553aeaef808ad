"""One pass driven: what is kept, what is forgotten, and how it is said."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest

from graphopt.contract.passes import Changes, Context, MinMax, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.contract.settings import Limits
from graphopt.errors import LimitError, PassError
from graphopt.graph.graph import Graph
from graphopt.observe.request import Answers
from graphopt.passes.cleanup import EliminateDead, FuseBatchnorm
from graphopt.run.drive import drive
from graphopt.run.limits import LOSSLESS_DB
from graphopt.run.means import Means
from graphopt.run.record import Broken
from graphopt.run.stage import Stage
from graphopt.testing import MODELS, staged


class _Test(Pass):
    name = "eliminate-dead"  # any known name, for the spec text in the record


@dataclass(frozen=True, kw_only=True)
class Halve(_Test):
    """Halves a weight and calls it lossless."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        constant = graph.main.constant("W2")
        assert constant is not None
        constant.set(constant.values / np.float32(2))
        changes.edit("W2", "halved")
        return changes


@dataclass(frozen=True, kw_only=True)
class Halve20(Halve):
    """The same, and honest about it."""

    lossy: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Break(_Test):
    """Leaves a node that reads what nothing computes."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        graph.main.nodes[-2].input[0] = "nowhere"
        graph.main.touch()
        changes.edit("graph", "broken")
        return changes


@dataclass(frozen=True, kw_only=True)
class Refuse(_Test):
    """Refuses after an edit, which a pass should not do; the edit must not stay."""

    def run(self, graph: Graph, context: Context) -> Changes:
        graph.main.remove([graph.main.nodes[0]])
        raise PassError("not with this model")


@dataclass(frozen=True, kw_only=True)
class Ask(_Test):
    """Asks for statistics and leaves the answers in its changes."""

    requires = (CalibrationSamples(),)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        low, high = context.observe([MinMax("r1"), MinMax("x")])[MinMax("r1")]
        changes.skip("r1", f"{low >= 0} {high > low}")
        return changes


@dataclass(frozen=True, kw_only=True)
class Explode(Halve20):
    """Leaves a weight that is no number."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = super().run(graph, context)
        constant = graph.main.constant("W2")
        assert constant is not None
        constant.set(constant.values * np.float32(np.nan))
        return changes


@dataclass(frozen=True, kw_only=True)
class Scale(_Test):
    """Multiplies a weight; as a repair it takes back what another one did."""

    factor: Annotated[float, Option("factor")] = 0.5
    lossy: ClassVar[bool] = True

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        constant = graph.main.constant("W2")
        assert constant is not None
        constant.set(constant.values * np.float32(self.factor))
        changes.edit("W2", "scaled")
        return changes


@dataclass(frozen=True, kw_only=True)
class Repair(Scale):
    """A scale that counts as a repair."""

    joins: ClassVar[bool] = True
    must_help: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Reference(_Test):
    """Says whether the float model that it is shown is the one expected."""

    expected: Annotated[Any, Option("a graph")] = None

    def __post_init__(self) -> None:  # a graph is no option that text could give
        pass

    def run(self, graph: Graph, context: Context) -> Changes:
        return Changes(nothing="seen" if context.reference is self.expected else "another one")


@dataclass(frozen=True, kw_only=True)
class Remove(Scale):
    """Says that it removed channels, and what it was told of those removed before it."""

    left: Annotated[Any, Option("positions")] = ()

    def __post_init__(self) -> None:
        pass

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = super().run(graph, context)
        told = {place: each.tolist() for place, each in context.kept.items()}
        changes.skip("graph", str(told))
        changes.kept = {("r1", 1): np.array(self.left)}
        return changes


def _staged(**options: Any) -> tuple[Stage, Means]:
    return staged(MODELS["cnn"](), **options)


def _bytes(graph: Graph) -> bytes:
    written: bytes = graph.to_model().SerializeToString(deterministic=True)
    return written


def test_a_pass_that_holds_its_promise_stays() -> None:
    stage, means = _staged()
    outcome = drive(FuseBatchnorm(), stage, means)
    assert outcome.status == "done"
    assert outcome.quality is not None
    assert outcome.quality.worst_db is not None
    assert outcome.quality.worst_db > LOSSLESS_DB
    assert len(outcome.changes.edits) == 1
    assert len(outcome.stage.graph.main.nodes) == len(stage.graph.main.nodes) - 1
    assert outcome.stage.origin is None


@pytest.mark.parametrize(
    ("item", "status", "words", "limit"),
    [
        (Halve(), "rolled back", "lossless asks 90 dB", "lossless"),
        (Break(), "rolled back", "nowhere", "valid"),
        (Explode(), "rolled back", "sample 0: NaN where the model before has none", "finite"),
        (Refuse(), "refused", "not with this model", None),
        (EliminateDead(), "nothing to do", "found nothing in this model that it changes", None),
    ],
)
def test_what_breaks_a_promise_leaves_no_trace(
    item: Pass, status: str, words: str, limit: str | None
) -> None:
    stage, means = _staged()
    before = _bytes(stage.graph)
    outcome = drive(item, stage, means)
    assert outcome.status == status
    assert words in outcome.reason
    assert (None if outcome.broken is None else outcome.broken.limit) == limit
    assert outcome.stage is stage
    assert _bytes(stage.graph) == before


@dataclass(frozen=True, kw_only=True)
class Leave(_Test):
    """Ends the process, as a script would."""

    def run(self, graph: Graph, context: Context) -> Changes:
        sys.exit(0)


def test_a_pass_does_not_end_the_process() -> None:
    outcome = drive(Leave(), *_staged())
    assert outcome.status == "refused"
    assert "tried to end the process (exit 0)" in outcome.reason


def test_strict_ends_the_run() -> None:
    stage, means = _staged(limits=Limits(strict=True))
    with pytest.raises(PassError, match="not with this model"):
        drive(Refuse(), stage, means)
    with pytest.raises(LimitError, match="lossless asks"):
        drive(Halve(), stage, means)


def test_a_lossy_pass_remembers_where_the_model_was_float() -> None:
    stage, means = _staged()
    once = drive(Halve20(), stage, means)
    assert once.status == "done"
    assert once.stage.float_stage is stage
    assert drive(FuseBatchnorm(), once.stage, means).stage.float_stage is stage
    assert drive(Reference(expected=stage.graph), once.stage, means).reason == "seen"


def test_statistics_are_gathered_for_the_pass_that_needs_them() -> None:
    stage, means = _staged()
    assert drive(Ask(), stage, means).changes.skips[0].reason == "True True"
    outcome = drive(Ask(), *_staged(calibrated=False))
    assert outcome.status == "refused"
    assert "eliminate-dead needs calibration samples" in outcome.reason


def test_what_is_too_large_to_observe_costs_the_pass_and_not_the_run() -> None:
    stage, means = _staged()
    tight = replace(means, machine=replace(means.machine, memory_limit=16))
    outcome = drive(Ask(), Stage(stage.graph, tight), tight)
    assert outcome.status == "rolled back"
    assert "observing tensor" in outcome.reason
    strict = replace(tight, limits=Limits(strict=True))
    with pytest.raises(LimitError, match="observing tensor"):
        drive(Ask(), Stage(stage.graph, strict), strict)


def test_what_was_observed_of_a_state_is_known_to_every_trial_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, means = _staged()
    runs: list[int] = []

    def observed(graph: Graph, requests: list[Any], *_: Any, **__: Any) -> Answers:
        runs.append(len(requests))
        return Answers(dict.fromkeys(requests, (0.0, 1.0)))

    monkeypatch.setattr("graphopt.observe.observer.observe", observed)
    for _ in range(2):
        drive(Ask(), stage, means)
    assert [count for count in runs if count] == [2]


def test_only_the_edit_is_driven_where_nothing_is_to_be_verified() -> None:
    stage, means = _staged()
    outcome = drive(Halve(), stage, means, until="edit")
    assert (outcome.status, outcome.quality) == ("done", None)
    assert outcome.stage is not stage


def test_only_preconditions_are_checked_where_nothing_is_to_be_edited() -> None:
    stage, means = _staged()
    outcome = drive(Halve(), stage, means, until="check")
    assert (outcome.status, outcome.stage) == ("planned", stage)


def test_a_repair_that_does_not_help_is_forgotten() -> None:
    stage, means = _staged()
    worse = drive(Scale(), stage, means).stage
    outcome = drive(Repair(factor=0.5), worse, means)
    assert outcome.reason.startswith("it does not help: ")
    assert outcome.broken is not None
    assert outcome.broken.asked is not None
    assert outcome.broken.measured is not None
    assert outcome.broken.measured <= outcome.broken.asked
    assert drive(Repair(factor=2.0), worse, means).status == "done"


@pytest.mark.parametrize(
    ("item", "large", "held"),
    [
        (Halve20(), True, False),
        (Halve20(), False, True),
        (Halve(), True, True),  # is held against them
        (Repair(factor=2.0), True, True),
    ],
)
def test_a_large_models_answers_go_where_nothing_is_held_against_them(
    monkeypatch: pytest.MonkeyPatch, item: Pass, large: bool, held: bool
) -> None:
    monkeypatch.setattr("graphopt.run.stage.HELD_WEIGHTS_BYTES", 0 if large else 1 << 40)
    stage, means = _staged()
    before = drive(Scale(), stage, means).stage
    answers = before.answers
    drive(item, before, means)
    assert (before.__dict__.get("answers") is answers) is held


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (
            Broken("min-sqnr", 20.0, 11.04, "y"),
            "min-sqnr asks 20 dB, output 'y' is at 11.0 dB",
        ),
        (Broken("max-drop", 2.0, 3.1416, "top1 falls"), "max-drop allows 2, top1 falls by 3.14"),
        (Broken("helps", 9.0, 8.0), "it does not help: 8.0 dB, 9.0 dB without it"),
        (
            Broken("runs", detail="no kernel"),
            "onnxruntime refuses the result, rolled back: no kern",
        ),
    ],
)
def test_a_broken_limit_in_words(broken: Broken, words: str) -> None:
    assert str(broken).startswith(words)


def test_channels_left_add_up_over_passes_and_go_back_with_the_stage() -> None:
    stage, means = _staged()
    assert stage.kept == {}
    first = drive(Remove(left=[0, 2, 3]), stage, means)
    second = drive(Remove(left=[1, 2]), first.stage, means)
    told = [outcome.changes.skips[0].reason for outcome in (first, second)]
    assert told == ["{}", "{('r1', 1): [0, 2, 3]}"]
    assert second.stage.kept["r1", 1].tolist() == [2, 3]
    assert first.stage.kept["r1", 1].tolist() == [0, 2, 3]
    after = drive(FuseBatchnorm(), second.stage, means)
    assert (after.status, after.stage.kept) == ("done", second.stage.kept)
    broken = drive(Remove(factor=float("nan"), left=[0]), second.stage, means)
    assert (broken.status, broken.stage.kept) == ("rolled back", second.stage.kept)


def test_what_is_lossless_is_the_float_model_and_whole() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Lossless(Remove):
        lossy: ClassVar[bool] = False

    stage, means = _staged()
    outcome = drive(Lossless(factor=1.0, left=[0]), stage, means)
    assert (outcome.status, outcome.stage.kept) == ("done", {})
