"""Random feeds for models that come without data: enough to run them, not to calibrate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from graphopt.data.samples import Feeds
from graphopt.errors import DataError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

__all__ = ["SyntheticSamples"]

_FREE_DIM = 8
_MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class SyntheticSamples:
    """Seeded random feeds: normal floats, integers 0 and 1, booleans; a free first axis is 1.

    Other free axes get 8 elements; axes of the same name get the same size.

    Raises:
        DataError: On iteration, for an input that is no tensor or larger than 256 MB.
    """

    graph: Graph
    count: int = 4
    seed: int = 0

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
        for _ in range(min(self.count, limit or self.count)):
            yield {v.name: _array(v, rng) for v in self.graph.required_inputs}, 1


def _array(value: onnx.ValueInfoProto, rng: np.random.Generator) -> Array:
    if not value.type.HasField("tensor_type"):
        raise DataError(f"input {value.name!r} is no tensor; random feeds cannot be made for it")
    kind = value.type.tensor_type.elem_type
    shape = tuple(
        dim.dim_value if dim.dim_value > 0 else (1 if axis == 0 else _FREE_DIM)
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
    )
    if kind == TensorProto.STRING:
        return np.full(shape, "a", dtype=object)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    if int(np.prod(shape, dtype=np.float64)) * dtype.itemsize > _MAX_BYTES:
        raise DataError(f"input {value.name!r} of shape {shape} is too large for random feeds")
    if kind == TensorProto.BOOL:
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)
