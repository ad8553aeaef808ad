"""What a stage holds, and what it lets go of."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.run import stage as module
from graphopt.run.stage import Stage
from graphopt.testing import MODELS, staged


@pytest.mark.parametrize(("bound", "held"), [(1 << 40, True), (0, False)])
def test_answers_of_a_large_model_are_let_go_of_and_computed_again(
    monkeypatch: pytest.MonkeyPatch, bound: int, held: bool
) -> None:
    first, means = staged(MODELS["mlp"](), calibrated=False)
    monkeypatch.setattr(module, "HELD_WEIGHTS_BYTES", bound)
    stage = Stage(first.graph.copy(), means)
    answers = stage.answers
    stage.rest()
    assert (stage.answers is answers) is held
    assert means.judge is not None
    right = means.judge.expected
    assert len(stage.answers) == len(answers) == len(right) > 0
    for before, after, expected in zip(answers, stage.answers, right, strict=True):
        np.testing.assert_array_equal(before["y"], after["y"])
        np.testing.assert_array_equal(after["y"], expected["y"])
