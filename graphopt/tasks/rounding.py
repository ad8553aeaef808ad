"""What rounding alone makes a constant vary by: by the coarsest type that it is computed in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope

__all__ = ["rounding_of", "roundings"]

_ROUNDING: Mapping[int, float] = {
    TensorProto.BFLOAT16: 2.0**-9,
    TensorProto.FLOAT16: 2.0**-12,
    TensorProto.FLOAT: 2.0**-20,
    TensorProto.DOUBLE: 2.0**-40,
}
"""Deviation over magnitude. In half precision half of what tells two values apart, which no
longer sum can show; the others leave room for sums of some thousand values."""
_BY_NUMPY: Mapping[str, int] = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}


def rounding_of(dtype: np.dtype[np.generic]) -> float:
    """Of values of a type of numpy, where nothing is known of what they are computed in.

    >>> rounding_of(np.dtype(np.float16)) == 2.0**-12
    True
    """
    return _ROUNDING[_BY_NUMPY.get(dtype.name, TensorProto.FLOAT)]


def roundings(scope: Scope, shapes: Shapes) -> dict[str, float]:
    """Of each tensor behind a node that computes floats from the inputs.

    A float32 output behind layers in half precision is no more exact than these; what is given, an
    input or a constant, is not rounded here.
    """
    varies = {name for name in scope.inputs if scope.constant(name) is None}
    found = dict[str, float]()
    for node in scope.nodes:
        read = [name for name in scope.reads(node) if name in varies]
        if not read:
            continue
        before = max((found[name] for name in read if name in found), default=0.0)
        for name in filter(None, node.output):
            varies.add(name)
            info = shapes.get(name)
            own = 0.0 if info is None else _ROUNDING.get(info.data_type, 0.0)
            if rounding := max(own, before):
                found[name] = rounding
    return found
