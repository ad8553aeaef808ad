"""The plan: groups keep to the limit, the bound is stated and does not grow with the samples."""

from __future__ import annotations

from typing import Any

import pytest

from graphopt.errors import LimitError, Need
from graphopt.observe.extremes import HistogramOf, MinMax
from graphopt.observe.means import ChannelMean
from graphopt.observe.plan import plan_runs
from graphopt.observe.request import Request

SHAPES = {"a": (1, 1000), "b": (1, 2000), "c": (1, 500)}
MEGABYTE = 1 << 20


def test_all_in_one_run_where_there_is_room() -> None:
    requests: list[Request[Any]] = [MinMax("a"), MinMax("b"), MinMax("c")]
    plan = plan_runs(requests, SHAPES)
    assert plan.groups == (tuple(requests),)
    assert plan.bound_bytes == 2 * 4 * 3500
    assert str(plan) == (
        "3 statistics in one run over the samples, at most 1 MB beyond plain inference, however "
        "many samples"
    )


def test_what_is_asked_of_one_tensor_stays_together() -> None:
    requests: list[Request[Any]] = [MinMax("a"), MinMax("b"), ChannelMean("a"), MinMax("c")]
    plan = plan_runs(requests, SHAPES, 16_000)
    assert plan.groups == (
        (MinMax("a"), ChannelMean("a")),
        (MinMax("b"),),
        (MinMax("c"),),
    )
    assert plan.bound_bytes == 16_000


def test_histograms_take_their_bins() -> None:
    plan = plan_runs([HistogramOf("c", bins=100)], SHAPES)
    assert plan.bound_bytes == 2 * 4 * 500 + 8 * 100


def test_a_tensor_above_the_limit_is_named_with_what_it_needs() -> None:
    with pytest.raises(
        LimitError, match=r"'b' takes 16\.8 MB, the memory limit leaves 15\.7 MB$"
    ) as refusal:
        plan_runs([MinMax("b")], {"b": (2, MEGABYTE)}, 15 * MEGABYTE)
    assert refusal.value.needs == (Need.MEMORY_LIMIT,)


def test_nothing_asked_takes_nothing() -> None:
    plan = plan_runs([], {})
    assert (plan.groups, plan.bound_bytes) == ((), 0)
