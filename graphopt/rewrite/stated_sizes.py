"""Writes sizes anew that nodes state of axes that lose positions: attributes and inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.facts.axes import Axis
from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute, is_op, set_attributes
from graphopt.rewrite.computed_sizes import ComputedSizes
from graphopt.rewrite.shrunk import Shrunk
from graphopt.rewrite.values import drop_unread

__all__ = ["state_sizes"]

_AXES_ARE_AN_INPUT = 13
"""Opset from which on Squeeze reads its axes."""


def state_sizes(scope: Scope, one: Shrunk, sizes: ComputedSizes) -> None:
    """Let a node state the sizes that its axes have now.

    Args:
        scope: Where it stands.
        one: The node with what it loses; edited.
        sizes: How those are mended that are computed.
    """
    for where, axes in one.nest.counts.items():
        if isinstance(where, str):
            _attribute(one, where, axes)
        elif where < len(one.node.input) and one.node.input[where]:
            _input(scope, one, where, axes, sizes)
        elif _changes(one, axes):
            _added(scope, one, where, axes)
    if one.nest.picks is not None:
        _picks(scope, one, one.nest.picks)
    if is_op(one.node, "Squeeze") and attribute(one.node, "axes", None) is None:
        _squeezed(scope, one)


def _changes(one: Shrunk, axes: Sequence[Axis]) -> dict[int, int]:
    """Entries that change, and the new lengths."""
    before = [one.nest.length(axis) for axis in axes]
    after = [one.length(axis) for axis in axes]
    return {
        at: new
        for at, (old, new) in enumerate(zip(before, after, strict=True))
        if new is not None and new != old
    }


def _attribute(one: Shrunk, name: str, axes: Sequence[Axis]) -> None:
    changes = _changes(one, axes)
    if not changes:
        return
    stated = attribute(one.node, name, None)
    if not isinstance(stated, list):
        set_attributes(one.node, (), **{name: changes[0]})
        return
    set_attributes(one.node, (), **{name: [changes.get(at, old) for at, old in enumerate(stated)]})


def _input(
    scope: Scope, one: Shrunk, index: int, axes: Sequence[Axis], sizes: ComputedSizes
) -> None:
    constant = scope.constant(one.node.input[index])
    changes = _changes(one, axes)
    if constant is None:
        if changes:
            sizes.restate(one, index, changes)
        return
    stated = constant.values
    written = stated.reshape(-1).copy()
    for at, old in enumerate(written.tolist()):
        if old == 0 and is_op(one.node, "Reshape") and not attribute(one.node, "allowzero", 0):
            changes = _copied(one, at, axes[at], changes)
        elif old == -1 and is_op(one.node, "Reshape"):
            changes.pop(at, None)
    for at, new in changes.items():
        written[at] = new
    if changes:
        _replace(scope, one, index, written.reshape(stated.shape))


def _copied(one: Shrunk, at: int, axis: Axis, changes: dict[int, int]) -> dict[int, int]:
    """A Reshape's 0 stays where the axis of the input has the size that is wanted."""
    fed = one.nest.inputs[0]
    wanted = one.length(axis)
    if fed is None or wanted is None or one.length(fed[at]) == wanted:
        return {k: new for k, new in changes.items() if k != at}
    return {**changes, at: wanted}


def _added(scope: Scope, one: Shrunk, index: int, axes: Sequence[Axis]) -> None:
    """State sizes that were implied: those of the parts of a Split."""
    sizes = [one.length(axis) for axis in axes]
    assert None not in sizes, "parts of a Split have known sizes"
    name = scope.add_constant(f"{one.node.output[0]}_sizes", np.array(sizes, np.int64))
    scope.set_input(one.node, index, name)
    set_attributes(one.node, ["num_outputs"])


def _picks(scope: Scope, one: Shrunk, index: int) -> None:
    """Number the picks of a Gather anew."""
    constant = scope.constant(one.node.input[index])
    axes = one.nest.outputs[0]
    assert constant is not None and axes is not None, "picks are constants"
    picked = next(axis for axis in axes if any(piece.picks is not None for piece in axis))
    if one.lost.keys() & set(picked[0].loops):
        _replace(scope, one, index, np.array(one.picks(picked), constant.values.dtype))


def _squeezed(scope: Scope, one: Shrunk) -> None:
    """Say which axes Squeeze takes away, lest it takes one that has a single channel left."""
    axes = one.nest.inputs[0] or ()
    single = [at for at, axis in enumerate(axes) if one.nest.length(axis) == 1]
    if any(one.node.input[1:]) or len(single) == sum(one.length(axis) == 1 for axis in axes):
        return
    if scope.graph.opset < _AXES_ARE_AN_INPUT:
        set_attributes(one.node, (), axes=single)
        return
    name = scope.add_constant(f"{one.node.output[0]}_axes", np.array(single, np.int64))
    scope.set_input(one.node, 1, name)


def _replace(scope: Scope, one: Shrunk, index: int, values: np.ndarray) -> None:
    """Give a node a constant of its own."""
    old = one.node.input[index]
    scope.set_input(one.node, index, scope.add_constant(f"{old}_kept", values))
    drop_unread(scope, [old])
