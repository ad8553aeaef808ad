"""Accuracy, F1, IoU, precision and recall against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.class_counts import ClassCounts


def by_hand(pairs: list[tuple[int, int]], classes: int) -> dict[str, float]:
    f1, iou, precision, recall = [], [], [], []
    for number in range(classes):
        right = sum(said == label == number for said, label in pairs)
        said = sum(said == number for said, _ in pairs)
        there = sum(label == number for _, label in pairs)
        if said + there == 0:
            continue
        f1.append(2 * right / (said + there))
        iou.append(right / (said + there - right))
        precision.append(right / said if said else 0.0)
        recall.append(right / there if there else 0.0)
    return {
        "accuracy": sum(a == b for a, b in pairs) / len(pairs),
        "f1": float(np.mean(f1)),
        "iou": float(np.mean(iou)),
        "precision": float(np.mean(precision)),
        "recall": float(np.mean(recall)),
    }


DECISIONS = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(DECISIONS, st.integers(0, 30))
def test_figures_are_those_of_counting_by_hand(pairs: list[tuple[int, int]], cut: int) -> None:
    said, labels = np.array(pairs).T
    counts = ClassCounts.of(4)
    counts.add(said[:cut], labels[:cut])
    counts.add(said[cut:], labels[cut:])
    for name, value in by_hand(pairs, 4).items():
        assert getattr(counts, name) == pytest.approx(value), name


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_yes_or_no_counts_only_what_counts(rows: list[tuple[bool, bool, bool]]) -> None:
    said, labels, counted = (np.array(rows, dtype=np.int64).T)[:, :, None]
    counts = ClassCounts.of(1)
    counts.add_each(said, labels, counted.astype(bool))
    kept = [(a, b) for a, b, c in rows if c]
    right = sum(a and b for a, b in kept)
    below = sum(a for a, _ in kept) + sum(b for _, b in kept)
    if not kept:
        assert np.isnan(counts.accuracy)
        return
    assert counts.accuracy == pytest.approx(sum(a == b for a, b in kept) / len(kept))
    if below:
        assert counts.f1 == pytest.approx(2 * right / below)
    else:
        assert np.isnan(counts.f1)
