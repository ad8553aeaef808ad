"""Finds the quantized weights, activations and biases of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto, TensorProto

from graphopt.bridge.quantized.points import (
    ActivationPoint,
    BiasPoint,
    Codes,
    Place,
    WeightPoint,
)
from graphopt.bridge.quantized.ties import tied
from graphopt.bridge.tensors import SUB_BYTE
from graphopt.facts.layers import Layer, layers
from graphopt.facts.spread import SpreadConstant, spread_constant
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import attribute, is_op, label
from graphopt.graph.tensors import Array

__all__ = ["Found", "find"]

_WEIGHT_TYPES = (
    *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4),
    *(TensorProto.INT2, TensorProto.UINT2, TensorProto.INT16, TensorProto.UINT16),
)
_SAME_PRODUCT = 1e-5


@dataclass(frozen=True)
class Found:
    """What is quantized in the main graph of a model.

    Attributes:
        weights: In the order of the nodes.
        activations: In the order of the nodes.
        biases: In the order of the nodes.
        row_scales: Names of the scales of tables whose rows are looked up.
        left: Nodes that quantize in a way that is not trained through, each with the reason.
    """

    weights: Sequence[WeightPoint]
    activations: Sequence[ActivationPoint]
    biases: Sequence[BiasPoint]
    row_scales: frozenset[str]
    left: Sequence[tuple[str, str]]

    def __bool__(self) -> bool:
        return bool(self.weights or self.activations)


def find(graph: Graph) -> Found:
    """The quantized weights, activations and biases of the main graph."""
    scope = graph.main
    left: list[tuple[str, str]] = []
    weights = [*_dequantized(scope), *_expanded(scope)]
    order = {out: index for index, node in enumerate(scope.nodes) for out in node.output}
    weights.sort(key=lambda point: order[point.output])
    activations = tied(scope, list(_activations(scope, left)))
    biases = list(_biases(scope, weights, activations))
    return Found(weights, activations, biases, frozenset(_row_scales(scope)), left)


def _limits(data_type: int) -> tuple[int, int]:
    if data_type in SUB_BYTE:
        return SUB_BYTE[data_type]
    kind = np.iinfo({1: "i1", 3: "i1", 2: "u1", 4: "u2", 5: "i2", 6: "i4"}[data_type])
    return int(kind.min), int(kind.max)


def _float_scale(scope: Scope, name: str) -> Array | None:
    """The constant float32 scale that is called so; None for any other."""
    constant = scope.constant(name)
    if constant is None or constant.overridable or constant.data_type != TensorProto.FLOAT:
        return None
    values = constant.values
    return values if bool(np.isfinite(values).all() and (values > 0).all()) else None


def _zero_point(scope: Scope, node: NodeProto) -> tuple[int | None, Array] | None:
    """Type and values of the zero point, 0 where it is left out; None if it is not constant."""
    if len(node.input) < 3 or not node.input[2]:
        return None, np.zeros((), np.int64)
    constant = scope.constant(node.input[2])
    if constant is None:
        return None
    return constant.data_type, constant.values.astype(np.int64)


def _codes(scope: Scope, node: NodeProto, data_type: int | None, rank: int | None) -> Codes | None:
    """What the integers of a QuantizeLinear or DequantizeLinear mean."""
    zero = _zero_point(scope, node)
    if zero is None:
        return None
    kind = data_type or zero[0] or attribute(node, "output_dtype", 0) or TensorProto.UINT8
    if kind not in _WEIGHT_TYPES:
        return None
    found = spread_constant(scope, node, 1)
    assert found is not None
    scale = found.constant
    single = int(np.prod(scale.shape)) == 1 and len(scale.shape) < 2
    axis = None if single else attribute(node, "axis", 1)
    if axis is not None and axis < 0 and rank is not None:
        axis += rank
    return Codes(*_limits(kind), zero[1], axis, attribute(node, "block_size", 0))


# weights


def _dequantized(scope: Scope) -> Iterator[WeightPoint]:
    """Integers behind a DequantizeLinear."""
    for node in scope.nodes:
        if not is_op(node, "DequantizeLinear"):
            continue
        constant, scale = scope.constant(node.input[0]), _weight_scale(scope, node, 1)
        if constant is None or constant.overridable or scale is None:
            continue
        if constant.data_type not in _WEIGHT_TYPES or not constant.shape:
            continue
        codes = _codes(scope, node, constant.data_type, len(constant.shape))
        if codes is not None:
            codes = replace(_symmetric(codes, constant), half=_is_half(scale))
            places = Place(node, 0), Place(scale.place.node, scale.place.index)
            yield WeightPoint(node.output[0], constant, _singles(scale), codes, *places)


def _expanded(scope: Scope) -> Iterator[WeightPoint]:
    """Integers behind Cast and Mul, with a Sub of zero points between or not."""
    for node in scope.nodes:
        if not is_op(node, "Mul"):
            continue
        for index in (0, 1):
            cast, zero = scope.producer(node.input[index]), None
            if cast is not None and is_op(cast, "Sub"):
                zero = spread_constant(scope, cast, 1)
                cast = None if zero is None else scope.producer(cast.input[0])
            if cast is None or not is_op(cast, "Cast"):
                continue
            constant = scope.constant(cast.input[0])
            if constant is None or constant.overridable:
                continue
            scale = _weight_scale(scope, node, 1 - index)
            if scale is None or constant.data_type not in _WEIGHT_TYPES:
                continue
            if len(scale.stored_shape()) > len(constant.shape):
                continue
            codes = Codes(*_limits(constant.data_type), _points(zero), scale.axis, scale.block)
            codes = replace(_symmetric(codes, constant), half=_is_half(scale))
            places = Place(cast, 0), Place(scale.place.node, scale.place.index)
            yield WeightPoint(node.output[0], constant, _singles(scale), codes, *places)


def _weight_scale(scope: Scope, node: NodeProto, index: int) -> SpreadConstant | None:
    """The scale of a weight that can be trained: floats above zero, spread over blocks or not."""
    found = spread_constant(scope, node, index)
    if found is None or found.constant.overridable:
        return None
    if found.constant.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        return None
    values = found.constant.values
    return found if bool(np.isfinite(values).all() and (values > 0).all()) else None


def _singles(scale: SpreadConstant) -> Array:
    """One number a block, of the rank of the codes where there are blocks."""
    return scale.constant.values.astype(np.float32).reshape(scale.stored_shape())


def _is_half(scale: SpreadConstant) -> bool:
    return scale.constant.data_type == TensorProto.FLOAT16


def _points(zero: SpreadConstant | None) -> Array:
    if zero is None:
        return np.zeros((), np.int64)
    return zero.constant.values.astype(np.int64).reshape(zero.stored_shape())


def _symmetric(codes: Codes, constant: Constant) -> Codes:
    """Without the smallest code where a signed weight around zero makes no use of it."""
    if codes.qmin + codes.qmax == -1 and not codes.zero_point.any():
        values = constant.values.astype(np.int64)
        if values.min(initial=0) >= -codes.qmax:
            return replace(codes, qmin=-codes.qmax)
    return codes


def _row_scales(scope: Scope) -> Iterator[str]:
    """Scales of tables whose rows are looked up as integers: Cast(Gather(W)) * Gather(scale)."""
    for node in scope.nodes:
        if not is_op(node, "Mul"):
            continue
        sources = [scope.producer(name) for name in node.input]
        for source, other in ((0, 1), (1, 0)):
            cast, picked = sources[source], sources[other]
            if cast is None or picked is None or not is_op(cast, "Cast"):
                continue
            rows = scope.producer(cast.input[0])
            if rows is not None and is_op(rows, "Gather") and is_op(picked, "Gather"):
                constant = scope.constant(picked.input[0])
                if constant is not None:
                    yield constant.origin


# activations


def _activations(scope: Scope, left: list[tuple[str, str]]) -> Iterator[ActivationPoint]:
    for node in scope.nodes:
        if not is_op(node, "QuantizeLinear") or scope.constant(node.input[0]) is not None:
            continue
        point = _activation(scope, node)
        if isinstance(point, str):
            left.append((label(node), point))
        else:
            yield point


def _activation(scope: Scope, node: NodeProto) -> ActivationPoint | str:
    """The point of a QuantizeLinear, or why there is none."""
    scale = _float_scale(scope, node.input[1])
    codes = None if scale is None else _codes(scope, node, None, None)
    if scale is None or codes is None:
        return "its scale or zero point is not a float32 and integer constant; no gradient passes"
    if scope.is_output(node.output[0]):
        return "its integers are an output of the model; no gradient passes"
    places, outputs = [Place(node, 1)], []
    for use in scope.uses(node.output[0]):
        reader = use.node
        if use.scope is not scope or not is_op(reader, "DequantizeLinear"):
            return f"its integers are read by {label(reader)}; no gradient passes"
        other = _float_scale(scope, reader.input[1])
        zero = _zero_point(scope, reader)
        if other is None or zero is None or not _equal_grids(scale, other, codes, zero[1]):
            return f"{label(reader)} dequantizes with other parameters; no gradient passes"
        places.append(Place(reader, 1))
        outputs.append(reader.output[0])
    ceiling = _ceiling(scope, node.input[0], codes) if scale.size == 1 else None
    if ceiling is not None and float(scale.max()) > ceiling:
        ceiling = None
    source = str(node.input[0])
    return ActivationPoint(source, tuple(outputs), scale, codes, tuple(places), -1, ceiling)


def _equal_grids(scale: Array, other: Array, codes: Codes, zero: Array) -> bool:
    """Whether both mean the same; the other may repeat one number for each channel."""
    if scale.size > 1 and other.shape != scale.shape:
        return False
    return bool((other == scale).all() and (zero == codes.zero_point).all())


def _ceiling(scope: Scope, tensor: str, codes: Codes) -> float | None:
    """The scale at which the largest code is the upper bound of the Clip before."""
    node = scope.producer(tensor)
    if node is None or not is_op(node, "Clip") or len(node.input) < 3 or not node.input[2]:
        return None
    bound = scope.constant(node.input[2])
    steps = codes.qmax - int(codes.zero_point.max())
    if bound is None or not steps:
        return None
    return float(np.float32(float(np.ravel(bound.values)[0]) / steps))


# biases


def _biases(
    scope: Scope, weights: Sequence[WeightPoint], activations: Sequence[ActivationPoint]
) -> Iterator[BiasPoint]:
    weight_of = {point.output: point for point in weights}
    activation_of = {output: point for point in activations for output in point.outputs}
    biased: dict[str, list[Layer]] = {}
    for each in layers(scope):
        made = each.bias.dequantizer if isinstance(each, Layer) and each.bias else None
        if isinstance(each, Layer) and made is not None:
            biased.setdefault(made.node.output[0], []).append(each)
    for node in scope.nodes:
        if not is_op(node, "DequantizeLinear"):
            continue
        constant, scale = scope.constant(node.input[0]), _float_scale(scope, node.input[1])
        if constant is None or scale is None or constant.data_type != TensorProto.INT32:
            continue
        zero = _zero_point(scope, node)
        if constant.overridable or zero is None or zero[1].any():
            continue
        layer = None
        for each in biased.get(node.output[0], []):
            kernel = each.node.input[each.weight.index]
            x, w = activation_of.get(each.data), weight_of.get(kernel)
            if x is not None and w is not None and _is_product(scale, x, w):
                layer = (each.data, kernel)
        axis = attribute(node, "axis", 1) if scale.size > 1 else 0
        values = constant.values.astype(np.float32) * (
            scale if scale.size == constant.values.size else scale.reshape(())
        )
        places = Place(node, 0), Place(node, 1)
        yield BiasPoint(node.output[0], values, scale, axis, *places, layer)


def _is_product(scale: Array, x: ActivationPoint, w: WeightPoint) -> bool:
    if x.scale.size != 1 or w.scale.size not in (1, scale.size):
        return False
    wanted = x.scale.reshape(()) * w.scale.reshape(-1)
    return bool(np.allclose(scale.reshape(-1), wanted, rtol=_SAME_PRODUCT, atol=0))
