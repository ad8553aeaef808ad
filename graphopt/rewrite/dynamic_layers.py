"""Linear layers on integers whose activations take their range at run time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.facts.codes import GivenCodes, given_codes
from graphopt.facts.layers import Layer, picks_rows
from graphopt.graph.graph import Scope, Use
from graphopt.numerics import grids, ranges, saturation
from graphopt.rewrite import qdq
from graphopt.rewrite.values import drop_unread

__all__ = ["DynamicBuilder", "DynamicGrid", "DynamicWeights"]

_QMAX = 127
_OFFSET = 128


@dataclass(frozen=True)
class DynamicGrid:
    """How weights are stored.

    Attributes:
        per_channel: One scale for each output channel instead of one for the tensor.
        weights: Type of the codes; uint8 around 128.
        ranges: ``max`` covers every value; ``mse`` clips where that makes the error less.
        saturates: Raise scales until no two neighbouring products overflow 16 bits.
    """

    per_channel: bool
    weights: Literal["int8", "uint8"]
    ranges: Literal["max", "mse"]
    saturates: bool


@dataclass(frozen=True)
class _Stored:
    """A weight as integers: names of codes, scale and zero point (int8 has none).

    ``codes`` are as stored: ``(out, in)`` where ``transposed``, else ``(in, out)``.
    """

    codes: str
    scale: str
    zero_point: str | None
    transposed: bool
    note: str


@dataclass
class DynamicWeights:
    """Stores weights as integers, each once however many layers read it."""

    grid: DynamicGrid
    stored: dict[tuple[int, str, int, float], _Stored] = field(default_factory=dict)

    def get(self, layer: Layer) -> _Stored:
        """The weight of a layer, stored now or before."""
        home, origin = layer.weight.constant.scope, layer.weight.constant.origin
        key = (id(home), origin, layer.out_axis, layer.alpha)
        if key not in self.stored:
            self.stored[key] = self._store(layer)
        return self.stored[key]

    def _store(self, layer: Layer) -> _Stored:
        matrix, given = layer.matrix(), self._given(layer)
        scales, raised = self._scales(matrix, given, layer.alpha)
        axis = 1 if scales.ndim else None
        home, name = layer.weight.constant.scope, layer.weight.constant.origin
        if given is not None and not raised and self.grid.weights == "int8":
            return self._kept(layer, given, scales)
        codes = grids.quantize(matrix, scales, 0, -_QMAX, _QMAX, axis)
        tables = _row_lookups(layer) if layer.alpha == 1 and self.grid.weights == "int8" else []
        if tables:
            codes = codes.T
        zero_point = None
        if self.grid.weights == "uint8":
            codes = (codes.astype(np.int16) + _OFFSET).astype(np.uint8)
            zero_point = home.add_constant(f"{name}_zero_point", np.asarray(_OFFSET, np.uint8))
        stored = _Stored(
            home.add_constant(f"{name}_quantized", codes),
            home.add_constant(f"{name}_scale", scales),
            zero_point,
            bool(tables),
            f"; {raised} of {matrix.shape[1]} scales raised against saturation" if raised else "",
        )
        _read_rows(tables, stored.codes, scales, name)
        return stored

    def _given(self, layer: Layer) -> GivenCodes | None:
        """The codes that the file has for a weight, where they suit the options."""
        codes = given_codes(layer.weight)
        if codes is None or not codes.symmetric or layer.alpha <= 0:
            return None
        if codes.axis is not None and not self.grid.per_channel:
            return None
        return codes if codes.axis in (None, layer.read_axes[0]) else None

    def _kept(self, layer: Layer, codes: GivenCodes, scales: NDArray[np.float32]) -> _Stored:
        """Codes as the file has them; those that others read too are turned in the graph."""
        weight, values, stored = layer.weight, codes.values, codes.stored
        home, name = weight.constant.scope, weight.constant.origin
        across = layer.read_axes[0] == 0  # seen as (out, in)
        between = [(use.scope, use.node.output[0]) for use in weight.path]
        shared = weight.turned and any(len(scope.uses(each)) > 1 for scope, each in between)
        if shared and weight.constant.data_type == TensorProto.INT8:
            stored, across = name, not across
        elif stored is None or across:
            values = values.T if across else values
            stored, across = home.add_constant(f"{name}_quantized", values), False
        scale = home.add_constant(f"{name}_scale", scales)
        return _Stored(stored, scale, None, across, "; its codes are those of the file")

    def _scales(
        self, matrix: NDArray[np.float32], given: GivenCodes | None, factor: float = 1.0
    ) -> tuple[NDArray[np.float32], int]:
        """Scales ``(out,)`` or rank 0 of ``(in, out)``, and how many were raised."""
        axis = 1 if self.grid.per_channel else None
        if given is None:
            scales = ranges.weight_scales(matrix, axis, _QMAX, self.grid.ranges)
        else:
            scales = np.broadcast_to(given.scale * np.float32(factor), matrix.shape[1:])
        raised = 0
        if self.grid.saturates:
            factors = saturation.raise_factors(matrix, scales)
            factors = factors if self.grid.per_channel else factors.max(keepdims=True)
            raised = int((factors > 1).sum())
            scales = scales * factors
        if self.grid.per_channel:
            return np.ascontiguousarray(scales, np.float32), raised
        return scales.reshape(-1)[:1].reshape(()), raised


def _row_lookups(layer: Layer) -> list[Use]:
    """The Gathers that pick rows of a weight ``(out, in)``: an embedding tied to this layer."""
    if layer.out_axis != 0:
        return []
    uses = layer.weight.constant.scope.uses(layer.weight.constant.origin)
    return [use for use in uses if picks_rows(use.node, use.index)]


def _read_rows(tables: list[Use], codes: str, scales: NDArray[np.float32], name: str) -> None:
    """Let the Gathers read the layer's codes, with the scale of each row they pick."""
    if not tables:
        return
    rows = tables[0].scope.constant(codes)
    assert rows is not None
    column = np.broadcast_to(scales, rows.shape[:1]).reshape(-1, 1).copy()
    scale = rows.scope.add_constant(f"{name}_row_scale", column)
    for use in tables:
        qdq.pick_entries(use.scope, use.node, codes, scale)


