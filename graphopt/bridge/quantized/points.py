"""What is quantized in a graph: its weights, activations and biases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.graph.graph import Constant
from graphopt.graph.tensors import Array

__all__ = ["ActivationPoint", "BiasPoint", "Codes", "Place", "WeightPoint"]


@dataclass(frozen=True, eq=False)
class Place:
    """Input ``index`` of a node of the main graph."""

    node: NodeProto
    index: int

    @property
    def name(self) -> str:
        """The tensor that is read there."""
        return str(self.node.input[self.index])


@dataclass(frozen=True, eq=False)
class Codes:
    """The integers of a grid and where its numbers lie in a tensor.

    Attributes:
        qmin: Smallest code.
        qmax: Largest code.
        zero_point: Rank 0, or of the shape of the scale.
        axis: Axis of the scales; None where the scale broadcasts to the tensor as it is.
        block: Neighbours along ``axis`` that share a scale; 0 for all of one index.
        half: The scale is stored as float16.
    """

    qmin: int
    qmax: int
    zero_point: NDArray[np.int64]
    axis: int | None = None
    block: int = 0
    half: bool = False


@dataclass(frozen=True, eq=False)
class WeightPoint:
    """A weight that is stored as integers.

    Attributes:
        output: The float tensor that its readers see.
        constant: The integers.
        scale: Of the shape in the file, without the axis along which it is repeated for blocks.
        codes: What the integers mean.
        codes_at: Where the integers are read.
        scale_at: Where the scale is read.
    """

    output: str
    constant: Constant
    scale: NDArray[np.float32]
    codes: Codes
    codes_at: Place
    scale_at: Place


@dataclass(frozen=True, eq=False)
class ActivationPoint:
    """A tensor that goes through QuantizeLinear and DequantizeLinear.

    Attributes:
        source: The float tensor before.
        outputs: The float tensors behind, all the same.
        scale: Of the shape in QuantizeLinear.
        codes: What the integers mean.
        scales_at: Where the scale is read; behind a vector of equal scales there too.
        tie: Points of the same number share their scale.
        ceiling: Largest scale at which the runtime drops the Clip before; None without one.
    """

    source: str
    outputs: tuple[str, ...]
    scale: NDArray[np.float32]
    codes: Codes
    scales_at: tuple[Place, ...]
    tie: int
    ceiling: float | None


@dataclass(frozen=True, eq=False)
class BiasPoint:
    """A bias that is stored as int32.

    Attributes:
        output: The float tensor that its readers see.
        values: ``(channels,)``, what it means as floats.
        scale: Of the shape in the file.
        axis: Axis of the scale.
        codes_at: Where the integers are read.
        scale_at: Where the scale is read.
        layer: Names of the activation and of the weight whose scales, multiplied, are the scale;
            None where it has a scale of its own.
    """

    output: str
    values: Array
    scale: NDArray[np.float32]
    axis: int
    codes_at: Place
    scale_at: Place
    layer: tuple[str, str] | None
