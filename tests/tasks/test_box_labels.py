"""Boxes as labels: how they are read, which outputs they fit, and what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.tasks.box_labels import FittedBoxes, fit_boxes, holds_boxes
from graphopt.tasks.figures import figures_of, scoring, shown
from graphopt.tasks.task import Task

RNG = np.random.default_rng(0)
N, MOST = 8, 5
COUNTS = RNG.integers(1, MOST + 1, N)
CORNER = RNG.uniform(0, 60, (N, MOST, 2))
BOXES = np.concatenate([CORNER, CORNER + RNG.uniform(10, 30, (N, MOST, 2))], axis=2)
CLASSES = RNG.integers(0, 3, (N, MOST))
THERE = np.arange(MOST) < COUNTS[:, None]
PADDED = np.where(THERE[..., None], BOXES, -1)


def written(form: str) -> Array:
    """All boxes with their class, in one of the forms that people have."""
    first, last = PADDED[..., :2], PADDED[..., 2:]
    numbers = np.where(THERE, CLASSES, -1)[..., None]
    match form:
        case "corners":
            return np.concatenate([first, last, numbers], axis=2)
        case "sizes":
            sizes = np.where(THERE[..., None], last - first, -1)
            return np.concatenate([first, sizes, numbers], axis=2)
        case "centres, class first":
            middle = np.where(THERE[..., None], (first + last) / 2, 0)
            sizes = np.where(THERE[..., None], last - first, 0)
            return np.concatenate([numbers, middle, sizes], axis=2)
        case "rows first":
            return np.concatenate([PADDED[..., [1, 0, 3, 2]], numbers], axis=2)
    return PADDED


FREE = {
    "boxes": Task("boxes", "boxes", 1, free_rows=True),
    "labels": Task("labels", "indices", free_rows=True),
    "scores": Task("scores", "regression", free_rows=True),
}
PADDED_TASKS = {
    "num": Task("num", "indices"),
    "boxes": Task("boxes", "boxes", 2),
    "scores": Task("scores", "regression", 1),
    "classes": Task("classes", "regression", 1),
}
PACKED = {"y": Task("y", "regression", 2)}


def free(shift: float = 0.0) -> list[tuple[dict[str, Any], int]]:
    """What a detector with its selection inside answers, sample by sample."""
    return [
        (
            {
                "boxes": (BOXES[n][THERE[n]] + shift).astype(np.float32),
                "labels": CLASSES[n][THERE[n]],
                "scores": np.linspace(0.9, 0.5, COUNTS[n]).astype(np.float32),
            },
            1,
        )
        for n in range(N)
    ]


def packed(columns: int) -> list[tuple[dict[str, Any], int]]:
    """Rows of boxes with a score and a class, those that fill up all zeros."""
    boxes, scores = np.where(THERE[..., None], BOXES, 0), np.where(THERE, 0.9, 0.0)[..., None]
    labels = CLASSES[..., None]
    parts = {
        5: [boxes, scores],
        6: [boxes, scores, labels],
        7: [np.zeros_like(scores), boxes, labels, scores],
    }[columns]
    rows = np.concatenate(parts, axis=2).astype(np.float32)
    if columns == 7:
        return [({"y": rows[n][THERE[n]]}, 1) for n in range(N)]
    return [({"y": rows, "labels": CLASSES}, N)]


def padded() -> list[tuple[dict[str, Any], int]]:
    one_hot = np.eye(3, dtype=np.float32)[CLASSES]
    answer = {"num": COUNTS, "boxes": BOXES.astype(np.float32), "scores": one_hot}
    return [({**answer, "classes": np.zeros((N, 2), np.float32)}, N)]


def scored(fitted: FittedBoxes, feeds: list[tuple[dict[str, Any], int]]) -> dict[str, float]:
    score = scoring(fitted)
    for answer, rows in feeds:
        score.add(answer, rows)
    figures = score.figures()
    assert set(figures) == set(figures_of(fitted)) >= set(shown(fitted))
    return figures


@pytest.mark.parametrize(
    ("form", "how"),
    [
        ("corners", "boxes of two corners"),
        ("sizes", "boxes of a corner and a size"),
        ("centres, class first", "boxes of a centre and a size"),
        ("rows first", "boxes of two corners, rows before columns"),
        ("without a class", "boxes of two corners"),
    ],
)
def test_the_form_is_that_by_which_boxes_overlap(form: str, how: str) -> None:
    labels = written(form)
    assert holds_boxes(labels)
    fitted = fit_boxes(labels, FREE, free())
    assert fitted.how == how
    assert [len(each.boxes) for each in fitted.boxes] == COUNTS.tolist()
    assert (fitted.boxes[0].classes is None) == (form == "without a class")
    assert scored(fitted, free()) == {"ap50": 100, "precision": 100, "recall": 100, "f1": 100}


@pytest.mark.parametrize(
    ("tasks", "feeds", "outputs"),
    [
        (FREE, free(), ("boxes", "labels", "scores")),
        (PADDED_TASKS, padded(), ("boxes", "scores", "num")),
        (PACKED, packed(6), ("y",)),
        (PACKED, packed(7), ("y",)),
        ({**PACKED, "labels": Task("labels", "indices")}, packed(5), ("y", "labels")),
        ({"boxes": FREE["boxes"]}, free(), ("boxes",)),
        ({**FREE, "boxes": Task("boxes", "regression", free_rows=True)}, free(), tuple(FREE)),
    ],
)
def test_the_outputs_of_a_detector_are_found(
    tasks: dict[str, Task], feeds: list[tuple[dict[str, Any], int]], outputs: tuple[str, ...]
) -> None:
    fitted = fit_boxes(written("corners"), tasks, feeds)
    assert fitted.head.outputs == outputs
    figures = scored(fitted, feeds)
    assert set(figures.values()) == {100.0}
    assert fitted.ranked == ("ap50" in figures) == (outputs != ("boxes",))
    assert fitted.task.kind == ("detections" if outputs[0] == "y" else "boxes")


def test_what_is_missed_or_wrong_or_found_twice_counts() -> None:
    fitted = fit_boxes(written("corners"), FREE, free())
    total = int(COUNTS.sum())
    moved = scored(fitted, free(shift=100.0))
    assert moved == {"ap50": 0, "precision": 0, "recall": 0, "f1": 0}
    fewer = [({k: v[1:] for k, v in answer.items()}, n) for answer, n in free()]
    figures = scored(fitted, fewer)
    assert figures["precision"] == 100
    assert figures["recall"] == pytest.approx(100 * (total - N) / total)
    twice = [({k: np.repeat(v, 2, 0) for k, v in answer.items()}, n) for answer, n in free()]
    figures = scored(fitted, twice)
    assert (figures["precision"], figures["recall"]) == (50, 100)
    other = [({**answer, "labels": answer["labels"] + 7}, n) for answer, n in free()]
    assert scored(fitted, other)["recall"] == 0


@pytest.mark.parametrize(
    ("tasks", "feeds", "labels", "words"),
    [
        ({"y": Task("y", "classes", 1)}, packed(6), written("corners"), "no output holds boxes"),
        (FREE, free(1000.0), written("corners"), "no box of the labels overlaps one of"),
        (FREE, free(), written("corners") + 0.1, "rows of five hold no class number"),
    ],
)  # fmt: skip
def test_what_does_not_fit(
    tasks: dict[str, Task], feeds: list[tuple[dict[str, Any], int]], labels: Array, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        fit_boxes(labels, tasks, feeds)


def test_a_model_of_other_outputs_has_no_figures() -> None:
    score = scoring(fit_boxes(written("corners"), FREE, free()))
    answer, _ = free()[0]
    for wrong in ({**answer, "scores": answer["scores"][:-1]}, {**answer, "boxes": None}):
        with pytest.raises(DataError, match=r"output"):
            score.add(wrong, 1)
