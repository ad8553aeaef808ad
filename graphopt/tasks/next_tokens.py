"""Scores of the next token of a text that a model reads, and how surprised it is by the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.tasks.task import Task

__all__ = ["Surprise", "TextScores", "read_text_scores"]

_TOKEN_AXIS = 2


@dataclass(frozen=True)
class TextScores:
    """The output that scores the tokens of a text.

    Attributes:
        task: What it means: scores of the next token along axis 2.
        tokens: The input that holds the tokens, ``(samples, positions)``.
        mask: The input of ones and zeros that says which positions hold text; empty for all. It
            may start with positions that the model has seen before.
    """

    task: Task
    tokens: str
    mask: str = ""

    def surprise(self, feeds: Mapping[str, Any], answer: Mapping[str, Any], real: int) -> Surprise:
        """How surprised the model is by each token that follows another one.

        Args:
            feeds: What it was given.
            answer: What it gave.
            real: Leading samples that count.
        """
        scores, tokens = answer[self.task.output][:real], feeds[self.tokens][:real]
        counted = np.ones(tokens.shape, bool)
        if self.mask:
            counted = feeds[self.mask][:real, -tokens.shape[1] :] != 0
        follows = counted[:, 1:] & counted[:, :-1]
        found = Surprise()
        for row, text, here in zip(scores, tokens, follows, strict=True):
            likelihoods = self._logarithms(row[:-1][here])
            places = np.arange(len(likelihoods))
            found += Surprise(
                -float(likelihoods[places, text[1:][here]].sum()),
                -float(likelihoods[places, text[:-1][here]].sum()),
                len(places),
            )
        return found

    def _logarithms(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Logarithms of the likelihoods ``(positions, tokens)``."""
        values = scores.astype(np.float64)
        if self.task.form == "probabilities":
            return np.log(np.maximum(values, np.finfo(np.float64).tiny))
        values -= values.max(axis=1, keepdims=True)
        values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
        return values


@dataclass(frozen=True)
class Surprise:
    """Sums over positions of minus the logarithm of a likelihood.

    Attributes:
        next: Of the token that follows.
        same: Of the token that stands there.
        count: Positions.
    """

    next: float = 0.0
    same: float = 0.0
    count: int = 0

    def __add__(self, other: Surprise) -> Surprise:
        return Surprise(self.next + other.next, self.same + other.same, self.count + other.count)

    @property
    def tells_the_next(self) -> bool:
        """Whether the token that follows is likelier than the one that stands there."""
        return self.count > 0 and self.next < self.same

    @property
    def perplexity(self) -> float:
        """The exponential of the mean: among how many tokens it is as if the model guessed."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.next / self.count)) if self.count else float("nan")


def read_text_scores(
    tasks: Mapping[str, Task], feeds: Mapping[str, Any], answer: Mapping[str, Any]
) -> TextScores | None:
    """The output that scores, at each position of a text, every token; None where there is none.

    It has one class more than the largest integer of an input ``(samples, positions)``, or further
    ones. That its classes are those of the *next* token is for the answers to tell.

    Args:
        tasks: What the outputs mean.
        feeds: What the model was given.
        answer: What it gave.
    """
    for task in tasks.values():
        scores = answer.get(task.output)
        if task.kind != "classes" or task.axis != _TOKEN_AXIS or task.other_form is not None:
            continue
        if not isinstance(scores, np.ndarray) or scores.ndim != _TOKEN_AXIS + 1:
            continue
        rows = [name for name, value in feeds.items() if _numbers_of(value, scores.shape[:2])]
        wide = [name for name in rows if feeds[name].max() > 1 and feeds[name].min() >= 0]
        texts = [name for name in wide if not _counts_up(feeds[name])]
        if len(texts) == 1 and feeds[texts[0]].max() < scores.shape[_TOKEN_AXIS]:
            masks = [name for name, value in feeds.items() if _is_mask(value, scores.shape[:2])]
            return TextScores(task, texts[0], masks[0] if len(masks) == 1 else "")
    return None


def _numbers_of(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether it is integers of this shape, several a sample."""
    kind = isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    return kind and value.shape == shape and shape[1] > 1


def _counts_up(value: NDArray[Any]) -> bool:
    """Whether positions are numbered, from wherever on."""
    steps = np.diff(value.astype(np.int64), axis=1)
    return bool(((steps == 0) | (steps == 1)).all())


def _is_mask(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether it is zeros and ones for each position, and perhaps earlier ones."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iub" or value.ndim != 2:
        return False
    long = value.shape[0] == shape[0] and value.shape[1] >= shape[1]
    return long and bool(np.isin(value, (0, 1)).all()) and bool((value != 0).any())
