"""Fake quantization against the paper's formula, and bit for bit against onnxruntime."""

from __future__ import annotations

import functools
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from torch import Tensor

from graphopt.bridge.quantized.fake import (
    FakeActivation,
    FakeBias,
    FakeWeight,
    Grid,
    fake_quantize,
)
from graphopt.bridge.quantized.points import Codes
from graphopt.graph.graph import Graph
from graphopt.numerics.grids import CODE_TYPES, CodeName
from graphopt.runtime.session import Session

LOW, HIGH = torch.tensor(-4.0), torch.tensor(3.0)


def codes_of(kind: CodeName, zero: int = 0, **changed: Any) -> Codes:
    found = CODE_TYPES[kind]
    return Codes(found.qmin, found.qmax, np.array(zero), **changed)


def gradients(x: Tensor, s: float, g: float = 1.0) -> tuple[Tensor, Tensor]:
    x, step = x.clone().requires_grad_(), torch.tensor(s, requires_grad=True)
    torch.autograd.backward(fake_quantize(x, step, LOW, HIGH, g).sum())
    assert x.grad is not None
    assert step.grad is not None
    return x.grad, step.grad


@given(st.floats(-5, 5), st.floats(0.1, 2))
def test_gradients_are_those_of_equations_3_and_5(value: float, s: float) -> None:
    x = torch.tensor([value], dtype=torch.float32)
    v = (x / s).item()
    to_x, to_s = gradients(x, s)
    if v <= -4:
        assert (to_x.item(), to_s.item()) == (0, -4)
    elif v >= 3:
        assert (to_x.item(), to_s.item()) == (0, 3)
    else:
        assert to_x.item() == 1
        assert to_s.item() == pytest.approx(round(v) - v, abs=1e-5)


def test_the_scale_of_the_gradient_multiplies_that_of_the_step_alone() -> None:
    x = torch.linspace(-6, 6, 41)
    whole, tenth = gradients(x, 0.7), gradients(x, 0.7, g=0.1)
    assert torch.equal(whole[0], tenth[0])
    assert tenth[1].item() == pytest.approx(0.1 * whole[1].item())


@pytest.mark.parametrize("s", [0.31, 0.9, 1.7])
def test_gradients_are_finite_differences_of_the_function_whose_rounding_error_is_fixed(
    s: float,
) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3

    v = x / s
    inside, error, clipped = (v > -4) & (v < 3), v.round() - v, v.clamp(-4, 3).round()

    def surrogate(x: Tensor, step: float) -> Tensor:
        return torch.where(inside, x + step * error, step * clipped)

    weights = torch.linspace(-1, 2, 200, dtype=torch.float64)
    eps = 1e-6
    by_s = (weights * (surrogate(x, s + eps) - surrogate(x, s - eps))).sum() / (2 * eps)
    by_x = weights * (surrogate(x + eps, s) - surrogate(x - eps, s)) / (2 * eps)
    given_x, step = x.clone().requires_grad_(), torch.tensor(s, dtype=torch.float64)
    step.requires_grad_()
    found = fake_quantize(given_x, step, LOW.double(), HIGH.double())
    torch.autograd.backward((weights * found).sum())
    assert step.grad is not None
    assert step.grad.item() == pytest.approx(by_s.item(), rel=1e-5)
    torch.testing.assert_close(given_x.grad, by_x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "zero", "positive"), [("uint8", 0, 255), ("uint8", 128, 127), ("int4", 0, 7)]
)
def test_the_gradient_of_a_step_is_divided_by_the_root_of_elements_times_levels(
    kind: CodeName, zero: int, positive: int
) -> None:
    grid = Grid(np.float32(0.01) * np.ones((), np.float32), codes_of(kind, zero), learned=True)
    x = torch.full((6, 2, 5), 100.0)  # beyond the grid: each element gives the largest code
    FakeActivation(grid)(x).sum().backward()
    assert grid.step.grad is not None
    expected = x.numel() * positive / np.sqrt(10 * positive)
    assert grid.step.grad.item() == pytest.approx(expected, rel=1e-5)


