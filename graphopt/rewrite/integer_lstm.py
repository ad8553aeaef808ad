"""A recurrent layer whose weights are integers and whose activations become so at run time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.operator import CONTRIB
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute
from graphopt.numerics import grids, ranges, saturation
from graphopt.rewrite.contrib import declare_type, import_contrib
from graphopt.rewrite.values import drop_unread

__all__ = ["DynamicRecurrent", "recurrent_refusal"]

_QMAX = 127
_PARAMETERS = 8  # inputs in front of the scales and zero points


def recurrent_refusal(node: NodeProto, weights: list[Layer]) -> Refusal | None:
    """Why a recurrent layer has no integer form; None where it has.

    Args:
        node: An LSTM.
        weights: Its layers; those of a weight that is computed are missing.
    """
    if len(weights) < 2:
        return Refusal(node, "one of its weights is computed at run time")
    if attribute(node, "layout", 0):
        return Refusal(node, "its layout is 1; the integer kernel takes time in front")
    for each in weights:
        refusal = each.refusal("codable", "fixed", "finite")
        if refusal is not None:
            return refusal
        if each.weight.turned:
            return Refusal(node, "a Transpose stands behind its weight; put fold-constants first")
    return None


@dataclass
class DynamicRecurrent:
    """Puts onnxruntime's DynamicQuantizeLSTM in place of LSTM; a shared weight is stored once.

    Attributes:
        per_channel: One weight scale for each gate row, instead of one a direction.
        method: How a scale follows from the values.
        saturates: Raise scales until no two neighbouring products overflow 16 bits.
    """

    per_channel: bool
    method: Literal["max", "mse"]
    saturates: bool
    stored: dict[tuple[int, str], tuple[str, str, str]] = field(default_factory=dict)
    zeros: dict[tuple[int, tuple[int, ...]], str] = field(default_factory=dict)

    def replace(
        self, scope: Scope, node: NodeProto, operator: str, weights: list[Layer], shapes: Shapes
    ) -> None:
        """Replace a node; name, outputs, attributes and its other inputs stay.

        The types of its outputs are declared, as no shape inference knows the operator.

        Args:
            scope: Where it is.
            node: An LSTM that ``recurrent_refusal`` lets pass.
            operator: The operator of onnxruntime's own domain that takes its place.
            weights: The layers of W and R, in this order.
            shapes: Of the tensors of the graph.
        """
        inputs = [*node.input, *[""] * (_PARAMETERS - len(node.input))]
        parts = [self._stored(each) for each in weights]
        for each, (codes, *_) in zip(weights, parts, strict=True):
            inputs[each.weight.index] = codes
        for _, scale, zero_point in parts:
            inputs += [scale, zero_point]
        made = onnx.helper.make_node(operator, inputs, list(node.output), name=node.name)
        made.domain = CONTRIB
        made.attribute.extend(each for each in node.attribute if each.name != "layout")
        made.doc_string = node.doc_string
        made.metadata_props.extend(node.metadata_props)
        scope.add(made, before=node)
        scope.remove([node])
        drop_unread(scope, node.input[1:3])
        for name in filter(None, node.output):
            declare_type(scope, name, shapes)
        import_contrib(scope.graph)

    def _stored(self, layer: Layer) -> tuple[str, str, str]:
        """Names of codes ``(direction, in, gates * hidden)``, scales and zero points."""
        home, name = layer.weight.constant.scope, layer.weight.constant.origin
        key = id(home), name
        if key not in self.stored:
            values = np.ascontiguousarray(layer.weight.values().transpose(0, 2, 1))
            scale = np.stack([self._scale(matrix) for matrix in values])
            along = scale[:, None, None] if scale.ndim == 1 else scale[:, None, :]
            codes = grids.quantize(values / along, 1.0, 0, -_QMAX, _QMAX).astype(np.int8)
            self.stored[key] = (
                home.add_constant(f"{name}_quantized", codes),
                home.add_constant(f"{name}_scale", scale),
                self._zero_points(home, scale.shape),
            )
        return self.stored[key]

    def _zero_points(self, home: Scope, shape: tuple[int, ...]) -> str:
        """Zeros of that shape, which all layers of a scope share."""
        key = id(home), shape
        if key not in self.zeros:
            self.zeros[key] = home.add_constant("zero_points", np.zeros(shape, np.int8))
        return self.zeros[key]

    def _scale(self, matrix: NDArray[Any]) -> NDArray[np.float32]:
        """Scales of ``(in, gates * hidden)``: one a column, or rank 0."""
        axis = 1 if self.per_channel else None
        scale = np.asarray(ranges.weight_scales(matrix, axis, _QMAX, self.method), np.float32)
        if self.saturates:
            factors = saturation.raise_factors(matrix, scale)
            scale = scale * (factors if scale.ndim else factors.max(initial=1.0))
        return np.asarray(scale, np.float32)
