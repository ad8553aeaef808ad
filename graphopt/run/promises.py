"""What passes before made of a model and a later one destroys: zeros among the weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from graphopt.facts import cost
from graphopt.facts.cost import Zeros
from graphopt.graph.graph import Graph

__all__ = ["Promises", "destroyed"]

_LEAST = 0.005
"""Below this share zeros are chance, not somebody's work."""
_KEPT = 0.9
"""Share of the zeros that must be left for them to count as kept: rounding moves a few."""


@dataclass(frozen=True)
class Promises:
    """What a state of the model is worth beyond its answers."""

    graph: Graph

    @cached_property
    def zeros(self) -> Zeros:
        """Zeros of all weights."""
        return cost.zeros(self.graph)

    @cached_property
    def masked(self) -> Zeros:
        """Zeros of those float weights of which a good part is zero."""
        return cost.zeros(self.graph, masked=True)


def destroyed(name: str, first: Promises, before: Promises, after: Promises) -> str:
    """What the pass called ``name`` destroyed, in a sentence; empty where it kept all.

    Args:
        name: Of the pass.
        first: The model as it was before any lossy pass.
        before: The model that the pass was given.
        after: What it made of it.
    """
    made = before.masked
    if made.share < _LEAST:
        return ""
    left = after.zeros
    if left.count >= _KEPT * made.count or left.share >= _KEPT * made.share:
        return ""
    were, are = (f"{100 * share:.1f} %" for share in (made.share, left.share))
    told = f"{name} destroyed zeros: {were} of the weights were zero before it, {are} are behind it"
    if first.masked.count < made.count:
        return f"{told}; put it in front of the pass that made them"
    return f"{told}; the model came with them"
