"""What the reference answered to samples, so that every candidate is not measured by both anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.data.samples import Feeds, Samples
from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session

__all__ = ["Recall"]


class Recall:
    """Answers of one model to the feeds of some samples, held from the first time on.

    Args:
        most_bytes: What may be held; of more it is run again.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._of: tuple[Samples, int] | None = None
        self._held: list[dict[str, Array]] = []
        self._left = most_bytes

    def answer(
        self, session: Session, samples: Samples, batch: int, number: int, feeds: Feeds
    ) -> dict[str, Array]:
        """What the model answers to a feed; whoever asks may write on it.

        Args:
            session: Of the model, always the same one.
            samples: Where the feeds come from, the same ones in each pass over them.
            batch: How many of them a feed joins; with other samples or another number all that
                is held goes.
            number: Of the feed, from 0.
            feeds: It.

        Raises:
            ModelError: onnxruntime cannot run it.
        """
        if self._of is None or self._of[0] is not samples or self._of[1] != batch:
            self._of, self._held, self._left = (samples, batch), [], self._most
        if number < len(self._held):
            return _copied(self._held[number])
        answer = session.run(feeds)
        self._left -= _bytes_of(answer)
        if number == len(self._held) and self._left >= 0:
            self._held.append(_copied(answer))
        return answer


def _copied(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v.copy() if isinstance(v, np.ndarray) else v for n, v in answer.items()}


def _bytes_of(answer: Mapping[str, Any]) -> int:
    """What arrays take; sequences and maps are never held."""
    sizes = [v.nbytes if isinstance(v, np.ndarray) else 1 << 60 for v in answer.values()]
    return sum(sizes)
