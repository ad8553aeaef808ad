from __future__ import annotations

import numpy as np
import pytest

from graphopt.run.guessing import guesses
from graphopt.run.quality import Metric

LABELS = np.array([0, 0, 0, 1, 2, -100])


@pytest.mark.parametrize("before", [20.0, 60.0])
def test_a_model_that_is_no_better_than_a_guess_is_told(before: float) -> None:
    words = guesses(Metric("top1", before, before), LABELS)
    assert words.startswith(f"top1 of the model as it came is {before:.2f} by these labels")
    assert "the commonest of them gives 60.00" in words


@pytest.mark.parametrize(
    ("metric", "labels"),
    [
        (Metric("top1", 60.1, 60.1), LABELS),
        (Metric("mse", 0.1, 0.1), LABELS),
        (Metric("top1", 10.0, 10.0), LABELS.astype(np.float32)),
        (Metric("top1", 100.0, 100.0), np.zeros(4, np.int64)),
        (Metric("top1", 10.0, 10.0), None),
        (None, LABELS),
    ],
)
def test_of_all_others_nothing_is(metric: Metric | None, labels: np.ndarray | None) -> None:
    assert guesses(metric, labels) == ""
