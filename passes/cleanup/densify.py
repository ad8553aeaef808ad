"""Pass ``densify``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.registry import register
from graphopt.graph.constant import constants_of
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import stored_bytes
from graphopt.rewrite.sparse import store_dense

__all__ = ["Densify"]


@register("densify")
@dataclass(frozen=True, kw_only=True)
class Densify(Pass):
    """Store all values of weights that are stored sparse, which few runtimes can read.

        sparse_initializer W      becomes      initializer W

    onnxruntime reads sparse initializers and makes them dense as it loads; most other runtimes and
    converters refuse the file, some of them crash. Values stay as they are, zeros too, so the file
    is larger until it is compressed. Source: ONNX IR specification (SparseTensorProto).
    """

    may_grow: ClassVar[str] = "zeros take as many bytes as other values"

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes(nothing="no weight is stored sparse")
        for scope in graph.scopes():
            for constant in list(constants_of(scope)):
                if constant.sparse is None:
                    continue
                before = constant.nbytes
                store_dense(constant)
                after = scope.constant(constant.origin)
                assert after is not None
                told = f"stored dense: {stored_bytes(after.tensor)} bytes in place of {before}"
                changes.edit(constant.origin, told)
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("mlp", before="mask-weights{sparsity=0.9,storage=sparse}")]
