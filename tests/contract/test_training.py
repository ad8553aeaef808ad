"""How long is trained."""

from __future__ import annotations

import pytest

from graphopt.contract.training import TrainOptions
from graphopt.errors import PassError, UsageError


@pytest.mark.parametrize(
    ("steps", "epochs", "total"),
    [(7, None, 7), (None, 2.0, 800), (None, 0.5, 200), (None, 0.002, 1), (None, None, 500)],
)
def test_steps_or_epochs_decide(steps: int | None, epochs: float | None, total: int) -> None:
    assert TrainOptions(steps=steps, epochs=epochs).total(400) == total


def test_steps_and_epochs_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="training: give epochs or steps, not both"):
        TrainOptions(steps=1, epochs=1.0)


def test_by_default_it_is_an_epoch_but_not_fewer_than_500_steps() -> None:
    assert TrainOptions().total(600) == 600


def test_less_than_a_step_is_refused() -> None:
    with pytest.raises(PassError, match=r"epochs=0.01 is less than one step; give steps="):
        TrainOptions(epochs=0.01).total(10)
