"""Pass ``deduplicate-initializers``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import onnx
from onnx import TensorProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.registry import register
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.tensors import stored_bytes

__all__ = ["DeduplicateInitializers"]

_Key = tuple[int, tuple[int, ...]]


@register("deduplicate-initializers")
@dataclass(frozen=True, kw_only=True)
class DeduplicateInitializers(Pass):
    """Store tensors that are bit for bit the same only once.

        Conv(W1), Conv(W2) with W1 = W2      becomes      Conv(W1), Conv(W1)

    Type and shape must agree too, so 0.0 and -0.0 stay apart. Contents are compared by SHA-256,
    one tensor in memory at a time. In a body the copy of an outer tensor goes, never the other
    way round. Strings, and initializers that are listed as inputs or outputs, stay.
    """

    min_bytes: Annotated[
        int, Option("leave smaller tensors alone: sharing them saves nothing", low=0, unit="bytes")
    ] = 64

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        groups: dict[_Key, int] = {}
        for scope in graph.scopes():
            for _, tensor in self._candidates(scope):
                key = _key(tensor)
                groups[key] = groups.get(key, 0) + 1
        self._merge(graph.main, {}, groups, changes)
        if not changes:
            changes.skip("model", f"no two tensors of {self.min_bytes} bytes or more are the same")
        return changes

    def _candidates(self, scope: Scope) -> Iterator[tuple[str, TensorProto]]:
        fixed = {*scope.inputs, *scope.outputs}
        for name, tensor in list(scope.initializers.items()):
            if name in fixed or tensor.data_type == onnx.TensorProto.STRING:
                continue
            if stored_bytes(tensor) >= self.min_bytes:
                yield name, tensor

    def _merge(
        self,
        scope: Scope,
        outer: dict[tuple[_Key, bytes], str],
        groups: dict[_Key, int],
        changes: Changes,
    ) -> None:
        """Merge within a scope and with what the scopes around it hold."""
        seen = dict(outer)
        for name, tensor in self._candidates(scope):
            if groups[_key(tensor)] < 2:
                continue
            values = scope.graph.read(tensor)
            digest = hashlib.sha256(values.reshape(-1).view(np.uint8).data).digest()
            same = seen.setdefault((_key(tensor), digest), name)
            if same == name:
                continue
            scope.replace_uses(name, same)
            scope.drop_initializer(name)
            changes.edit(name, f"the same as {same!r}: {values.nbytes} bytes saved")
        for node in scope.nodes:
            for body in scope.children(node).values():
                self._merge(body, seen, groups, changes)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("shared-weights"), Example("shared-weights", {"min_bytes": 0})]


def _key(tensor: TensorProto) -> _Key:
    return tensor.data_type, tuple(tensor.dims)
