"""Figures of the held-out part against those of all samples at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from graphopt.bridge.training.figures import F1, R2, Alike, Figure, MeanRecall, Share


def whole(metric: Figure, *batches: Any) -> float:
    """The figure of batches that are counted one by one."""
    counts = np.zeros(metric.size)
    for batch in batches:
        counts += metric.counts(*batch).tolist()
    return metric.value([float(count) for count in counts])


def test_a_share_counts_decisions_that_count() -> None:
    found, wanted = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, -100])
    assert whole(Share("accuracy %"), (found, wanted, wanted >= 0)) == pytest.approx(200 / 3)
    assert whole(Share("accuracy %"), (found[:0], wanted[:0])) == 0


def test_mean_recall_is_the_mean_over_classes_that_have_members() -> None:
    wanted = torch.tensor([0, 0, 0, 0, 2, 2, -100])
    found = torch.tensor([0, 0, 0, 1, 2, 0, 2])
    batches = [(found[k], wanted[k], wanted[k] >= 0) for k in (slice(3), slice(3, 7))]
    assert whole(MeanRecall(4), *batches) == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    assert whole(MeanRecall(2), (wanted[4:6] > 0, wanted[4:6] > 0)) == 100
    assert whole(MeanRecall(2), (found[:0], wanted[:0])) == 0


def test_f1_is_the_mean_over_labels_that_occur() -> None:
    found = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]]) > 0
    wanted = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]]) > 0
    halves = [(found[:1], wanted[:1]), (found[1:], wanted[1:])]
    assert whole(F1(3), *halves) == pytest.approx(100 * (2 * 2 / 6 + 1) / 2)
    assert whole(F1(3), (found & False, wanted & False)) == 100


def test_r2_is_the_mean_over_columns_that_move_and_leaves_out_what_is_not_told() -> None:
    rng = np.random.default_rng(0)
    wanted = torch.from_numpy(np.stack([rng.normal(40, 10, 50), rng.normal(0, 1, 50)], 1))
    found = wanted + torch.from_numpy(rng.normal(0, 0.5, (50, 2)))
    errors, spread = ((found - wanted) ** 2).sum(0), ((wanted - wanted.mean(0)) ** 2).sum(0)
    expected = float((1 - errors / spread).mean())
    assert whole(R2(2), (found[:20], wanted[:20]), (found[20:], wanted[20:])) == pytest.approx(
        expected
    )
    constant = torch.full((50, 1), 7.0, dtype=torch.float64)
    more = torch.cat([wanted, constant], 1), torch.cat([found, constant + 1], 1)
    assert whole(R2(3), (more[1], more[0])) == pytest.approx(expected)
    told = torch.cat([wanted, torch.full((1, 2), torch.nan)])
    said = torch.cat([found, torch.full((1, 2), 1e6)])
    assert whole(R2(2), (said, told, ~told.isnan())) == pytest.approx(expected)


def test_a_constant_answer_explains_nothing() -> None:
    wanted = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    assert whole(R2(1), (wanted.mean().expand(40, 1), wanted)) == pytest.approx(0, abs=1e-6)


def test_alike_is_the_mean_cosine() -> None:
    first, second = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = float(torch.cosine_similarity(first, second, dim=-1).mean())
    assert whole(Alike(), (first[:2], second[:2]), (first[2:], second[2:])) == pytest.approx(
        expected
    )
