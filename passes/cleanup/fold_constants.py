"""Pass ``fold-constants``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from onnx import NodeProto

from graphopt.analysis.folding import folded, held_bytes
from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.registry import register
from graphopt.facts.evaluate import NotEvaluated, can_evaluate, evaluate, moves_only
from graphopt.facts.shapes import Shapes, proven
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.graph.order import sorted_nodes
from graphopt.graph.tensors import Array
from graphopt.rewrite import edit, inline
from graphopt.rewrite.late_casts import cast_late, merge_casts

__all__ = ["FoldConstants"]

_UNKNOWN = -1  # stands for a free dimension in a half-known shape; no real dimension is negative


@register("fold-constants")
@dataclass(frozen=True, kw_only=True)
class FoldConstants(Pass):
    """Compute at build time what depends on constants alone.

        Shape(x) -> Gather(0) -> Unsqueeze -+
                            Constant(-1) ---+- Concat -> Reshape     becomes     Reshape([1, -1])

    Nodes are computed where all inputs are constants, or where they read nothing but dimensions
    that are fixed. Results take the place of the nodes that made them only where the file does not
    grow by it, so an Expand of one number to a large mask stays; a buffer of all parameters is
    split to the weights of its layers, since it goes itself, and half floats that are split or
    turned behind a Cast are so before it. Random operators,
    quantization operators and initializers that are listed as inputs are never folded. An If
    whose condition is constant is replaced by the branch that is taken.
    """

    max_bytes: Annotated[
        int, Option("most that results may take in memory", low=0, unit="bytes")
    ] = 256 << 20

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        left = self.max_bytes
        for node in merge_casts(graph):
            changes.edit(node, "removed: another Cast of the same constant does it")
        for node in cast_late(graph):
            changes.edit(node, "moves half floats, which are cast behind it")
        again = True
        while again:  # what is folded may fix shapes, and so what else is constant
            skips: list[tuple[NodeProto, str]] = []
            shapes, before = proven(graph), len(changes.edits)
            for scope in list(graph.scopes()):
                region = _Region(scope, shapes, graph.opset, left)
                region.compute()
                left -= region.fold(changes)
                skips += region.skips
            _inline_branches(graph, changes)
            again = len(changes.edits) > before
        for node, reason in skips:
            changes.skip(node, reason)
        if not changes.edits and not changes.skips:
            changes.skip("model", "no node depends on constants alone")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("clutter"), Example("clutter", {"max_bytes": 1000})]


def _inline_branches(graph: Graph, changes: Changes) -> None:
    """Replace every If whose condition is constant."""
    made, inlined = inline.definitions(graph), False
    for scope in graph.scopes():
        waiting = scope.nodes[::-1]
        while waiting:
            node = waiting.pop()
            condition = scope.constant(node.input[0]) if is_op(node, "If") and node.input else None
            if condition is None or condition.overridable:
                continue
            branch = "then_branch" if bool(condition.values.reshape(-1)[0]) else "else_branch"
            waiting += reversed(scope.children(node)[branch].nodes)
            inline.inline_body(scope, node, branch, made)
            changes.edit(node, f"replaced by its {branch}: the condition is constant")
            inlined = True
    for name in edit.remove_dead(graph) if inlined else ():
        changes.edit(name, "removed: only the condition or the other branch needed it")


@dataclass
class _Region:
    """The nodes of one scope that can be computed, and what they give.

    ``values`` holds results by name, ``partial`` shapes of which some dimensions are unknown.
    """

    scope: Scope
    shapes: Shapes
    opset: int
    max_bytes: int
    nodes: list[NodeProto] = field(default_factory=list)
    values: dict[str, Array] = field(default_factory=dict)
    partial: dict[str, Array] = field(default_factory=dict)
    skips: list[tuple[NodeProto, str]] = field(default_factory=list)

    def compute(self) -> None:
        """Find the values; nothing is edited."""
        left = self.max_bytes
        for node in sorted_nodes(self.scope):
            if is_op(node, "Shape", "Size") and self._from_shape(node):
                continue
            if not can_evaluate(node) or self._passes_through(node):
                continue
            inputs = self._inputs(node)
            if inputs is None:
                continue
            half = any(name in self.partial for name in node.input)
            try:
                results = evaluate(node, inputs, self.opset, left)
            except NotEvaluated as err:
                if not half:
                    self.skips.append((node, f"not folded: {err}"))
                continue
            if half and any(r is not None and (r < 0).any() for r in results):
                self._keep(self.partial, node, results)
                continue
            self._keep(self.values, node, results)
            self.nodes.append(node)
            left -= sum(r.nbytes for r in results if r is not None)

    def _passes_through(self, node: NodeProto) -> bool:
        """Whether this is an Identity of a stored weight: nothing to compute, only to copy."""
        name = node.input[0]
        return is_op(node, "Identity") and name not in self.values and name not in self.partial

    def _keep(self, store: dict[str, Array], node: NodeProto, results: list[Array | None]) -> None:
        named = zip(node.output, results, strict=True)
        store.update({name: result for name, result in named if result is not None})

    def _from_shape(self, node: NodeProto) -> bool:
        """The value of Shape or Size, whole or in part, where dimensions are fixed."""
        info = self.shapes.get(node.input[0])
        if info is None or info.shape is None:
            return False
        dims = np.array([d if isinstance(d, int) else _UNKNOWN for d in info.shape], np.int64)
        if is_op(node, "Size"):
            value = np.array(dims.prod(), np.int64)
            known = bool((dims >= 0).all())
        else:
            value = dims[attribute(node, "start", 0) : attribute(node, "end", None)]
            known = bool((value >= 0).all())
            if not known:
                self.partial[node.output[0]] = value
        if known:
            self.values[node.output[0]] = value
            self.nodes.append(node)
        return known

    def _inputs(self, node: NodeProto) -> dict[str, Array] | None:
        """The values that a node reads; None where one is not known."""
        found, stored = dict[str, Array](), dict[str, Constant]()
        for index, name in enumerate(node.input):
            if not name or name in found or name in stored:
                continue
            if name in self.values:
                found[name] = self.values[name]
            elif index == 0 and name in self.partial and moves_only(node):
                found[name] = self.partial[name]
            else:
                constant = self.scope.constant(name)
                if constant is None or constant.overridable:
                    return None
                stored[name] = constant
        size = sum(constant.nbytes for constant in stored.values())
        if size > self.max_bytes:
            self.skips.append((node, f"not folded: it reads {size} bytes, max_bytes is less"))
            return None
        found.update({name: constant.values for name, constant in stored.items()})
        return found if found else None

    def fold(self, changes: Changes) -> int:
        """Put results in place where the file does not grow; the bytes that they take."""
        replaced, needless = folded(self.scope, self.nodes, self.values, self._refused_as_constant)
        gone = {id(node): node for node in (*replaced, *needless)}
        self._tell_kept(gone)
        ready: list[str] = []
        untold = dict(gone)
        for node in reversed(replaced):
            needed = [name for name in node.output if name and self._needed(name, gone)]
            if needed:
                count = self._count_before(node, untold)
                changes.edit(node, f"computed, with {count} nodes before it")
                ready += needed
        for node in untold.values():
            changes.edit(node, "removed: nothing needs what it computes")
        read = [name for node in gone.values() for name in node.input]
        self.scope.remove(gone.values())
        for name in ready:
            self.scope.define(name, self.values[name])
        self.scope.drop_initializer(*(name for name in read if self._unread(name)))
        return sum(self.values[name].nbytes for name in ready)

    def _tell_kept(self, gone: Mapping[int, NodeProto]) -> None:
        """Note why nodes whose values are known stay."""
        for node in self.nodes:
            names = [name for name in node.output if name]
            if id(node) in gone:
                continue
            if any(map(self._refused_as_constant, names)):
                self.skips.append((node, "Range takes only scalars as constants"))
            else:
                grown = sum(held_bytes(name, self.values[name]) for name in names)
                grown -= node.ByteSize()
                self.skips.append((node, f"folding would grow the file by {grown} bytes"))

    def _count_before(self, node: NodeProto, untold: dict[int, NodeProto]) -> int:
        """How many nodes go with one, of those that went with no other; all are told then."""
        untold.pop(id(node), None)
        waiting, count = [node], -1
        while waiting:
            count += 1
            makers = (self.scope.producer(name) for name in waiting.pop().input if name)
            found = {id(maker): maker for maker in makers if maker is not None}
            waiting += [untold.pop(key) for key in found if key in untold]
        return count

    def _unread(self, name: str) -> bool:
        """Whether an initializer that a node read is needed no more."""
        scope = self.scope
        held = name in scope.initializers and not scope.is_input(name)
        return held and not scope.is_output(name) and not scope.is_read(name)

    def _needed(self, name: str, gone: Mapping[int, NodeProto]) -> bool:
        """Whether a value is still read: by a node that stays, in a body, or as an output."""
        if self.scope.is_output(name):
            return True
        return any(id(use.node) not in gone for use in self.scope.any_uses(name))

    def _refused_as_constant(self, name: str) -> bool:
        """Whether onnxruntime 1.32 takes the value computed, but not as a constant."""
        readers = self.scope.any_uses(name)
        return self.values[name].ndim > 0 and any(is_op(use.node, "Range") for use in readers)
