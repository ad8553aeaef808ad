"""Factorized convolutions against a convolution computed by its definition."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from graphopt.numerics.lowrank import Budget, decompose
from graphopt.numerics.lowrank_conv import (
    ConvFactors,
    Scheme,
    applies,
    compose,
    conv_cost,
    fold,
    unfold,
)
from graphopt.numerics.lowrank_forms import factorize_conv


def convolve(x: np.ndarray, weight: np.ndarray, strides: Sequence[int]) -> np.ndarray:
    """``(in, h, w)`` with ``(out, in, kh, kw)``, no padding."""
    kh, kw = weight.shape[2:]
    rows = range(0, x.shape[1] - kh + 1, strides[0])
    columns = range(0, x.shape[2] - kw + 1, strides[1])
    y = np.zeros((len(weight), len(rows), len(columns)))
    for (i, r), (j, c) in itertools.product(enumerate(rows), enumerate(columns)):
        y[:, i, j] = np.tensordot(weight, x[:, r : r + kh, c : c + kw], 3)
    return y


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_at_full_rank_two_convolutions_are_the_one(
    scheme: Scheme, strides: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 4, 3, 2))
    x = rng.standard_normal((4, 9, 11))
    found = decompose(unfold(weight, scheme))
    first, second = fold(*found.factors(len(found.values)), weight.shape, scheme)
    if scheme == "channel":
        assert first.shape[1:] == (4, 3, 2)
        assert second.shape[2:] == (1, 1)
        y = convolve(convolve(x, first, strides), second, (1, 1))
    else:
        assert first.shape[1:] == (4, 3, 1)
        assert second.shape[2:] == (1, 2)
        y = convolve(convolve(x, first, (strides[0], 1)), second, (1, strides[1]))
    np.testing.assert_allclose(y, convolve(x, weight, strides), atol=1e-4)


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_costs_are_counted_positions(scheme: Scheme, strides: tuple[int, int]) -> None:
    out, channels, kh, kw, rows, columns, rank = 16, 8, 3, 5, 10, 12, 2
    cost = conv_cost((out, channels, kh, kw), scheme, strides)
    positions = rows * columns  # of the output
    dense = positions * out * channels * kh * kw
    if scheme == "channel":
        factors = positions * (rank * channels * kh * kw + out * rank)
    else:
        factors = rows * columns * strides[1] * rank * channels * kh + positions * out * rank * kw
    assert cost.share(rank) == pytest.approx(factors / dense)
    assert cost.highest_rank == (dense // positions - 1) // cost.per_rank


def separable(rng: np.random.Generator, rank: int) -> np.ndarray:
    """A weight of that spatial rank, which has full rank in the other scheme."""
    left, right = rng.standard_normal((8 * 3, rank)), rng.standard_normal((rank, 3 * 16))
    return (left @ right).reshape(8, 3, 3, 16).transpose(3, 0, 1, 2)


def test_the_scheme_that_loses_less_is_chosen() -> None:
    rng = np.random.default_rng(0)
    spatial = factorize_conv(separable(rng, 3), Budget("energy", 0.999))
    assert spatial is not None
    assert (spatial.scheme, spatial.ranks) == ("spatial", (3,))
    assert spatial.energy == pytest.approx(1)
    mixed = rng.standard_normal((16, 2)) @ rng.standard_normal((2, 8 * 9))
    channel = factorize_conv(mixed.reshape(16, 8, 3, 3), Budget("energy", 0.999))
    assert channel is not None
    assert (channel.scheme, channel.ranks) == ("channel", (2,))
    assert channel.macs_share == pytest.approx(2 * (8 * 9 + 16) / (16 * 8 * 9))


def test_only_what_is_asked_for_is_considered() -> None:
    weight = separable(np.random.default_rng(0), 3)
    found = factorize_conv(weight, Budget("macs", 0.5), schemes=["channel"])
    assert found is not None
    assert found.scheme == "channel"
    assert found.macs_share <= 0.5


def test_kernels_of_one_row_have_no_spatial_form() -> None:
    weight = np.random.default_rng(0).standard_normal((16, 8, 1, 3))
    assert factorize_conv(weight, Budget("rank", 2), schemes=["spatial"]) is None
    found = factorize_conv(weight[:, :, 0], Budget("rank", 2), strides=(1,))
    assert found is not None
    assert [stage.weight.shape for stage in found.stages] == [(2, 8, 3), (16, 2, 1)]


def test_random_weights_that_must_keep_all_are_left_alone() -> None:
    weight = np.random.default_rng(0).standard_normal((16, 8, 3, 3))
    assert factorize_conv(weight, Budget("energy", 1.0)) is None


SCHEMES: tuple[Scheme, ...] = ("spatial", "channel", "tucker", "cp")


def convolve_chain(x: np.ndarray, found: ConvFactors, strides: Sequence[int]) -> np.ndarray:
    """One convolution after the other; a depthwise one channel by channel."""
    for stage in found.stages:
        own = [stride if axis in stage.axes else 1 for axis, stride in enumerate(strides)]
        if stage.depthwise:
            assert len(x) == len(stage.weight)
            channels = zip(x, stage.weight, strict=True)
            x = np.concatenate([convolve(c[None], w[None], own) for c, w in channels])
        else:
            x = convolve(x, stage.weight, own)
    return x


def macs(shape: Sequence[int], found: ConvFactors, strides: Sequence[int]) -> float:
    """Of the chain over those of the layer, counted from the weights and the positions."""
    total, done = 0.0, [False, False]
    for stage in found.stages:
        done = [axis in stage.axes or d for axis, d in enumerate(done)]
        positions = np.prod([1 if d else s for d, s in zip(done, strides, strict=True)])
        total += stage.weight.size * positions
    return total / float(np.prod(shape))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
@pytest.mark.parametrize("budget", [Budget("rank", 4), Budget("macs", 0.6), Budget("energy", 0.5)])
def test_chains_are_the_convolution_that_they_compose(
    scheme: Scheme, strides: tuple[int, int], budget: Budget
) -> None:
    rng = np.random.default_rng(0)
    weight = separable(rng, 2) + 0.3 * rng.standard_normal((16, 8, 3, 3))
    found = factorize_conv(weight, budget, strides, [scheme])
    assert found is not None
    made = compose(found.stages)
    assert made.shape == weight.shape
    lost = np.square(weight - made).sum() / np.square(weight).sum()
    assert found.energy == pytest.approx(1 - lost, abs=1e-6)  # the factors are float32
    assert found.macs_share == pytest.approx(macs(weight.shape, found, strides))
    assert found.macs_share < 1
    if budget.kind == "macs":
        assert found.macs_share <= budget.value
    elif budget.kind == "energy":
        assert found.energy >= budget.value
    x = rng.standard_normal((8, 9, 11))
    expected = convolve(x, made, strides)
    np.testing.assert_allclose(convolve_chain(x, found, strides), expected, atol=1e-5)


def test_tucker_leaves_out_mixes_of_all_channels() -> None:
    weight = np.random.default_rng(0).standard_normal((32, 4, 3, 3))
    found = factorize_conv(weight, Budget("rank", 6), schemes=["tucker"])
    assert found is not None
    assert (found.ranks, found.full_ranks) == ((6,), (32,))
    assert [stage.weight.shape for stage in found.stages] == [(6, 4, 3, 3), (32, 6, 1, 1)]
    channel = factorize_conv(weight, Budget("rank", 6), schemes=["channel"])
    assert channel is not None
    assert found.energy == pytest.approx(channel.energy)  # it is the same form then


@pytest.mark.parametrize(
    ("scheme", "full"),
    [("channel", (20,)), ("spatial", (24,)), ("tucker", (8, 20)), ("cp", (72,))],
)
def test_the_most_that_a_rank_could_be(scheme: Scheme, full: tuple[int, ...]) -> None:
    weight = np.random.default_rng(0).standard_normal((20, 8, 3, 3))
    found = factorize_conv(weight, Budget("rank", 4), schemes=[scheme])
    assert found is not None
    assert (found.kind, found.full_ranks) == (scheme, full)
    if scheme in ("channel", "spatial"):
        assert full == (np.linalg.matrix_rank(unfold(weight, scheme)),)


@pytest.mark.parametrize("scheme", ["tucker", "cp"])
@pytest.mark.parametrize("kernel", [(5,), (3, 3, 3)])
def test_any_number_of_kernel_axes(scheme: Scheme, kernel: tuple[int, ...]) -> None:
    weight = np.random.default_rng(0).standard_normal((12, 8, *kernel))
    found = factorize_conv(weight, Budget("rank", 3), (1,) * len(kernel), [scheme])
    assert found is not None
    assert [stage.axes for stage in found.stages] == [(), tuple(range(len(kernel))), ()]
    assert compose(found.stages).shape == weight.shape


def test_which_kernels_have_which_form() -> None:
    kernels = [(3, 3), (1, 3), (1, 1), (5,), (3, 3, 3)]
    able = {scheme: [applies(scheme, kernel) for kernel in kernels] for scheme in SCHEMES}
    assert able == {
        "spatial": [True, False, False, False, False],
        "channel": [True] * 5,
        "tucker": [True, True, False, True, True],
        "cp": [True, True, False, True, True],
    }
    weight = np.random.default_rng(0).standard_normal((16, 8, 1, 1))
    assert factorize_conv(weight, Budget("rank", 2), schemes=["tucker", "cp"]) is None
