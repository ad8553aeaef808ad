"""The running average against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphopt.bridge.training.average import Average


def module() -> torch.nn.Module:
    net = torch.nn.Module()
    net.register_parameter("weight", torch.nn.Parameter(torch.tensor([1.0, -2.0])))
    net.register_buffer("mean", torch.tensor([3.0]))
    net.register_buffer("count", torch.tensor([4]))
    return net


def moved(net: torch.nn.Module, step: int) -> None:
    with torch.no_grad():
        net.get_parameter("weight").copy_(torch.tensor([step * 1.0, step**2]))
        net.get_buffer("mean").fill_(step)
        net.get_buffer("count").fill_(step)


def test_it_follows_the_formula_with_a_decay_that_starts_low() -> None:
    net = module()
    average = Average(net, 0.6)
    expected = np.array([1.0, -2.0])
    for step in range(20):
        moved(net, step)
        average.update(step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.array([step, step**2])
    assert average.state()["weight"].numpy() == pytest.approx(expected, rel=1e-5)
    assert list(average.state()) == ["weight", "mean"]


def test_the_module_holds_it_for_a_while() -> None:
    net = module()
    average = Average(net, 0.5)
    moved(net, 7)
    with average.in_place():
        assert net.get_parameter("weight").tolist() == [1, -2]
        assert net.get_buffer("mean").tolist() == [3]
        assert net.get_buffer("count").tolist() == [7]
    assert net.get_parameter("weight").tolist() == [7, 49]
    with pytest.raises(KeyboardInterrupt), average.in_place():
        raise KeyboardInterrupt
    assert net.get_parameter("weight").tolist() == [7, 49]


def test_its_state_goes_on() -> None:
    net, other = module(), module()
    first, second = Average(net, 0.9), Average(other, 0.9)
    moved(net, 3)
    first.update(0)
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    for each, average in ((net, first), (other, second)):
        moved(each, 5)
        average.update(1)
    assert torch.equal(first.state()["weight"], second.state()["weight"])
