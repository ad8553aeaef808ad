from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphopt.tasks.next_tokens import Surprise, TextScores, read_text_scores
from graphopt.tasks.task import Form, Task

TASK = Task("logits", "classes", axis=2, form="logits")
RNG = np.random.default_rng(4)
TOKENS = RNG.integers(2, 11, (3, 6))
SCORES = RNG.normal(size=(3, 6, 11)).astype(np.float32)


def softmax(values: NDArray[Any]) -> NDArray[np.float64]:
    powers = np.exp(values.astype(np.float64))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def by_hand(mask: NDArray[Any]) -> tuple[float, int]:
    """Sum of the surprises and their number, one position after another."""
    total, count = 0.0, 0
    for row in range(3):
        for at in range(5):
            if mask[row, at] and mask[row, at + 1]:
                total -= float(np.log(softmax(SCORES[row, at])[TOKENS[row, at + 1]]))
                count += 1
    return total, count


@pytest.mark.parametrize("form", ["logits", "probabilities", "log-probabilities"])
@pytest.mark.parametrize("past", [0, 3])
def test_surprise_is_that_of_each_following_token(form: Form, past: int) -> None:
    mask = np.ones((3, 6), np.int64)
    mask[0, 4:], mask[1, :2] = 0, 0
    feeds = {"ids": TOKENS, "mask": np.concatenate([np.ones((3, past), np.int64), mask], axis=1)}
    scores = TextScores(Task("y", "classes", axis=2, form=form), "ids", "mask")
    written = {
        "logits": SCORES,
        "probabilities": softmax(SCORES),
        "log-probabilities": np.log(softmax(SCORES)),
    }
    found = scores.surprise(feeds, {"y": written[form]}, real=3)
    total, count = by_hand(mask)
    assert found.count == count
    assert found.next == pytest.approx(total, rel=1e-5)
    assert found.perplexity == pytest.approx(np.exp(total / count), rel=1e-5)


def test_rows_that_fill_up_do_not_count() -> None:
    scores = TextScores(TASK, "ids")
    found = scores.surprise({"ids": TOKENS}, {"logits": SCORES}, real=2)
    assert found.count == 10
    empty = scores.surprise({"ids": TOKENS[:, :1]}, {"logits": SCORES[:, :1]}, real=3)
    assert empty == Surprise()
    assert np.isnan(empty.perplexity)
    assert not empty.tells_the_next


def test_even_scores_are_as_if_all_tokens_were_guessed_among() -> None:
    found = TextScores(TASK, "ids").surprise({"ids": TOKENS}, {"logits": 0 * SCORES}, real=3)
    assert found.perplexity == pytest.approx(11)


def test_what_a_text_model_takes_is_read_from_its_feeds() -> None:
    feeds = {
        "ids": TOKENS,
        "position_ids": np.tile(np.arange(6), (3, 1)),
        "attention_mask": np.ones((3, 9), np.int64),
        "past": np.zeros((3, 1, 3, 4), np.float32),
        "types": np.zeros((3, 6), np.int64),
    }
    del feeds["types"]  # it would be a second mask
    found = read_text_scores({"logits": TASK}, feeds, {"logits": SCORES})
    assert found == TextScores(TASK, "ids", "attention_mask")


OTHERS: dict[str, tuple[Task, dict[str, Any], Any]] = {
    "tags of words": (TASK, {"ids": TOKENS}, SCORES[:, :, :9]),
    "one answer a text": (Task("logits", "classes", axis=1), {"ids": TOKENS}, SCORES[:, 0]),
    "numbers": (Task("logits", "regression", axis=2), {"ids": TOKENS}, SCORES),
    "no integers": (TASK, {"ids": TOKENS.astype(np.float32)}, SCORES),
    "two texts": (TASK, {"ids": TOKENS, "others": TOKENS}, SCORES),
    "another length": (TASK, {"ids": TOKENS[:, :4]}, SCORES),
    "positions alone": (TASK, {"ids": np.tile(np.arange(6), (3, 1))}, SCORES),
    "no answer": (TASK, {"ids": TOKENS}, None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_score_no_text(name: str) -> None:
    task, feeds, scores = OTHERS[name]
    assert read_text_scores({"logits": task}, feeds, {"logits": scores}) is None
