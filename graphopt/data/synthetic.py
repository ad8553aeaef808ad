"""Random feeds for models that come without data: enough to run them, not to calibrate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from graphopt.data.bounds import feed_bound, feed_too_large
from graphopt.data.samples import Feeds
from graphopt.errors import DataError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

__all__ = ["SyntheticSamples"]

_FREE_DIM = 8
_BLOCK = 1 << 20
"""Elements that are drawn at once."""


@dataclass(frozen=True)
class SyntheticSamples:
    """Seeded random feeds: normal floats, integers 0 and 1, booleans; a free first axis is 1.

    Other free axes get 8 elements; axes of the same name get the same size.

    Raises:
        DataError: On iteration, for an input that is no tensor, or a feed that takes more than
            ``graphopt.data.bounds.feed_bound``.
    """

    graph: Graph
    count: int = 4
    seed: int = 0
    memory_limit: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all feeds."""
        values = [each for each in self.graph.required_inputs if each.type.HasField("tensor_type")]
        return self.count * sum(map(_bytes, values))

    @property
    def labels(self) -> Array | None:
        """None: random feeds have no right answers."""
        return None

    def feeds(
        self,
        batch: int = 1,  # noqa: ARG002 - part of the protocol
        limit: int | None = None,
    ) -> Iterator[tuple[Feeds, int]]:
        """One sample a feed, whatever ``batch`` asks for."""
        rng = np.random.default_rng(self.seed)
        self._check()
        for _ in range(min(self.count, limit or self.count)):
            yield {v.name: _array(v, rng) for v in self.graph.required_inputs}, 1

    def _check(self) -> None:
        """Look at the size of a feed before there is one."""
        needed, most = 0, feed_bound(self.memory_limit)
        for value in self.graph.required_inputs:
            if not value.type.HasField("tensor_type"):
                raise DataError(
                    f"input {value.name!r} is no tensor; random feeds cannot be made for it"
                )
            needed += _bytes(value)
            if needed > most:
                what = "a random feed"
                raise feed_too_large(needed, most, f"input {value.name!r} {_shape(value)}", what)


def _bytes(value: onnx.ValueInfoProto) -> int:
    return math.prod(_shape(value)) * _dtype(value).itemsize


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[np.generic]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(
        dim.dim_value if dim.dim_value > 0 else (1 if axis == 0 else _FREE_DIM)
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
    )


def _array(value: onnx.ValueInfoProto, rng: np.random.Generator) -> Array:
    kind, shape, dtype = value.type.tensor_type.elem_type, _shape(value), _dtype(value)
    if kind == TensorProto.STRING:
        return np.full(shape, "a", dtype=object)
    values = np.empty(math.prod(shape), dtype)
    for first in range(0, values.size, _BLOCK):  # they are drawn as 8 bytes each
        count = min(_BLOCK, values.size - first)
        if kind == TensorProto.BOOL:
            drawn: Array = rng.random(count) < 0.5
        elif dtype.kind in "iu":
            drawn = rng.integers(0, 2, count)
        else:
            drawn = rng.standard_normal(count)
        values[first : first + count] = drawn
    return values.reshape(shape)