@dataclass
class DynamicBuilder:
    """Puts the integer form in place of linear layers of one scope."""

    scope: Scope
    weights: DynamicWeights
    activations: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def replace(self, layer: Layer) -> str:
        """Replace a layer; what was done, in words."""
        node, result = layer.node, layer.node.output[0]
        codes, scale, zero_point = self._activation(layer)
        weight = self.weights.get(layer)
        right = weight.codes
        if weight.transposed:
            right = self._add("Transpose", [right], f"{right}_transposed", node, perm=[1, 0])
        inputs = [codes, right, zero_point]
        if weight.zero_point is not None:
            inputs.append(weight.zero_point)
        sums = self._multiply(inputs, node)
        floats = self._add("Cast", [sums], f"{result}_cast", node, to=TensorProto.FLOAT)
        factor = self._add("Mul", [scale, weight.scale], f"{result}_scale", node)
        bias = self._bias(layer)
        if bias is None:
            self._finish("Mul", [floats, factor], node)
        else:
            product = self._add("Mul", [floats, factor], f"{result}_product", node)
            self._finish("Add", [product, bias], node)
        self._drop(layer)
        return f"{self.weights.grid.weights} weight, dynamic uint8 activation{weight.note}"

    def _add(
        self,
        op_type: str,
        inputs: list[str],
        output: str,
        before: NodeProto,
        **attributes: int | list[int],
    ) -> str:
        return qdq.add_node(self.scope, op_type, inputs, output, before=before, **attributes)

    def _activation(self, layer: Layer) -> tuple[str, str, str]:
        """Codes, scale and zero point of a tensor, computed once for all layers that read it."""
        tensor = layer.data
        if tensor not in self.activations:
            unique = self.scope.graph.unique_name
            parts = ("quantized", "scale", "zero_point")
            codes, scale, zero_point = (unique(f"{tensor}_{part}") for part in parts)
            outputs = [codes, scale, zero_point]
            node = onnx.helper.make_node("DynamicQuantizeLinear", [tensor], outputs, name=codes)
            self.scope.add(node, before=layer.node)
            self.activations[tensor] = codes, scale, zero_point
        return self.activations[tensor]

    def _bias(self, layer: Layer) -> str | None:
        """Name of ``beta * C`` of a Gemm; None where there is none, or nothing but zeros."""
        if not layer.adds:
            return None
        node, name, beta = layer.node, str(layer.node.input[2]), layer.beta
        constant = self.scope.constant(name)
        fixed = constant is not None and not constant.overridable
        if constant is not None and fixed and layer.bias is not None and not constant.values.any():
            return None
        if beta == 1:
            return name
        if constant is not None and not constant.overridable:
            scaled = constant.values * np.float32(beta)
            return constant.scope.add_constant(f"{name}_scaled", scaled)
        factor = self.scope.add_constant(f"{name}_beta", np.asarray(beta, np.float32))
        return self._add("Mul", [name, factor], f"{name}_scaled", node)

    def _multiply(self, inputs: list[str], node: NodeProto) -> str:
        """The node that does the layer's work; it inherits name and metadata."""
        output = self.scope.graph.unique_name(f"{node.output[0]}_integer")
        name = node.name or output
        product = onnx.helper.make_node("MatMulInteger", inputs, [output], name=name)
        product.doc_string = node.doc_string
        product.metadata_props.extend(node.metadata_props)
        self.scope.add(product, before=node)
        return output

    def _finish(self, op_type: str, inputs: list[str], node: NodeProto) -> None:
        """Put the last node, which gives the layer's output, in place of the layer's."""
        name = self.scope.graph.unique_name(f"{node.output[0]}_rescale")
        last = onnx.helper.make_node(op_type, inputs, [node.output[0]], name=name)
        self.scope.add(last, before=node)
        self.scope.remove([node])

    def _drop(self, layer: Layer) -> None:
        """Remove what only the layer read: its float weight, the Transpose of it, its bias."""
        drop_unread(self.scope, layer.node.input[1:])
