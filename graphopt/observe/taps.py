"""What is taken of a tensor in each run: small arrays computed inside the graph, or on the host."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto

from graphopt.errors import DataError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

__all__ = ["Reduction", "Sampled", "SizeOf", "Tap", "TapNodes", "Whole", "rows_and", "start_input"]

_AXES_ARE_INPUTS = 18  # opset from which ReduceMin, ReduceMax and ReduceMean take axes as input
_SLICE_HAS_STEPS = 10
_END = np.iinfo(np.int64).max


def start_input(bound: int) -> str:
    """Name of the graph input that brings the random integer below ``bound``."""
    return f"graphopt_start_{bound}"


class TapNodes:
    """Adds the nodes of taps to a graph; what several taps share is added once.

    Args:
        graph: Edited.
        floats: Names of tensors known to be float32; others are cast.
    """

    def __init__(self, graph: Graph, floats: Container[str]) -> None:
        self.graph, self.opset = graph, graph.opset
        self._floats = floats
        self._shared: dict[object, str] = {}

    def floats(self, tensor: str) -> str:
        """The tensor itself, or cast to float32."""
        if tensor in self._floats:
            return tensor
        return self.once(
            ("cast", tensor), lambda: self.node("Cast", [tensor], to=TensorProto.FLOAT)
        )

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node of one output; gives its name."""
        output = self.graph.unique_name(f"{inputs[0]}_{operator}")
        made = onnx.helper.make_node(operator, inputs, [output], output, **attributes)
        self.graph.main.add(made)
        return output

    def reduce(self, operator: str, tensor: str, axes: Sequence[int]) -> str:
        """ReduceMin, ReduceMax or ReduceMean over ``axes``, which go; over none it is Identity."""
        if not axes:
            return self.node("Identity", [tensor])
        if self.opset >= _AXES_ARE_INPUTS:
            return self.node(operator, [tensor, self.constant(axes)], keepdims=0)
        return self.node(operator, [tensor], axes=axes, keepdims=0)

    def constant(self, numbers: Sequence[int]) -> str:
        """An int64 constant of one axis."""
        values = np.array(numbers, dtype=np.int64)
        return self.once(
            ("constant", tuple(numbers)),
            lambda: self.graph.main.add_constant("graphopt_constant", values),
        )

    def drawn(self, bound: int) -> str:
        """The int64 input ``(1,)`` that brings what was drawn below ``bound`` for this run."""
        name = start_input(bound)

        def declare() -> str:
            declared = onnx.helper.make_tensor_value_info(name, TensorProto.INT64, [1])
            self.graph.main.add_input(declared)
            return name

        return self.once(("drawn", bound), declare)

    def once(self, key: object, make: Callable[[], str]) -> str:
        """What ``make`` gave at the first call with this key."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]


@dataclass(frozen=True)
class Tap(ABC):
    """Something to take of a tensor of the main graph in each run, in two forms.

    Both forms give the same up to rounding. Two taps that compare equal are computed once.
    """

    tensor: str

    @property
    def draws(self) -> tuple[int, ...]:
        """Bounds of the random integers that the tap takes anew in each run."""
        return ()

    def add(self, nodes: TapNodes) -> str | None:
        """The graph form: add nodes; gives the name of the tensor that holds the tap.

        None where there is none at this opset: then the tensor is copied out of the run.
        """
        return None

    @abstractmethod
    def compute(self, values: Array, drawn: Mapping[int, int]) -> Array:
        """The host form.

        Args:
            values: The tensor, of any shape and real dtype.
            drawn: The random integers of this run, by bound.
        """


@dataclass(frozen=True)
class Reduction(Tap):
    """Minimum, maximum or mean over all axes but those in ``keep``.

    Of an empty tensor the minimum is ``inf``, the maximum ``-inf`` and the mean 0. The mean is
    float32 from the graph, and float64 from the host.

    Attributes:
        keep: Axes that stay, from 0 to ``rank - 1``.
        rank: Of the tensor.
        squared: Reduce the squares of the values.
    """

    kind: Literal["min", "max", "mean"]
    keep: tuple[int, ...]
    rank: int
    squared: bool = False

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(self.rank) if axis not in self.keep)

    def add(self, nodes: TapNodes) -> str:
        source = nodes.floats(self.tensor)
        if self.squared:
            square = [source, source]
            source = nodes.once(("square", source), lambda: nodes.node("Mul", square))
        return nodes.reduce(f"Reduce{self.kind.capitalize()}", source, self._axes)

    def compute(self, values: Array, drawn: Mapping[int, int]) -> Array:
        floats = np.asarray(values, dtype=np.float32)
        if self.squared:
            with np.errstate(over="ignore"):  # infinite means are refused by who reads them
                floats = floats * floats
        if self.kind == "min":
            return np.asarray(floats.min(axis=self._axes, initial=np.inf))
        if self.kind == "max":
            return np.asarray(floats.max(axis=self._axes, initial=-np.inf))
        count = math.prod(floats.shape[axis] for axis in self._axes)
        return np.asarray(floats.sum(axis=self._axes, dtype=np.float64) / max(count, 1))


@dataclass(frozen=True)
class Sampled(Tap):
    """Every ``step``-th value in row-major order, from a random start in each run."""

    step: int

    @property
    def draws(self) -> tuple[int, ...]:
        return (self.step,)

    def add(self, nodes: TapNodes) -> str | None:
        if nodes.opset < _SLICE_HAS_STEPS:
            return None
        source = nodes.floats(self.tensor)
        flat = nodes.once(
            ("flat", source), lambda: nodes.node("Reshape", [source, nodes.constant([-1])])
        )
        window = [nodes.drawn(self.step), nodes.constant([_END]), nodes.constant([0])]
        return nodes.node("Slice", [flat, *window, nodes.constant([self.step])])

    def compute(self, values: Array, drawn: Mapping[int, int]) -> Array:
        return np.asarray(values, dtype=np.float32).ravel()[drawn[self.step] :: self.step]


@dataclass(frozen=True)
class SizeOf(Tap):
    """The shape of the tensor, as int64."""

    def add(self, nodes: TapNodes) -> str:
        return nodes.node("Shape", [self.tensor])

    def compute(self, values: Array, drawn: Mapping[int, int]) -> Array:
        return np.array(values.shape, dtype=np.int64)


@dataclass(frozen=True)
class Whole(Tap):
    """All values as float32, for what only the host can reduce."""

    def compute(self, values: Array, drawn: Mapping[int, int]) -> Array:
        if not isinstance(values, np.ndarray) or values.dtype.kind in "OSU":
            raise DataError(f"tensor {self.tensor!r} holds no numbers that could be observed")
        return np.asarray(values, dtype=np.float32)


def rows_and(axis: int) -> tuple[int, ...]:
    """Axes to keep for numbers by ``axis``: it, and the rows of the batch, not all of which count.

    >>> rows_and(2), rows_and(0)
    ((0, 2), (0,))
    """
    return (0, axis) if axis else (0,)
