"""Figures of outputs against labels, from feeds of any size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.tasks.figures import figures_of, scoring, shown
from graphopt.tasks.labels import fit_labels
from graphopt.tasks.task import Task

RNG = np.random.default_rng(0)
N = 12
LOGITS = RNG.standard_normal((N, 4)).astype(np.float32)
PIXELS = RNG.standard_normal((N, 3, 4, 5)).astype(np.float32)
MAPS = RNG.integers(0, 3, (N, 4, 5))
COLUMN = RNG.standard_normal((N, 1)).astype(np.float32)
SHARES = RNG.random((N, 4)).astype(np.float32)
TAGS = RNG.integers(0, 2, (N, 4))
YES = RNG.integers(0, 2, N)
CLASSES = RNG.integers(0, 4, N)
NUMBERS = RNG.standard_normal((N, 4)).astype(np.float32)


def scored(task: Task, answer: Array, labels: Array, cut: int = 5) -> dict[str, float]:
    fitted = fit_labels(labels, {"y": task}, {"y": answer}, samples=len(answer))
    score = scoring(fitted)
    for part in (answer[:cut], answer[cut:]):
        score.add({"y": part}, len(part))
    figures = score.figures()
    assert set(figures) == set(figures_of(fitted)) >= set(shown(fitted))
    return {name: figures[name] for name in shown(fitted)}


def test_the_largest_of_class_scores() -> None:
    figures = scored(Task("y", "classes", 1, "logits"), LOGITS, CLASSES)
    assert figures == {"top1": pytest.approx(100 * (LOGITS.argmax(1) == CLASSES).mean())}


def test_maps_leave_out_what_does_not_count() -> None:
    labels = MAPS.copy()
    labels[:, 0] = 255
    figures = scored(Task("y", "classes", 1, "logits"), PIXELS, labels)
    said, right = PIXELS.argmax(1)[:, 1:], MAPS[:, 1:]
    assert list(figures) == ["accuracy", "iou"]
    assert figures["accuracy"] == pytest.approx(100 * (said == right).mean())
    ious = [
        ((said == n) & (right == n)).sum() / ((said == n) | (right == n)).sum() for n in range(3)
    ]
    assert figures["iou"] == pytest.approx(100 * np.mean(ious))


def test_one_column_is_held_against_its_threshold_and_never_its_argmax() -> None:
    logits = scored(Task("y", "binary", None, "logits"), COLUMN, YES)
    assert list(logits) == ["accuracy", "f1"]
    assert logits["accuracy"] == pytest.approx(100 * ((COLUMN[:, 0] > 0) == YES).mean())
    shares = 1 / (1 + np.exp(-COLUMN))
    assert scored(Task("y", "binary", None, "probabilities"), shares, YES) == logits


def test_several_labels_are_judged_by_the_mean_f1() -> None:
    figures = scored(Task("y", "multi-label", 1, "probabilities"), SHARES, TAGS)
    said = SHARES > 0.5
    f1 = [
        2 * (said[:, n] & TAGS[:, n]).sum() / (said[:, n].sum() + TAGS[:, n].sum())
        for n in range(4)
    ]
    assert list(figures) == ["f1", "accuracy"]
    assert figures["f1"] == pytest.approx(100 * np.mean(f1))
    assert figures["accuracy"] == pytest.approx(100 * (said == TAGS).mean())


def test_masks_are_judged_by_their_area() -> None:
    area = MAPS > 0
    figures = scored(Task("y", "mask"), area, np.roll(area, 1, axis=1))
    moved = np.roll(area, 1, axis=1)
    assert figures["iou"] == pytest.approx(100 * (area & moved).sum() / (area | moved).sum())


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        (CLASSES, np.roll(CLASSES, 1)),
        (CLASSES.astype(np.int32), np.where(CLASSES == 2, 17, CLASSES)),
        (
            np.array(["ant", "bee", "cow", "dog"], object)[CLASSES],
            np.array(["ant", "bee", "cow", "elephant"])[CLASSES],
        ),
    ],
)  # fmt: skip
def test_integers_and_texts_must_be_the_same(answer: Array, labels: Array) -> None:
    task = Task("y", "texts" if answer.dtype.kind == "O" else "indices")
    assert scored(task, answer, labels) == {
        "accuracy": pytest.approx(100 * (answer == labels).mean())
    }


def test_numbers_have_an_error_and_the_share_that_they_explain() -> None:
    answer = NUMBERS + 0.3 * RNG.standard_normal((N, 4)).astype(np.float32)
    figures = scored(Task("y", "regression", 1), answer, NUMBERS)
    errors = (answer - NUMBERS).astype(np.float64) ** 2
    assert list(figures) == ["r2", "mse"]
    assert figures["mse"] == pytest.approx(errors.mean())
    assert figures["r2"] == pytest.approx(
        100 * (1 - errors.mean(0) / NUMBERS.var(0)).mean(), rel=1e-5
    )
    alike = scored(Task("y", "regression", 1), COLUMN, np.full(N, 2.5))
    assert alike == {"mse": pytest.approx(float(((COLUMN - 2.5) ** 2).mean()))}


def test_pairs_wait_for_their_other_half() -> None:
    gold = RNG.random(N // 2)
    figures = scored(Task("y", "embedding", 1), NUMBERS, gold)
    units = NUMBERS / np.linalg.norm(NUMBERS, axis=1, keepdims=True)
    wanted = 100 * spearmanr((units[0::2] * units[1::2]).sum(1), gold).statistic
    assert figures == {"spearman": pytest.approx(wanted)}


def test_answers_that_are_no_numbers_are_never_right() -> None:
    broken = np.full_like(LOGITS, np.nan)
    assert scored(Task("y", "classes", 1, "logits"), broken, CLASSES) == {"top1": 0}
    assert scored(Task("y", "multi-label", 1, "logits"), broken, TAGS)["accuracy"] == 0


def test_rows_that_fill_up_a_feed_do_not_count() -> None:
    fitted = fit_labels(CLASSES, {"y": Task("y", "classes", 1, "logits")}, {"y": LOGITS})
    score = scoring(fitted)
    for first in (0, 8):
        feed = np.repeat(
            LOGITS[first : first + 8],
            [1] * (7 if first == 0 else 3) + [1 if first == 0 else 5],
            axis=0,
        )
        assert len(feed) == 8
        score.add({"y": feed}, min(8, N - first))
    assert score.figures()["top1"] == pytest.approx(100 * (LOGITS.argmax(1) == CLASSES).mean())


@pytest.mark.parametrize("answer", [LOGITS[:, :3], [LOGITS], None])
def test_another_shape_is_refused(answer: object) -> None:
    fitted = fit_labels(
        CLASSES, {"y": Task("y", "classes", 1, "logits")}, {"y": LOGITS[:8]}, samples=N
    )
    with pytest.raises(DataError, match=r"output 'y' is .*, where one sample has \[4\]"):
        values = answer[:7] if isinstance(answer, np.ndarray) else answer
        scoring(fitted).add({"y": values}, 7)


def test_what_is_shorter_is_filled_up_where_no_label_counts() -> None:
    labels = np.array([[0, 1, 2], [1, 0, -100]])
    answer = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    fitted = fit_labels(labels, {"y": Task("y", "classes", 2, "logits")}, {"y": answer})
    score = scoring(fitted)
    score.add({"y": answer[:1]}, 1)
    score.add({"y": answer[1:, :2]}, 1)
    said = answer.argmax(2)
    assert score.figures()["accuracy"] == pytest.approx(
        100 * np.mean([*(said[0] == labels[0]), *(said[1, :2] == labels[1, :2])])
    )
    for wrong in (answer[:1, :2], answer[:1, :, :3], np.repeat(answer[:1], 2, axis=1)):
        with pytest.raises(DataError, match="where one sample has"):
            scoring(fitted).add({"y": wrong}, 1)
