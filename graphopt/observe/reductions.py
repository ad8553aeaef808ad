"""What is taken of a tensor in each run: small arrays computed inside the graph, or on the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto

from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

__all__ = [
    "Reduction",
    "Sampled",
    "SizeOf",
    "Tap",
    "add_taps",
    "compute",
    "samples_inside",
    "start_input",
]

_OPERATORS = {"min": "ReduceMin", "max": "ReduceMax", "mean": "ReduceMean"}
_AXES_ARE_INPUTS = 18  # opset from which ReduceMin, ReduceMax and ReduceMean take axes as input
_SLICE_HAS_STEPS = 10
_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Reduction:
    """Minimum, maximum or mean over all axes but those in ``keep``.

    Of an empty tensor the minimum is ``inf``, the maximum ``-inf`` and the mean 0.
    """

    tensor: str
    kind: Literal["min", "max", "mean"]
    keep: tuple[int, ...]
    rank: int


@dataclass(frozen=True)
class Sampled:
    """Every ``step``-th value in row-major order, from a start that the run chooses."""

    tensor: str
    step: int


@dataclass(frozen=True)
class SizeOf:
    """The shape of the tensor, as int64."""

    tensor: str


Tap = Reduction | Sampled | SizeOf


def compute(values: Array, tap: Tap, starts: Mapping[int, int]) -> Array:
    """A tap of an array at hand, as the graph would compute it.

    Args:
        values: Any shape and real dtype.
        tap: What to take.
        starts: First position of the samples for each step.
    """
    if isinstance(tap, SizeOf):
        return np.array(values.shape, dtype=np.int64)
    floats = np.asarray(values, dtype=np.float32)
    if isinstance(tap, Sampled):
        return floats.ravel()[starts[tap.step] :: tap.step]
    axes = _reduced(tap)
    if tap.kind == "min":
        return np.asarray(floats.min(axis=axes, initial=np.inf))
    if tap.kind == "max":
        return np.asarray(floats.max(axis=axes, initial=-np.inf))
    count = math.prod(floats.shape[axis] for axis in axes)
    return np.asarray(floats.sum(axis=axes) / np.float32(max(count, 1)))


def _reduced(tap: Reduction) -> tuple[int, ...]:
    return tuple(axis for axis in range(tap.rank) if axis not in tap.keep)


def add_taps(graph: Graph, taps: Sequence[Tap], floats: Container[str]) -> dict[Tap, str]:
    """Add nodes that compute the taps to the main graph.

    For each step of ``Sampled`` the graph gets an int64 input ``(1,)``: the start of the samples,
    called as ``start_input`` says.

    Args:
        graph: Edited.
        taps: Of node outputs of the main graph.
        floats: Names of tensors known to be float32; others are cast.

    Returns:
        The name of the tensor that holds each tap; for ``Sampled`` the whole tensor where
        ``samples_inside`` says so.
    """
    builder = _Builder(graph, floats)
    return {tap: builder.add(tap) for tap in taps}


def samples_inside(graph: Graph) -> bool:
    """Whether the opset has Slice with steps; without, ``Sampled`` hands out the whole tensor."""
    return graph.opset >= _SLICE_HAS_STEPS


def start_input(step: int) -> str:
    """Name of the input that says where the samples of this step start."""
    return f"graphopt_start_{step}"


class _Builder:
    """Adds the nodes of taps; what several taps share is added once."""

    def __init__(self, graph: Graph, floats: Container[str]) -> None:
        self.graph, self.scope, self.floats = graph, graph.main, floats
        self.shared: dict[object, str] = {}

    def add(self, tap: Tap) -> str:
        if isinstance(tap, SizeOf):
            return self._node("Shape", [tap.tensor])
        source = self._float(tap.tensor)
        if isinstance(tap, Sampled):
            if not samples_inside(self.graph):
                return source
            flat = self._once(
                ("flat", tap.tensor),
                lambda: self._node("Reshape", [source, self._constant([-1])]),
            )
            start = self._once(("start", tap.step), lambda: self._input(start_input(tap.step)))
            window = [start, self._constant([_END]), self._constant([0])]
            return self._node("Slice", [flat, *window, self._constant([tap.step])])
        axes = _reduced(tap)
        if not axes:
            return self._node("Identity", [source])
        operator = _OPERATORS[tap.kind]
        if self.graph.opset >= _AXES_ARE_INPUTS:
            return self._node(operator, [source, self._constant(axes)], keepdims=0)
        return self._node(operator, [source], axes=axes, keepdims=0)

    def _float(self, tensor: str) -> str:
        """The tensor itself, or cast to float32."""
        if tensor in self.floats:
            return tensor
        return self._once(
            ("cast", tensor), lambda: self._node("Cast", [tensor], to=TensorProto.FLOAT)
        )

    def _node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = self.graph.unique_name(f"{inputs[0]}_{operator}")
        self.scope.add(onnx.helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def _constant(self, numbers: Sequence[int]) -> str:
        key = ("constant", tuple(numbers))
        values = np.array(numbers, dtype=np.int64)
        return self._once(key, lambda: self.scope.add_constant("graphopt_constant", values))

    def _input(self, name: str) -> str:
        declared = onnx.helper.make_tensor_value_info(name, TensorProto.INT64, [1])
        self.scope.add_input(declared)
        return name

    def _once(self, key: object, make: Callable[[], str]) -> str:
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]
