"""Sizes that a model computes from its own shapes, once axes have lost positions.

A size is read again by who states it (a Reshape that is told ``[batch, heads, -1]``), or it is
computed with. The former may have become right by itself. For all others Shape gives what it gave
before, and who states a size that is another one now is told so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graphopt.facts.axes import Axis, loops_of
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope, Use
from graphopt.graph.node import attribute, is_op
from graphopt.rewrite.edit import redirect
from graphopt.rewrite.shrunk import Place, Shrunk, axes_of
from graphopt.rewrite.size_sources import AxisSize, size_leaves, size_sources

__all__ = ["ComputedSizes", "Lengths"]

Lengths = Mapping[Place, tuple[int, int]]
"""Elements of an axis before and after."""


class ComputedSizes:
    """Which computed sizes are right by themselves, and how the others are mended.

    Args:
        scope: The main graph, not yet edited.
        shapes: Of its tensors, all at certain sizes.
        always: The same as far as they hold at any size.
        found: The nodes that lose values.
        lengths: Of the axes that lose positions.
    """

    def __init__(
        self,
        scope: Scope,
        shapes: Shapes,
        always: Shapes,
        found: Sequence[Shrunk],
        lengths: Lengths,
    ) -> None:
        self._scope, self._shapes, self._always = scope, shapes, always
        self._found = {id(one.node): one for one in found}
        self._lengths = lengths
        self._right: set[AxisSize] = set()
        self._wrong: dict[str, list[AxisSize]] = {}
        for node in scope.nodes:
            if not is_op(node, "Shape"):
                continue
            sources = size_sources(scope, node.output[0], shapes)
            lost = [
                each
                for each in sources
                if isinstance(each, AxisSize) and (each.tensor, each.axis) in lengths
            ]
            uses = list(size_leaves(scope, node.output[0], set(lost), shapes)) if lost else []
            if all(self._follows(use, lost) for use in uses):
                self._right.update(lost)
            else:
                self._wrong[node.output[0]] = lost

    def _follows(self, use: Use, lost: Sequence[AxisSize]) -> bool:
        """Whether who reads such a size states one that has become the same."""
        one = self._found.get(id(use.node))
        if one is None or use.index not in one.nest.counts:
            return False
        axes = one.nest.counts[use.index]
        sources = size_sources(self._scope, use.node.input[use.index], self._shapes)
        return len(axes) == len(sources) and all(
            (one.nest.length(axis), one.length(axis)) == self._lengths[source.tensor, source.axis]
            for axis, source in zip(axes, sources, strict=True)
            if isinstance(source, AxisSize) and source in lost
        )

    def restate(self, one: Shrunk, index: int, changes: Mapping[int, int]) -> None:
        """Let a node read other sizes where those that it reads have not become right.

        Args:
            one: The node; edited.
            index: Which of its inputs they are.
            changes: Entries that change, with the new lengths.
        """
        scope, name = self._scope, one.node.input[index]
        axes = one.nest.counts[index]
        sources = size_sources(scope, name, self._shapes)
        wrong = {
            at: (one.nest.length(axes[at]) or 0, new)
            for at, new in changes.items()
            if len(sources) != len(axes) or (sources[at] not in self._right and sources[at] != -1)
        }
        if wrong:
            fixed = {at for at in wrong if self._static(one, axes[at])}
            scope.set_input(one.node, index, self._mended(name, len(axes), wrong, fixed, one.node))

    def restore(self) -> None:
        """Let Shape give what it gave, for who computes with it."""
        for result, lost in self._wrong.items():
            uses = list(self._scope.uses(result))
            node = self._scope.producer(result)
            assert node is not None
            count = len(size_sources(self._scope, result, self._shapes))
            first = attribute(node, "start", 0)
            wrong = {
                each.axis - first: self._lengths[each.tensor, each.axis][::-1] for each in lost
            }
            fixed = {at for at in wrong if self._holds(node.input[0], at + first)}
            behind = self._scope.following(node)
            redirect(uses, self._mended(result, count, wrong, fixed, behind))

    def _static(self, one: Shrunk, axis: Axis) -> bool:
        """Whether each loop of an axis runs through one that has one size in every run."""
        return all(
            any(
                self._holds(*place)
                for place, other in axes_of(one.node, one.nest)
                if loop in loops_of(other)
            )
            for loop in loops_of(axis)
        )

    def _holds(self, tensor: str, axis: int) -> bool:
        """Whether an axis has one size in every run."""
        info = self._always.get(tensor)
        known = info is not None and info.shape is not None and axis < len(info.shape)
        return known and isinstance(info.shape[axis], int)  # type: ignore[union-attr,index]

    def _mended(
        self,
        name: str,
        count: int,
        wrong: Mapping[int, tuple[int, int]],
        fixed: Iterable[int],
        before: onnx.NodeProto | None,
    ) -> str:
        """The sizes with some entries multiplied, or replaced where they are fixed."""
        parts: list[str] = []
        for at in range(count):
            old, new = wrong.get(at, (1, 1))
            if at in wrong and at in fixed:
                parts.append(self._number(f"{name}_size", new))
                continue
            part = self._add("Gather", [name, self._number(f"{name}_at", at)], before, axis=0)
            divisor = math.gcd(old, new)
            if new // divisor > 1:
                part = self._add("Mul", [part, self._number(name, new // divisor)], before)
            if old // divisor > 1:
                part = self._add("Div", [part, self._number(name, old // divisor)], before)
            parts.append(part)
        return self._add("Concat", parts, before, axis=0)

    def _number(self, name: str, value: int) -> str:
        values: NDArray[np.int64] = np.array([value], np.int64)
        return self._scope.add_constant(f"{name}_{value}", values)

    def _add(
        self, op_type: str, inputs: list[str], before: onnx.NodeProto | None, **more: Any
    ) -> str:
        name = self._scope.graph.unique_name(f"{inputs[0]}_{op_type.lower()}")
        made = onnx.helper.make_node(op_type, inputs, [name], name=name, **more)
        self._scope.add(made, before=before)
        return name
