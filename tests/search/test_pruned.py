"""Which shares of channels are tried within a limit, and what stands behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from graphopt.contract.settings import Limits
from graphopt.contract.spec import parse_passes
from graphopt.deadline import Deadline
from graphopt.errors import PassError
from graphopt.graph import io
from graphopt.passes.prune import PruneChannels
from graphopt.run.means import Means
from graphopt.run.quality import Quality
from graphopt.run.sequence import run_passes
from graphopt.runtime.latency import Ratio
from graphopt.search import pruned
from graphopt.search.candidate import Candidate, Kind
from graphopt.search.proposals import AFTER, Proposal
from graphopt.search.pruned import pruned_forms
from graphopt.testing import MODELS, staged

STAGE, MEANS = staged(io.load(MODELS["cnn"]()), limits=Limits(min_sqnr_db=10.0))


def form(kind: Kind, name: str, spec: str = "", ratio: float = 1.0) -> Candidate:
    passes = parse_passes(spec) if spec else []
    return Candidate(
        kind, name, passes, STAGE, [], 1000, Ratio(ratio, 0.01), Quality({"y": 20.0}), limited=True
    )


BASE = form("float", "float, cleaned")
LIFTED = form("float", "float, cleaned", "upgrade-opset")
STATIC = replace(
    form("static", "int8 static", "upgrade-opset,quantize-static,correct-bias", 0.5),
    stage=run_passes(
        STAGE, replace(MEANS, limits=Limits()), parse_passes("upgrade-opset,quantize-static")
    )[0],
)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Proposal]:
    seen: list[Proposal] = []

    def attempt(start: Candidate, means: Means, proposal: Proposal) -> Candidate:
        assert not means.limits.any
        seen.append(proposal)
        passes = [*start.passes, *parse_passes(proposal.spec)]
        return replace(start, kind=proposal.kind, name=proposal.name, passes=passes)

    monkeypatch.setattr(pruned, "attempt", attempt)
    monkeypatch.setattr(pruned, "_reached", lambda made, lifted: asked(made))
    return seen


def asked(made: Candidate) -> float:
    (share,) = (item.latency for item in made.passes if isinstance(item, PruneChannels))
    assert share is not None
    return share


def holding(least: float, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From that share on limits are held; what is lost grows with the square of what goes."""
    weighed = list[str]()

    def weigh(base: Candidate, new: Sequence[Candidate], means: Means) -> None:
        for item in new:
            weighed.append(item.name)
            share = int(item.name.split("%")[0].split()[-1]) / 100
            item.used = ((1 - share) / (1 - least)) ** 2
            item.problem = "" if item.used <= 1 else "too far"

    monkeypatch.setattr(pruned, "weigh", weigh)
    return weighed


@pytest.mark.parametrize(
    ("least", "shares"),
    [
        (0.29, [85, 70, 40, 30, 25]),
        (0.64, [85, 70, 65, 60]),
        (0.83, [85, 80]),
        (0.93, [85, 95, 90]),
    ],
)
def test_shares_near_what_the_limit_allows(
    least: float, shares: list[int], tried: list[Proposal], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(least, monkeypatch)
    found, messages = pruned_forms(BASE, LIFTED, [BASE], MEANS)
    assert [item.name for item in found] == [f"channels at {n}% of the MACs" for n in shares]
    assert [item.kind for item in found] == ["pruned"] * len(shares)
    assert messages == []
    assert found[0].passes[0].name == "upgrade-opset"
    specs = [f"prune-channels{{latency={n / 100:g},form=float}}" for n in shares]
    assert [each.spec.removesuffix(f",reconstruct-weights{AFTER}") for each in tried] == specs


def test_the_best_form_so_far_stands_behind_and_says_what_layers_compute_in(
    tried: list[Proposal], monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed = holding(0.83, monkeypatch)
    found, _ = pruned_forms(BASE, LIFTED, [STATIC], MEANS)
    names = [
        "channels at 85% of the MACs",
        "channels at 85% of the MACs, int8 static",
        "channels at 80% of the MACs, int8 static",
    ]
    assert [item.name for item in found] == names
    assert weighed == [*names[1:], names[0]]  # alone only the best of those that hold
    assert [item.name for item in found[1].passes] == [
        "upgrade-opset",
        "prune-channels",
        "reconstruct-weights",
        "eliminate-dead",
        "strip-metadata",
        "quantize-static",
        "correct-bias",
        "eliminate-dead",
        "strip-metadata",
    ]
    assert tried[0].spec.startswith("prune-channels{latency=0.85,form=int8},")


def test_behind_small_weights_layers_compute_in_floats(
    tried: list[Proposal], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(0.83, monkeypatch)
    weights = form("weights", "int8 weights only", "upgrade-opset,quantize-weights", 0.9)
    pruned_forms(BASE, LIFTED, [weights], MEANS)
    assert tried[0].spec.startswith("prune-channels{latency=0.85,form=float},")


def test_it_ends_where_no_more_can_go(
    tried: list[Proposal], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(0.3, monkeypatch)
    monkeypatch.setattr(pruned, "_reached", lambda made, lifted: max(asked(made), 0.79))
    found, messages = pruned_forms(BASE, LIFTED, [BASE], MEANS)
    names = ["channels at 85% of the MACs", "channels at 79% of the MACs"]
    assert [item.name for item in found] == names
    assert messages == ["no candidate with less than channels at 79% of the MACs: no more can go"]


def test_what_came_out_before_is_not_measured_again(
    tried: list[Proposal], monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed = holding(0.93, monkeypatch)
    monkeypatch.setattr(pruned, "_reached", lambda made, lifted: min(asked(made), 0.85))
    found, messages = pruned_forms(BASE, LIFTED, [BASE], MEANS)
    assert [item.name for item in found] == weighed == ["channels at 85% of the MACs"]
    assert messages == []
    assert len(tried) == 2


def test_the_share_is_the_one_that_is_left() -> None:
    assert pruned._reached(BASE, LIFTED) == 1.0  # nothing went


def test_without_a_limit_nothing_is_removed(tried: list[Proposal]) -> None:
    free = replace(BASE, limited=False)
    assert pruned_forms(free, LIFTED, [STATIC], MEANS) == ([], [])
    assert tried == []


def test_when_the_time_is_over_it_is_told(tried: list[Proposal]) -> None:
    late = replace(MEANS, deadline=Deadline(0.0))
    assert pruned_forms(BASE, LIFTED, [STATIC], late) == (
        [],
        ["not tried: channels at 85% of the time; the time limit of 0 s was over"],
    )


def test_why_nothing_can_be_removed(tried: list[Proposal], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(start: Candidate, means: Means, proposal: Proposal) -> Candidate:
        raise PassError("no layer has channels of its own")

    monkeypatch.setattr(pruned, "attempt", refuse)
    words = "no candidate with fewer channels: no layer has channels of its own"
    assert pruned_forms(BASE, LIFTED, [STATIC], MEANS) == ([], [words])
    nothing = replace(BASE, quality=None, problem="nothing to remove: it is an output")
    monkeypatch.setattr(pruned, "_reached", lambda made, lifted: 1.0)
    monkeypatch.setattr(pruned, "attempt", lambda *_: nothing)
    words = "no candidate with fewer channels: nothing to remove: it is an output"
    assert pruned_forms(BASE, LIFTED, [STATIC], MEANS) == ([], [words])
