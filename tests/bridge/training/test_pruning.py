"""Weights that go in the course of a training: how many, which, and that they stay away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphopt.bridge import to_torch
from graphopt.bridge.module import GraphModule
from graphopt.bridge.training.pruning import GradualPruning
from graphopt.bridge.training.schedule import sparsity
from graphopt.bridge.training.train import train
from graphopt.contract.training import LossOptions, PruningOptions, Training
from graphopt.data import open_data
from graphopt.errors import PassError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.numerics import scores
from graphopt.testing import model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
STEPS = 12
PLAN = PruningOptions(sparsity=0.75, rounds=4)
POOLS = (("W", "V"),)


def _net(seed: int = 0) -> Graph:
    text = f"""{HEAD} net (float[N,16] x) => (float[N,6] y) {{
      h = MatMul (x, W)
      b = Add (h, B)
      r = Relu (b)
      y = MatMul (r, V)
    }}"""
    return io.load(model_from_text(text, {"W": (16, 8), "B": (8,), "V": (8, 6)}, seed=seed))


def _weights(module: GraphModule) -> dict[str, np.ndarray]:
    return {name: weight.detach().numpy().copy() for name, weight in module.weights()}


def _zeros(module: GraphModule) -> int:
    return sum(int((w == 0).sum()) for name, w in _weights(module).items() if name != "B")


def _run(module: GraphModule, hook: GradualPruning, steps: int, seed: int = 0) -> list[int]:
    """Train a little towards random answers; the number of zeros after each step."""
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    random = torch.Generator().manual_seed(seed)
    found = []
    hook.began(0, steps)
    for step in range(steps):
        x, y = (torch.randn(8, size, generator=random) for size in (16, 6))
        optimizer.zero_grad()
        (module({"x": x})["y"] - y).square().mean().backward()
        hook.before_update(step)
        optimizer.step()
        hook.after_update(step)
        found.append(_zeros(module))
    return found


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 40),
    st.integers(1, 40),
)
def test_the_cubic_course_is_equation_1(first: float, last: float, done: int, rounds: int) -> None:
    done = min(done, rounds)
    t0, dt = 7, 3
    t = t0 + done * dt
    expected = last + (first - last) * (1 - (t - t0) / (rounds * dt)) ** 3
    assert sparsity("cubic", done / rounds, first, last) == pytest.approx(expected, abs=1e-12)


def test_the_even_course_is_a_line_and_once_is_all() -> None:
    assert [sparsity("even", n / 4, 0.1, 0.9) for n in range(5)] == pytest.approx(
        [0.1, 0.3, 0.5, 0.7, 0.9]
    )
    assert sparsity("once", 0.0, 0.1, 0.9) == 0.9


def test_zeros_grow_along_the_course_and_then_stay() -> None:
    module = to_torch(_net())
    hook = GradualPruning(module, replace(PLAN, until=2 / 3), POOLS)
    zeros = _run(module, hook, STEPS)
    size = 16 * 8 + 8 * 6
    course = [round(size * sparsity("cubic", n / 4, 0, 0.75)) for n in range(1, 5)]
    assert zeros == [0, *(z for z in course[:3] for _ in range(2)), *[course[3]] * 5]
    assert [hook.complete(step) for step in (0, 7, 8, 12)] == [False, False, True, True]


@pytest.mark.parametrize("criterion", ["magnitude", "movement", "taylor"])
@pytest.mark.parametrize("schedule", ["cubic", "even"])
@pytest.mark.parametrize("regrow", [False, True])
def test_the_count_is_exact(criterion: Any, schedule: Any, regrow: bool) -> None:
    module = to_torch(_net())
    plan = replace(PLAN, criterion=criterion, schedule=schedule, regrow=regrow, sparsity=0.9)
    zeros = _run(module, GradualPruning(module, plan, POOLS), STEPS)
    assert zeros[-1] == scores.zero_count(176, 0.9)
    assert zeros == sorted(zeros)


def test_once_prunes_before_the_first_step_and_counts_only_after_one() -> None:
    module = to_torch(_net())
    hook = GradualPruning(module, replace(PLAN, schedule="once"), POOLS)
    hook.began(0, STEPS)
    assert _zeros(module) == 132
    assert not hook.complete(0)
    assert hook.complete(1)


@given(st.floats(0, 1), st.integers(1, 30), st.floats(0.01, 1), st.booleans())
def test_pools_of_their_own_are_exact_each(
    share: float, rounds: int, until: float, regrow: bool
) -> None:
    module = to_torch(_net())
    plan = PruningOptions(sparsity=share, rounds=rounds, until=until, regrow=regrow)
    _run(module, GradualPruning(module, plan, (("W",), ("V",))), 4)
    for name in ("W", "V"):
        values = _weights(module)[name]
        assert (values == 0).sum() == scores.zero_count(values.size, share)


def test_what_goes_is_lowest_when_it_goes() -> None:
    module = to_torch(_net())
    before = _weights(module)
    GradualPruning(module, replace(PLAN, schedule="once"), POOLS).began(0, STEPS)
    after = _weights(module)
    gone = np.concatenate([np.abs(before[n])[after[n] == 0] for n in ("W", "V")])
    stays = np.concatenate([np.abs(before[n])[after[n] != 0] for n in ("W", "V")])
    assert gone.max() <= stays.min()


def test_movement_keeps_what_grows() -> None:
    module = to_torch(_net())
    options = PruningOptions(
        sparsity=0.5, schedule="even", rounds=1, until=0.1, criterion="movement"
    )
    hook = GradualPruning(module, options, (("V",),))
    hook.began(0, 10)
    weights = dict(module.weights())
    before = _weights(module)["V"]
    slopes = -weights["V"].detach().sign()
    slopes[:4] *= -1
    weights["V"].grad = slopes
    hook.before_update(0)
    hook.after_update(0)
    gone = _weights(module)["V"] == 0
    assert gone[:4].all(), "these would shrink"
    np.testing.assert_array_equal(_weights(module)["V"][4:], before[4:])


def test_without_regrow_what_went_never_returns_with_it_some_does() -> None:
    seen: dict[bool, bool] = {}
    for regrow in (False, True):
        module = to_torch(_net())
        hook = GradualPruning(module, replace(PLAN, regrow=regrow, rounds=3), POOLS)
        back = False
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        random = torch.Generator().manual_seed(1)
        hook.began(0, 60)
        for step in range(60):
            gone = {n: ~m for n, m in hook.masks.items()}
            optimizer.zero_grad()
            x, y = (torch.randn(8, size, generator=random) for size in (16, 6))
            (module({"x": x})["y"] - y).square().mean().backward()
            hook.before_update(step)
            optimizer.step()
            hook.after_update(step)
            back = back or any(bool((gone[n] & m).any()) for n, m in hook.masks.items())
        seen[regrow] = back
    assert seen == {False: False, True: True}


@pytest.mark.parametrize("name", ["2:4", "1:4", "4:8"])
def test_a_pattern_is_exact_in_every_group(name: Any) -> None:
    pattern = scores.PATTERNS[name]
    assert pattern is not None
    module = to_torch(_net())
    plan = replace(PLAN, pattern=name)
    hook = GradualPruning(module, plan, POOLS, axes={"W": 0, "V": 0})
    zeros = _run(module, hook, STEPS)
    assert zeros == sorted(zeros)
    assert zeros[0] < zeros[-1]
    for weight in ("W", "V"):
        groups = (_weights(module)[weight] != 0).T.reshape(-1, pattern.group)
        assert (groups.sum(1) == pattern.kept).all()


def test_weights_that_are_zero_already_count_and_stay() -> None:
    graph = _net()
    constant = graph.main.constant("W")
    assert constant is not None
    values = constant.values.copy()
    values[:3] = 0
    constant.set(values)
    for regrow in (False, True):
        module = to_torch(graph)
        hook = GradualPruning(module, replace(PLAN, regrow=regrow), POOLS)
        zeros = _run(module, hook, STEPS)
        assert zeros[-1] == 132
        assert not _weights(module)["W"][:3].any()


def test_an_average_of_weights_is_masked_before_it_is_judged() -> None:
    module = to_torch(_net())
    hook = GradualPruning(module, replace(PLAN, schedule="once"), POOLS)
    hook.began(0, STEPS)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(1)
    hook.judged()
    assert _zeros(module) == 132


@pytest.mark.parametrize("criterion", ["magnitude", "movement", "taylor"])
@pytest.mark.parametrize("regrow", [False, True])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_taken_up_again_ends_as_one_without_a_break(
    criterion: Any,
    regrow: bool,
    ema: float,
    options: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, teacher = _net(), _net(1)
    x = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    samples = open_data({"x": x}, graph)
    plan = replace(PLAN, criterion=criterion, regrow=regrow, until=0.75)

    def run(folder: Path) -> dict[str, np.ndarray]:
        module = to_torch(graph)
        training = Training(samples, teacher, threads=1, device="cpu", checkpoints=folder)
        hook = GradualPruning(module, plan, POOLS)
        losses = LossOptions(soft="mse")
        history = train(module, graph, training, losses, options(ema=ema), [hook])
        assert history.best_step >= 9
        assert _zeros(module) == 132
        return _weights(module)

    whole = run(tmp_path / "whole")
    after = GradualPruning.after_update

    def dies(self: GradualPruning, step: int) -> None:
        if step == 7:
            raise KeyboardInterrupt
        after(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(GradualPruning, "after_update", dies)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken")
    resumed = run(tmp_path / "broken")
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name], values)


def test_no_more_go_once_the_score_was_below_the_limit() -> None:
    module = to_torch(_net())
    plan = replace(PLAN, min_score=90.0, schedule="even", until=1.0)
    hook = GradualPruning(module, plan, POOLS)
    hook.began(0, 8)
    for step, score in ((2, 95.0), (4, 85.0), (6, 99.0)):
        hook.after_update(step - 1)
        hook.scored(step, score)
        assert hook.complete(step) == (step > 4)
    assert hook.stopped == 4
    assert _zeros(module) == 176 * 0.75 / 2
    other = to_torch(_net())
    again = GradualPruning(other, plan, POOLS)
    other.load_state_dict(module.state_dict())
    again.load(hook.state())
    again.began(6, 8)
    again.after_update(7)
    assert (again.stopped, _zeros(other)) == (4, 66)


def test_a_limit_needs_a_score() -> None:
    hook = GradualPruning(to_torch(_net()), replace(PLAN, min_score=90.0), POOLS)
    hook.began(0, 8)
    with pytest.raises(PassError, match="have no score"):
        hook.scored(0, None)
