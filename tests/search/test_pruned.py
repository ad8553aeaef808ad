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
from graphopt.run.means import Means
from graphopt.run.quality import Quality
from graphopt.runtime.latency import Ratio
from graphopt.search import pruned
from graphopt.search.candidate import Candidate, Kind
from graphopt.search.proposals import Proposal
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
STATIC = form("static", "int8 static", "upgrade-opset,quantize-static,correct-bias", 0.5)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Proposal]:
    seen: list[Proposal] = []

    def attempt(start: Candidate, means: Means, proposal: Proposal) -> Candidate:
        assert not means.limits.any
        seen.append(proposal)
        passes = [*start.passes, *parse_passes(proposal.spec)]
        return replace(start, kind=proposal.kind, name=proposal.name, passes=passes)

    monkeypatch.setattr(pruned, "_REMOVE", "mask-weights{{sparsity={share:g}}}")
    monkeypatch.setattr(pruned, "attempt", attempt)
    monkeypatch.setattr(pruned, "_reached", lambda made, lifted, share: share)
    return seen


def holding(least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From that share of the MACs on limits are held."""

    def weigh(base: Candidate, new: Sequence[Candidate], means: Means) -> None:
        for item in new:
            share = int(item.name.split("%")[0].split()[-1]) / 100
            item.problem = "" if share >= least else "too far"

    monkeypatch.setattr(pruned, "weigh", weigh)


@pytest.mark.parametrize(
    ("least", "shares"),
    [(0.3, [70, 50, 35]), (0.4, [70, 50, 35, 42]), (0.6, [70, 50, 60]), (0.8, [70, 85])],
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


def test_the_best_form_so_far_stands_behind(
    tried: list[Proposal], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(0.8, monkeypatch)
    found, _ = pruned_forms(BASE, LIFTED, [STATIC], MEANS)
    assert [item.name for item in found[:2]] == [
        "channels at 70% of the MACs",
        "channels at 70% of the MACs, int8 static",
    ]
    names = [item.name for item in found[1].passes]
    assert names == [
        "upgrade-opset",
        "mask-weights",
        "eliminate-dead",
        "quantize-static",
        "correct-bias",
        "eliminate-dead",
    ]


def test_it_ends_where_no_more_can_go(
    tried: list[Proposal], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(0.3, monkeypatch)
    monkeypatch.setattr(pruned, "_reached", lambda made, lifted, share: max(share, 0.59))
    found, messages = pruned_forms(BASE, LIFTED, [BASE], MEANS)
    names = ["channels at 70% of the MACs", "channels at 59% of the MACs"]
    assert [item.name for item in found] == names
    assert messages == ["no candidate with less than channels at 59% of the MACs: no more can go"]


def test_the_share_is_the_one_that_is_left() -> None:
    assert pruned._reached(BASE, LIFTED, 0.7) == 1.0  # nothing went


def test_without_a_limit_nothing_is_removed(tried: list[Proposal]) -> None:
    free = replace(BASE, limited=False)
    assert pruned_forms(free, LIFTED, [STATIC], MEANS) == ([], [])
    assert tried == []


def test_when_the_time_is_over_it_is_told(tried: list[Proposal]) -> None:
    late = replace(MEANS, deadline=Deadline(0.0))
    assert pruned_forms(BASE, LIFTED, [STATIC], late) == (
        [],
        ["not tried: channels at 70% of the MACs; the time limit of 0 s was over"],
    )


def test_why_nothing_can_be_removed(tried: list[Proposal], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(start: Candidate, means: Means, proposal: Proposal) -> Candidate:
        raise PassError("no layer has channels of its own")

    monkeypatch.setattr(pruned, "attempt", refuse)
    words = "no candidate with fewer channels: no layer has channels of its own"
    assert pruned_forms(BASE, LIFTED, [STATIC], MEANS) == ([], [words])
    nothing = replace(BASE, quality=None, problem="nothing to remove: it is an output")
    monkeypatch.setattr(pruned, "attempt", lambda *_: nothing)
    words = "no candidate with fewer channels: nothing to remove: it is an output"
    assert pruned_forms(BASE, LIFTED, [STATIC], MEANS) == ([], [words])
