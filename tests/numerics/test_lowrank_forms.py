"""Chains in the metric of the data against outputs computed from the rows."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.numerics.lowrank import Budget
from graphopt.numerics.lowrank_conv import Scheme, compose
from graphopt.numerics.lowrank_forms import ConvForms, factorize_conv

SCHEMES: tuple[Scheme, ...] = ("spatial", "channel", "tucker", "cp")
SHAPE = (16, 8, 3, 3)


def _case(shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A weight, and rows of which some directions are loud and most are not."""
    rng = np.random.default_rng(0)
    width = int(np.prod(shape[1:]))
    mixes = rng.standard_normal((width, width)) * np.exp(-np.arange(width) / 12)[:, None]
    return rng.standard_normal(shape), rng.standard_normal((500, width)) @ mixes


def _kept(rows: np.ndarray, weight: np.ndarray, made: np.ndarray) -> float:
    outputs = rows @ weight.reshape(len(weight), -1).T
    lost = outputs - rows @ made.reshape(len(weight), -1).T
    return 1 - float(np.square(lost).sum() / np.square(outputs).sum())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_outputs_keep_more_than_with_factors_of_the_weight(scheme: Scheme) -> None:
    weight, rows = _case()
    budget = Budget("macs", 0.5)
    plain = factorize_conv(weight, budget, schemes=[scheme])
    forms = ConvForms(weight, gram=rows.T @ rows)
    rough = forms.at(scheme, budget)
    assert plain is not None
    assert rough is not None
    done = forms.fitted(rough)
    kept = [_kept(rows, weight, compose(each.stages)) for each in (plain, rough, done)]
    assert done.energy == pytest.approx(kept[2], abs=1e-6)
    assert rough.energy == pytest.approx(kept[1], abs=1e-6)
    assert kept[0] + 0.1 < kept[1] <= kept[2] + 1e-6
    assert (done.ranks, done.macs_share) == (rough.ranks, rough.macs_share)
    assert [each.weight.shape for each in done.stages] == [
        each.weight.shape for each in rough.stages
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_energy_is_that_of_the_outputs(scheme: Scheme, share: float) -> None:
    weight, rows = _case()
    found = factorize_conv(weight, Budget("energy", share), schemes=[scheme], gram=rows.T @ rows)
    assert found is not None
    assert _kept(rows, weight, compose(found.stages)) >= share - 0.02  # it was told of a bound


def test_channel_is_the_best_that_any_chain_of_that_rank_can_be() -> None:
    weight, rows = _case()
    found = factorize_conv(weight, Budget("rank", 3), schemes=["channel"], gram=rows.T @ rows)
    assert found is not None
    values = np.linalg.svd(rows @ weight.reshape(len(weight), -1).T)[1]
    best = float(np.square(values[:3]).sum() / np.square(values).sum())
    assert found.energy == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("scheme", "shape", "rank"),
    [("tucker", (32, 4, 3, 3), 6), ("tucker", (4, 32, 3, 3), 6), ("tucker", (12, 8, 5), 3),
     ("cp", (12, 8, 3, 3, 3), 3), ("channel", (12, 8, 1, 1), 3)],
)  # fmt: skip
def test_mixes_of_all_channels_and_other_kernels(
    scheme: Scheme, shape: tuple[int, ...], rank: int
) -> None:
    weight, rows = _case(shape)
    strides = (1,) * (len(shape) - 2)
    found = factorize_conv(weight, Budget("rank", rank), strides, [scheme], gram=rows.T @ rows)
    plain = factorize_conv(weight, Budget("rank", rank), strides, [scheme])
    assert found is not None
    assert plain is not None
    assert [each.weight.shape for each in found.stages] == [
        each.weight.shape for each in plain.stages
    ]
    assert found.energy == pytest.approx(_kept(rows, weight, compose(found.stages)), abs=1e-6)
    assert found.energy > _kept(rows, weight, compose(plain.stages))


@pytest.mark.parametrize("scheme", ["spatial", "tucker", "cp"])
def test_all_factors_have_like_ranges(scheme: Scheme) -> None:
    weight, rows = _case()
    found = factorize_conv(weight, Budget("rank", 4), schemes=[scheme], gram=rows.T @ rows)
    assert found is not None
    norms = [float(np.linalg.norm(each.weight)) for each in found.stages]
    assert max(norms) < 2 * min(norms)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_is_made_of_nothing(scheme: Scheme) -> None:
    _, rows = _case()
    found = factorize_conv(np.zeros(SHAPE), Budget("rank", 3), schemes=[scheme], gram=rows.T @ rows)
    assert found is not None
    assert found.energy == 1
    assert not compose(found.stages).any()
