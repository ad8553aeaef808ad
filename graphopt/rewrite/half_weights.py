"""Weights stored as half floats behind a Cast, as float32 for as long as a pass works on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto

from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.graph.tensors import Array
from graphopt.rewrite.edit import forget
from graphopt.rewrite.values import drop_unread

__all__ = ["HALVES", "HalfWeight", "restore", "widen"]

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
"""Floats of 16 bits, every value of which float32 holds as well."""
_ROUNDED = 2**-8
"""Relative error of rounding to bfloat16; what lies outside the range of float16 has more."""


@dataclass(frozen=True, eq=False)
class HalfWeight:
    """A half float constant that is a float32 initializer for now.

    Attributes:
        scope: Where the Cast was that made float32 of it.
        cast: That node, taken out.
        stored: The constant that it read; it stays in the graph.
        tensor: What took the place of the Cast's output.
    """

    scope: Scope
    cast: NodeProto
    stored: Constant
    tensor: TensorProto

    @property
    def name(self) -> str:
        """The name under which it is read as float32."""
        return str(self.cast.output[0])


def widen(graph: Graph) -> list[HalfWeight]:
    """Put float32 initializers in place of every Cast of a half float constant to float32.

        W float16 -> Cast -> Conv      becomes      W float32 -> Conv

    Left alone is what a caller may replace, and what is an output of the model or a body.
    """
    return [
        _widened(scope, node, stored)
        for scope in graph.scopes()
        for node in list(scope.nodes)
        if (stored := _half(scope, node)) is not None
    ]


def _half(scope: Scope, node: NodeProto) -> Constant | None:
    """The half float constant that a node makes float32 of."""
    if not is_op(node, "Cast") or attribute(node, "to", 0) != TensorProto.FLOAT:
        return None
    stored, name = scope.constant(node.input[0]), node.output[0]
    if stored is None or stored.data_type not in HALVES or stored.overridable:
        return None
    given_out = scope.is_output(name) or any(use.index < 0 for use in scope.any_uses(name))
    return None if given_out else stored


def _widened(scope: Scope, cast: NodeProto, stored: Constant) -> HalfWeight:
    name = cast.output[0]
    scope.remove([cast])
    scope.define(name, stored.values.astype(np.float32))
    return HalfWeight(scope, cast, stored, scope.initializers[name])


def restore(graph: Graph, widened: Iterable[HalfWeight], *, rounded: bool = False) -> None:
    """Store as half floats again what a pass left as it was, and values that half floats hold.

    What it replaced loses the half float constant as well, unless others read that.

    Args:
        graph: What came out of the pass.
        widened: What ``widen`` did before it.
        rounded: Round other values to half floats, as far as these hold them: not beyond their
            range.
    """
    waiting = list(widened)
    casts = Counter(each.stored.origin for each in waiting)
    for each in waiting:
        scope, name = each.scope, each.name
        tensor = scope.initializers.get(name)
        if tensor is None or not scope.is_read(name):
            scope.drop_initializer(*([] if tensor is None else [name]))
            forget(scope, [name])
        elif tensor is each.tensor:
            _put_back(each)
        elif (values := _as_half(graph, tensor, each.stored, rounded)) is not None:
            home, origin = each.stored.scope, each.stored.origin
            if casts[origin] > 1 or home.is_read(origin) or home.is_output(origin):
                each.cast.input[0] = scope.add_constant(origin, values)
            else:
                each.stored.set(values)
            _put_back(each)
        drop_unread(each.stored.scope, [each.stored.name, each.stored.origin])


def _put_back(each: HalfWeight) -> None:
    """Let the Cast make float32 of a half float constant again."""
    scope, name = each.scope, each.name
    del scope.initializers[name]  # its declared type stays that of the Cast's output
    scope.add(each.cast, before=scope.first_reader(name))


def _as_half(graph: Graph, tensor: TensorProto, stored: Constant, rounded: bool) -> Array | None:
    """A tensor's values in the type of a half float constant; None where it does not hold them."""
    values = graph.read(tensor)
    with np.errstate(over="ignore"):
        half: Array = values.astype(stored.values.dtype)
    if values.dtype != np.float32:
        return None
    again = half.astype(np.float32)
    if rounded:
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.linalg.norm((again - values).astype(np.float64))
        return half if error <= _ROUNDED * np.linalg.norm(values.astype(np.float64)) else None
    return half if np.array_equal(again, values, equal_nan=True) else None
