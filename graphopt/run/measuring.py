"""A metric over the answers of models to all samples, which are held for it within a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import psutil

from graphopt.callables import foreign
from graphopt.errors import DataError, GraphoptError, Need
from graphopt.graph.tensors import Array
from graphopt.run.metrics import NamedMetric, reads_first_output

__all__ = ["MetricAnswers", "run_bytes"]

_DEFAULT_BYTES = 3 << 30


def run_bytes(memory_limit: int | None) -> int:
    """Bytes that running models may take: the limit, else 3 GB or half of what is free."""
    if memory_limit is not None:
        return memory_limit
    return min(_DEFAULT_BYTES, int(psutil.virtual_memory().available) // 2)


class MetricAnswers:
    """Answers of some models to one feed after another, the reference first.

    Args:
        metric: What is to be measured.
        outputs: Of each model, the names of the outputs that the metric gets.
        memory_limit: Bytes that all answers together may take; see ``run_bytes``.
    """

    def __init__(
        self, metric: NamedMetric, outputs: Sequence[Sequence[str]], memory_limit: int | None
    ) -> None:
        self.name, self.function = metric
        self.ours = reads_first_output(self.function)
        self.outputs = [list(names)[: 1 if self.ours else None] for names in outputs]
        self.parts: list[list[list[Array]]] = [[[] for _ in names] for names in self.outputs]
        self.left = run_bytes(memory_limit)

    def add(self, model: int, answer: dict[str, Array]) -> None:
        """Hold what one model answered to one feed, without the rows that only fill it up.

        Raises:
            DataError: Too much is held.
        """
        for name, parts in zip(self.outputs[model], self.parts[model], strict=True):
            parts.append(answer[name])
            self.left -= answer[name].nbytes if isinstance(answer[name], np.ndarray) else 0
        if self.left < 0:
            raise DataError(
                f"metric {self.name!r}: the outputs for all samples take more memory than is "
                "allowed; give fewer evaluation samples",
                Need.MEMORY_LIMIT,
            )

    def values(self, labels: Array) -> list[float]:
        """The metric of each model, NaN where a model but the first has none.

        Raises:
            DataError: It raises, or gives what is no number.
        """
        return [self._value(number, labels) for number in range(len(self.parts))]

    def _value(self, model: int, labels: Array) -> float:
        with foreign(self._refusal):
            merged = [np.concatenate([*map(np.atleast_1d, p)]) for p in self.parts[model]]
            value: object = self.function(merged, labels.copy())  # it may write on them
            if isinstance(value, str | bytes):
                raise TypeError(f"it returned {type(value).__name__} where a number must be")
            number = float(value)  # type: ignore[arg-type]  # what is none is told of
        if math.isinf(number) or (math.isnan(number) and model == 0 and not self.ours):
            raise self._refusal(f"it returned {number}")
        return number

    def _refusal(self, what: str) -> GraphoptError:
        return DataError(
            f"metric {self.name!r} cannot be computed from the outputs and labels: {what}"
        )