def test_each_channel_of_a_weight_has_a_step_of_its_own() -> None:
    scale = np.array([0.1, 0.2], np.float32)
    grid = Grid(scale, codes_of("int4", axis=0), learned=True)
    weight = FakeWeight(torch.tensor([[0.14, 5.0, -5.0], [0.14, 0.1, 0.31]]), grid)
    expected = torch.tensor([[1, 7, -8], [1, 0, 2]]) * torch.tensor([[0.1], [0.2]])
    torch.testing.assert_close(weight(), expected)
    weight().sum().backward()
    assert grid.step.grad is not None
    slopes = np.array([(1 - 1.4) + 7 - 8, (1 - 0.7) + (0 - 0.5) + (2 - 1.55)])
    np.testing.assert_allclose(grid.step.grad, slopes / np.sqrt(3 * 7), rtol=1e-5)


def test_blocks_share_a_step_along_their_axis() -> None:
    scale = np.array([[0.1, 0.2], [0.5, 1.0], [2.0, 4.0]], np.float32)
    grid = Grid(scale, codes_of("int4", axis=0, block=2), learned=True)
    values = torch.ones(5, 2) * 0.7
    steps = torch.tensor(np.repeat(scale, 2, 0)[:5])
    torch.testing.assert_close(grid.spread(values), steps)
    torch.testing.assert_close(FakeWeight(values, grid)(), (values / steps).round() * steps)


def test_a_step_that_fell_below_zero_counts_by_its_size() -> None:
    grid = Grid(np.array(0.5, np.float32), codes_of("uint8"), learned=True)
    with torch.no_grad():
        grid.step.neg_()
    assert grid.scale().item() == 0.5
    assert FakeActivation(grid)(torch.tensor([1.2])).item() == 1.0


def test_a_bias_follows_the_steps_of_its_layer() -> None:
    x = Grid(np.array(0.5, np.float32), codes_of("uint8"), learned=True)
    w = Grid(np.array([0.1, 0.3], np.float32), codes_of("int8", axis=0), learned=True)
    bias = FakeBias(torch.tensor([1.0, -2.0]), np.ones(2, np.float32), (x, w))
    np.testing.assert_allclose(bias.scale(), [0.05, 0.15], rtol=1e-6)
    assert bias.integers().tolist() == [20, -13]
    bias().sum().backward()
    assert bias.values.grad is not None
    assert bias.values.grad.tolist() == [1, 1]
    assert x.step.grad is None


def test_a_bias_too_large_for_32_bits_is_cut() -> None:
    bias = FakeBias(torch.tensor([1.0, -1.0]), np.full(2, 1e-12, np.float32), None)
    assert bias.integers().tolist() == [2**31 - 1, -(2**31)]


@functools.cache
def quantizer(kind: CodeName, zero: int) -> Session:
    """Q and DQ of onnxruntime; the scale is an input."""
    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[n] x, float s) => (float[n] y) {
        q = QuantizeLinear (x, s, z)
        y = DequantizeLinear (q, s, z)
    }"""
    model = onnx.parser.parse_model(text)
    values = np.array(zero).astype(CODE_TYPES[kind].dtype)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, "z"))
    return Session(Graph(model), threads=1, level="off")


@given(
    st.sampled_from([("uint8", 0), ("uint8", 130), ("int8", -3), ("uint4", 6), ("int4", 0)]),
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    st.floats(2.0**-10, 2.0**10, width=32),
    st.booleans(),
)
def test_it_computes_bit_for_bit_what_onnxruntime_computes(
    kind: tuple[CodeName, int], values: list[float], scale: float, half_way: bool
) -> None:
    x, s = np.array(values, np.float32), np.array(scale, np.float32)
    if half_way:  # ties, if the product is exact
        x = np.asarray((np.rint(x) + np.float32(0.5)) * s, np.float32)
    expected = quantizer(*kind).run({"x": x, "s": s})["y"]
    found = FakeActivation(Grid(s, codes_of(*kind), learned=False))(torch.from_numpy(x))
    np.testing.assert_array_equal(found.numpy(), expected)
