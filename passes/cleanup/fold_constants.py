"""Pass ``fold-constants``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from onnx import NodeProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.registry import register
from graphopt.facts.evaluate import NotEvaluated, can_evaluate, evaluate, moves_only
from graphopt.facts.shapes import Shapes, proven
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.graph.order import sorted_nodes
from graphopt.graph.tensors import Array, stored_bytes
from graphopt.rewrite import inline

__all__ = ["FoldConstants"]

_UNKNOWN = -1  # stands for a free dimension in a half-known shape; no real dimension is negative
_TENSOR_OVERHEAD = 16  # bytes of tags, dims and lengths around the values of an initializer


@register("fold-constants")
@dataclass(frozen=True, kw_only=True)
class FoldConstants(Pass):
    """Compute at build time what depends on constants alone.

        Shape(x) -> Gather(0) -> Unsqueeze -+
                            Constant(-1) ---+- Concat -> Reshape     becomes     Reshape([1, -1])

    Nodes are computed where all inputs are constants, or where they read nothing but dimensions
    that are fixed. A result takes the place of the nodes that made it only where the file does
    not grow by it, so an Expand of one number to a large mask stays. Random operators,
    quantization operators and initializers that are listed as inputs are never folded. An If
    whose condition is constant is replaced by the branch that is taken.
    """

    max_bytes: Annotated[
        int, Option("most that results may take in memory", low=0, unit="bytes")
    ] = 256 << 20

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        shapes = proven(graph)
        left = self.max_bytes
        again = True
        while again:
            skips: list[tuple[NodeProto, str]] = []
            for scope in list(graph.scopes()):
                region = _Region(scope, shapes, graph.opset, left)
                region.compute()
                left -= region.fold(changes)
                skips += region.skips
            again = _inline_branches(graph, changes)
        for node, reason in skips:
            changes.skip(node, reason)
        if not changes.edits and not changes.skips:
            changes.skip("model", "no node depends on constants alone")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("clutter"), Example("clutter", {"max_bytes": 1000})]


def _inline_branches(graph: Graph, changes: Changes) -> bool:
    """Replace every If whose condition is constant; False if there is none."""
    made, before = inline.definitions(graph), len(changes.edits)
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
    return len(changes.edits) > before


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
        found: dict[str, Array] = {}
        for index, name in enumerate(node.input):
            if not name or name in found:
                continue
            if name in self.values:
                found[name] = self.values[name]
            elif index == 0 and name in self.partial and moves_only(node):
                found[name] = self.partial[name]
            else:
                constant = self.scope.constant(name)
                if constant is None or constant.overridable or constant.nbytes > self.max_bytes:
                    return None
                found[name] = constant.values
        return found if found else None

    def fold(self, changes: Changes) -> int:
        """Put results in place where the file does not grow; the bytes that they take."""
        pending = {id(node) for node in self.nodes}
        taken = 0
        for node in reversed(self.nodes):
            needed = [name for name in node.output if name and self._needed(name, pending)]
            if not needed:
                continue
            if any(self._refused_as_constant(name) for name in needed):
                pending.discard(id(node))
                self.skips.append((node, "Range takes only scalars as constants"))
                continue
            cone, constants, saved = self._cone(node)
            cost = sum(self.values[n].nbytes + len(n) + _TENSOR_OVERHEAD for n in needed)
            if cost > saved:
                pending.discard(id(node))
                self.skips.append((node, f"folding would grow the file by {cost - saved} bytes"))
                continue
            self.scope.remove(cone)
            self.scope.drop_initializer(*constants)
            for name in needed:
                self.scope.define(name, self.values[name])
            taken += sum(self.values[name].nbytes for name in needed)
            changes.edit(node, f"computed, with {len(cone) - 1} nodes before it")
        return taken

    def _needed(self, name: str, pending: set[int]) -> bool:
        """Whether a value is still read: by a node that stays, in a body, or as an output."""
        if self.scope.is_output(name):
            return True
        return any(id(use.node) not in pending for use in self.scope.any_uses(name))

    def _refused_as_constant(self, name: str) -> bool:
        """Whether onnxruntime 1.32 takes the value computed, but not as a constant."""
        readers = self.scope.any_uses(name)
        return self.values[name].ndim > 0 and any(is_op(use.node, "Range") for use in readers)

    def _cone(self, last: NodeProto) -> tuple[list[NodeProto], list[str], int]:
        """What only ``last`` needs: nodes, initializers, and the bytes that all these take."""
        scope = self.scope
        cone, constants, saved = {id(last): last}, dict[str, None](), last.ByteSize()
        names = list(last.input)
        while names:
            name = names.pop()
            if not name or name in constants or scope.is_output(name):
                continue
            producer = scope.producer(name)
            results = [name] if producer is None else [o for o in producer.output if o]
            inside = all(
                id(use.node) in cone and use.index >= 0
                for result in results
                for use in scope.any_uses(result)
            )
            if not inside or (producer is not None and id(producer) in cone):
                continue
            if producer is None:
                if name in scope.initializers and not scope.is_input(name):
                    constants[name] = None
                    saved += stored_bytes(scope.initializers[name]) + len(name) + _TENSOR_OVERHEAD
            elif self._removable(producer):
                cone[id(producer)] = producer
                saved += producer.ByteSize()
                names.extend(producer.input)
        return list(cone.values()), list(constants), saved

    def _removable(self, node: NodeProto) -> bool:
        """Whether a node without readers may go: it has no body, hence no effect of its own."""
        return not self.scope.children(node) and not any(map(self.scope.is_output, node.output))
