"""What weights keep to: no overflow, zeros, steps below their ceilings."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from graphopt.bridge.quantized.fake import FakeWeight, Grid
from graphopt.bridge.quantized.limits import (
    KeepLimits,
    WeightLimits,
    keep_pairs_safe,
    unsafe_pairs,
    walk_of,
)
from graphopt.bridge.quantized.points import Codes
from graphopt.numerics import saturation

WEIGHT = Codes(-127, 127, np.array(0), axis=0)
CONV = st.tuples(*(st.integers(1, 3) for _ in range(4)))


def conv(values: NDArray[Any]) -> FakeWeight:
    scales = np.linspace(0.5, 1.5, len(values)).astype(np.float32)
    return FakeWeight(torch.from_numpy(values.copy()), Grid(scales, WEIGHT, learned=True))


@given(arrays(np.int8, CONV))
def test_pairs_are_those_of_the_kernel(codes: NDArray[Any]) -> None:
    rows = walk_of("Conv")(torch.from_numpy(codes.astype(np.float32)))
    expected = saturation.unsafe_channels(saturation.conv_matrix(codes))
    np.testing.assert_array_equal(unsafe_pairs(rows).any(1).numpy(), expected)


@given(arrays(np.float32, CONV, elements=st.floats(-300, 300, width=32)))
def test_a_projected_weight_is_safe_and_the_rest_of_it_untouched(
    values: NDArray[Any],
) -> None:
    weight, walk = conv(values), walk_of("Conv")
    before = walk(weight.values.detach().clone())
    unsafe = unsafe_pairs(walk(weight.grid.integers(weight.values)))
    with torch.no_grad():
        assert keep_pairs_safe(weight, walk) == int(unsafe.sum())
        assert keep_pairs_safe(weight, walk) == 0
    after = walk(weight.values.detach())
    touched = torch.zeros_like(before, dtype=torch.bool)
    touched[:, 0:-1:2], touched[:, 1::2] = unsafe, unsafe
    assert torch.equal(before[~touched], after[~touched])
    assert bool((before[touched].sign() * after[touched] >= 0).all())


def test_matrices_are_walked_along_the_axis_of_the_sum() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(walk_of("MatMul")(matrix), matrix.t())
    assert torch.equal(walk_of("Gemm", transposed=True)(matrix), matrix)


def test_zeros_stay_and_steps_do_not_pass_their_ceiling() -> None:
    weight = conv(np.ones((1, 2, 1, 1), np.float32))
    zeros = torch.tensor([True, False]).reshape(1, 2, 1, 1)
    step = Grid(np.array(0.5, np.float32), Codes(0, 255, np.array(0)), learned=True)
    hook = KeepLimits([WeightLimits(weight, (), zeros)], [(step, 0.25)])
    hook.after_update(0)
    assert weight.values.flatten().tolist() == [0, 1]
    assert step.scale().item() == 0.25
