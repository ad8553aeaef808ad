"""What moves the weights."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from graphopt.bridge.training import optimizers


def weights(layout: torch.memory_format = torch.channels_last) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [
        nn.Parameter(torch.randn(3, 5, 3, 3, generator=generator).to(memory_format=layout)),
        nn.Parameter(torch.randn(7, generator=generator)),
        nn.Parameter(torch.randn(2, generator=generator)),
    ]


def step(optimizer: torch.optim.Optimizer, held: list[nn.Parameter], number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for weight in held[:2]:  # the third has no gradient
        weight.grad = torch.randn(weight.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_its_state_goes_on_bit_by_bit(kind: Literal["adam", "sgd"]) -> None:
    first, second = weights(), weights()
    whole = optimizers.make(kind, first, 0.1, 0.01)
    begun, resumed = (optimizers.make(kind, second, 0.1, 0.01) for _ in range(2))
    for number in range(6):
        step(whole, first, number)
        if number < 3:
            step(begun, second, number)
    stored = {name: tensor.clone().contiguous() for name, tensor in optimizers.state(begun).items()}
    optimizers.load_state(resumed, stored)
    for number in range(3, 6):
        step(resumed, second, number)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    again = optimizers.state(resumed)
    for name, tensor in optimizers.state(whole).items():
        assert torch.equal(tensor, again[name])


def test_before_the_first_step_there_is_nothing_to_store() -> None:
    assert optimizers.state(optimizers.make("adam", weights(), 0.1, 0)) == {}


def test_sgd_has_nesterov_momentum() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = optimizers.make("sgd", [weight], 0.1, 0.0)
    for _ in range(2):
        weight.grad = torch.tensor([1.0])
        optimizer.step()
    # v1 = 1, w -= .1 (1 + .9 v1); v2 = 1.9, w -= .1 (1 + .9 v2)
    assert float(weight.detach()) == pytest.approx(1 - 0.19 - 0.271)


def test_the_decay_of_adam_is_no_part_of_its_gradient() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = optimizers.make("adam", [weight], 0.1, 0.5)
    weight.grad = torch.tensor([0.0])
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(2 * (1 - 0.1 * 0.5))
