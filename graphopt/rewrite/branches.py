"""Branches of residual blocks taken out of a graph: what they are added to goes on alone."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from graphopt.facts.operators import find
from graphopt.graph.graph import Scope, Use
from graphopt.graph.tensors import Array
from graphopt.rewrite.edit import bypass, redirect

__all__ = ["silence"]


def silence(scope: Scope, uses: Iterable[Use], rest: Array) -> str | None:
    """Let sums read a constant in place of a branch; what made it is for the caller to remove.

    Where nothing is left of the branch the sums go as well, and behind them a function that makes
    no difference to what it made itself, such as the second of two Relus.

    Args:
        scope: Edited.
        uses: Where Adds of two tensors of one shape read the branch.
        rest: What is left of it, broadcast.

    Returns:
        The name of the constant; None where no sum reads one.
    """
    left = [use for use in uses if rest.any() or not _without(scope, use)]
    if not left:
        return None
    name = scope.add_constant(f"{left[0].node.input[left[0].index]}_mean", rest)
    redirect(left, name)
    return name


def _without(scope: Scope, use: Use) -> bool:
    """Take an Add out; False where the other tensor cannot go by the name of the sum."""
    shortcut, total = use.node.input[1 - use.index], use.node.output[0]
    readers = [each.node for each in scope.uses(total)]
    if not bypass(scope, use.node, shortcut, total):
        return False
    maker = scope.producer(shortcut)
    for reader in readers if maker is not None else []:
        if _repeats(reader, maker):
            bypass(scope, reader, shortcut, reader.output[0])
    return True


def _repeats(node: NodeProto, maker: NodeProto | None) -> bool:
    """Whether a node does again what has been done to its input, without effect."""
    row = find(node)
    if maker is None or row is None or not row.idempotent or find(maker) != row:
        return False
    same = list(node.input)[1:] == list(maker.input)[1:]
    return same and [*map(str, node.attribute)] == [*map(str, maker.attribute)]
