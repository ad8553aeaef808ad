"""The perplexity of language models on the texts of the samples: it needs no labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.run.quality import Metric
from graphopt.tasks.next_tokens import Surprise, TextScores, read_text_scores
from graphopt.tasks.task import Task

__all__ = ["Perplexity"]


class Perplexity:
    """Adds up how surprised some models are by texts, the first of which is right.

    Source: Jelinek et al. 1977, Perplexity: a measure of the difficulty of speech recognition
    tasks.

    Args:
        tasks: What the outputs of the first model mean.
        models: How many there are.
    """

    def __init__(self, tasks: Mapping[str, Task], models: int) -> None:
        self.tasks = tasks
        self.scores: TextScores | None = None
        self.sums: list[Surprise | None] = [Surprise()] * models
        self.started = False

    def add(
        self, feeds: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], real: int
    ) -> None:
        """Take what all models answered to one feed.

        Args:
            feeds: What they were given.
            answers: Of each model.
            real: Leading samples that count.
        """
        if not self.started:
            self.started = True
            self.scores = read_text_scores(self.tasks, feeds, answers[0])
        if self.scores is None:
            return
        right = answers[0][self.scores.task.output]
        for number, answer in enumerate(answers):
            so_far, given = self.sums[number], answer.get(self.scores.task.output)
            fits = so_far is not None and given is not None and given.shape == right.shape
            if not fits or so_far is None:
                self.sums[number] = None
            else:
                self.sums[number] = so_far + self.scores.surprise(feeds, answer, real)

    def values(self) -> list[Metric | None]:
        """Of each model but the first, beside that of the first.

        None where the first model does not tell the next token of a text, or another answers in
        another shape.
        """
        first, *others = self.sums
        if self.scores is None or first is None or not first.tells_the_next:
            return [None] * len(others)
        return [
            None
            if other is None
            else Metric(
                "perplexity",
                first.perplexity,
                other.perplexity,
                self.scores.task.output,
                higher_is_better=False,
            )
            for other in others
        ]
