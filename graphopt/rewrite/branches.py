"""Branches that are added to something, taken out: what is left of them is a constant."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.graph.graph import Scope, Use
from graphopt.graph.tensors import Array
from graphopt.rewrite.edit import redirect

__all__ = ["silence"]


def silence(scope: Scope, branch: str, uses: Iterable[Use], rest: Array) -> str:
    """Let sums read a constant in place of a branch; what made it is for the caller to remove.

    Args:
        scope: Edited.
        branch: What the branch gives.
        uses: Where sums read it.
        rest: What is left of it, which is broadcast to its shape.

    Returns:
        The name of the constant.
    """
    name = scope.add_constant(f"{branch}_mean", rest)
    redirect(uses, name)
    return name
