"""How long is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from graphopt.bridge.training.options import TrainOptions
from graphopt.errors import PassError

Options = Callable[..., TrainOptions]


@pytest.mark.parametrize(
    ("steps", "epochs", "total"),
    [(7, None, 7), (None, 2.0, 800), (None, 0.5, 200), (None, 0.002, 1), (None, None, 500)],
)
def test_steps_or_epochs_decide(
    steps: int | None, epochs: float | None, total: int, options: Options
) -> None:
    assert options(steps=steps, epochs=epochs).total(400) == total


def test_by_default_it_is_an_epoch_but_not_fewer_than_500_steps(options: Options) -> None:
    assert options(steps=None).total(600) == 600


def test_less_than_a_step_is_refused(options: Options) -> None:
    with pytest.raises(PassError, match=r"epochs=0.01 is less than one step; give steps="):
        options(steps=None, epochs=0.01).total(10)
