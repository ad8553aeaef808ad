"""A budget of time: predicted by the layers, held by measuring the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from graphopt.families.channels.cuts import Cut, cut_out
from graphopt.families.channels.narrowable import Narrowable
from graphopt.families.channels.times import Form, timed_costs
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session
from graphopt.runtime.side_by_side import side_by_side

__all__ = ["TimeBudget", "nearest_within", "time_share"]

T = TypeVar("T")

_TRIES = 5
_NEAR = 0.96
"""This much of what may be left is near enough: measurements repeat no better."""
_ROUNDS = 15
_SETTLED = 0.03


class TimeBudget:
    """Times of a model by the widths of its groups.

    Args:
        model: It.
        form: What its layers will compute in.
    """

    def __init__(self, model: Narrowable, form: Form) -> None:
        training = model.context.training
        assert training is not None, "a precondition"
        self._model = model
        self._graph, self._original = model.graph, model.context.reference
        self._shapes, self._form, self._threads = model.shapes, form, training.threads
        self._feeds = next(feeds for feeds, _ in training.samples.feeds(limit=1))
        self.cost = timed_costs(
            model.graph, model.shapes, model.ways, self._feeds, form=form, threads=self._threads
        )
        self._whole = self.cost(model.whole)
        self.now = 1.0
        if model.context.kept or len(self._graph.main.nodes) < len(self._original.main.nodes):
            self.now = self._ratio(model.graph)

    def most(self, share: float) -> float:
        """Milliseconds that a share of the original's time is."""
        return share * self._whole / self.now

    def kept(self, within: Callable[[float], list[Cut]], share: float) -> tuple[list[Cut], float]:
        """Cuts that keep the budget once they are measured; of ``int8`` the prediction counts.

        Args:
            within: The cuts by the milliseconds that are predicted for what is left.
            share: Of the original's time.

        Returns:
            The cuts, and what they leave of that time.
        """
        asked = self.most(share)
        if self._form != "float":
            cuts = within(asked)
            return cuts, self._predicted(cuts) / self._whole * self.now

        def at(most: float) -> tuple[list[Cut], float, bool]:
            cuts = within(most)
            trial = self._graph.copy()
            cut_out(trial, self._shapes, cuts, {})
            return cuts, self._ratio(trial), self._predicted(cuts) <= most

        return nearest_within(at, asked, share)

    def _predicted(self, cuts: Sequence[Cut]) -> float:
        """Milliseconds that a run of what cuts leave should take."""
        return self.cost(self._model.widths(cuts))

    def _ratio(self, graph: Graph) -> float:
        """What a graph takes of the original's time."""
        return time_share(self._original, graph, self._feeds, self._threads)


def nearest_within(
    at: Callable[[float], tuple[T, float, bool]], asked: float, share: float
) -> tuple[T, float]:
    """Of a few tries the one that leaves most of what may be left, and what that is.

    Args:
        at: What comes of a time that is asked for, the share that is measured of it, and whether
            less could be asked for.
        asked: The first.
        share: That may be left. Where no try keeps to it the last one counts.
    """
    low, high = 0.0, math.inf
    held: tuple[T, float] | None = None
    for _ in range(_TRIES):
        found, left, reached = at(asked)
        if left > share:
            high = asked
            if not reached:
                break
            asked *= min(0.97, 0.98 * share / left)
        else:
            if held is None or left > held[1]:
                held = found, left
            low = asked
            if left >= _NEAR * share:
                break
            asked *= share / max(left, share / 2)
        if not low < asked < high:
            asked = math.sqrt(low * high)
    return held or (found, left)


def time_share(original: Graph, graph: Graph, feeds: Mapping[str, Array], threads: int) -> float:
    """What a graph takes of another's time on one feed, both run in turns."""
    graphs = [original, graph]
    times, _ = side_by_side(
        graphs,
        [Session(each, threads=threads) for each in graphs],
        [feeds] * 2,
        threads=threads,
        light=True,
        rounds=_ROUNDS,
        settled=_SETTLED,
    )
    return times[1].ratio.median
