"""A weight as codes on a grid, whatever form the file keeps it in: read, and stored back.

Who decides the *form* of a weight (which integers, scales of which shape, which operators) writes
it; who decides the *values* inside the form, as ``round-weights`` does, reads and stores them
through this view and needs not know the form. Another form, such as codes in packed blocks, is
another function here that makes a ``CodedWeight`` of a layer; that of codebooks has its own file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.operands import Operand
from graphopt.facts.spread import spread_constant
from graphopt.graph.graph import Constant, Scope, Use
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.grids import CODE_TYPES, CodeType

__all__ = ["CodedWeight", "coded_weight", "has_one_reader", "set_alone"]

Singles = NDArray[np.float32]
Codes = NDArray[np.int64]

_KINDS: Mapping[int, CodeType] = {
    TensorProto.INT8: CODE_TYPES["int8"],
    TensorProto.UINT8: CODE_TYPES["uint8"],
    TensorProto.INT4: CODE_TYPES["int4"],
    TensorProto.UINT4: CODE_TYPES["uint4"],
    TensorProto.INT2: CODE_TYPES["int2"],
    TensorProto.UINT2: CODE_TYPES["uint2"],
}
_SCALES = (TensorProto.FLOAT, TensorProto.FLOAT16)
_SHARED = "the codes of its weight are read by another node too"


@dataclass(frozen=True, eq=False)
class CodedWeight:
    """A weight that is ``(codes - zero_point) * scale``, in the shape that its node reads.

    With centres it is ``centres[codes] * scale``.

    Attributes:
        layer: The layer that alone reads it.
        codes: ``(axes of the weight)``.
        scale: Of the same rank: one for each block.
        zero_point: Of the shape of ``scale``, integers.
        block: How many values along each axis share a scale; the last may be fewer.
        qmin: Least code that may be used.
        qmax: Largest code that may be used.
        centres: ``(qmax + 1,)``, rising; None where codes are numbers themselves.
    """

    layer: Layer
    codes: Codes
    scale: Singles
    zero_point: Codes
    block: tuple[int, ...]
    qmin: int
    qmax: int
    _keep: Callable[[Codes, Singles, Singles | None], None]
    centres: Singles | None = None

    @property
    def least(self) -> float:
        """The scale below which none is to go: of half floats no normal one is smaller."""
        with np.errstate(over="ignore"):
            halves = np.array_equal(self.scale.astype(np.float16), self.scale)
        tiny = np.finfo(np.float16 if halves else np.float32).tiny
        return min(float(tiny), float(self.scale.min(initial=np.inf)))

    @property
    def places(self) -> NDArray[np.intp]:
        """Which of the scales, counted along its axes, each value has: of the weight's shape."""
        return self.spread(np.arange(self.scale.size).reshape(self.scale.shape))

    def values(self) -> Singles:
        """The floats that the codes stand for."""
        steps = self.codes - self.spread(self.zero_point)
        if self.centres is not None:
            return np.asarray(self.centres[self.codes] * self.spread(self.scale), np.float32)
        return np.asarray(steps * self.spread(self.scale), np.float32)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """What there is one of for each block, shaped as the scales, for each value."""
        for axis, (many, size) in enumerate(zip(self.block, self.codes.shape, strict=True)):
            values = np.repeat(values, many, axis).take(range(size), axis)
        return values

    def store(self, codes: Codes, scale: Singles, centres: Singles | None = None) -> None:
        """Put others in their place, shaped as these are; zero points and centres stay."""
        assert codes.shape == self.codes.shape
        assert scale.shape == self.scale.shape
        self._keep(codes, scale, self.centres if centres is None else centres)


def coded_weight(layer: Layer) -> CodedWeight | Refusal:
    """The codes of a layer's weight; why they cannot be told, or changed, where that is so.

    Known are codes behind a DequantizeLinear, with scales of blocks or not, behind Cast and Mul,
    with scales that are repeated for blocks and a Sub of zero points or without, and those of a
    MatMulInteger behind which Cast and Mul make floats of the sums. A Transpose may stand between.
    """
    weight = layer.weight
    if weight.order is None:
        return Refusal(layer.node, "a Reshape stands behind the codes of its weight")
    if weight.constant.overridable:
        return Refusal(
            layer.node, "its weight is listed as an input; put freeze-initializers before"
        )
    if weight.constant.data_type not in _KINDS:
        return Refusal(layer.node, "its weight is not stored as codes of 2, 4 or 8 bits")
    if not has_one_reader(weight):
        return Refusal(layer.node, _SHARED)
    parameters = _integer(layer) if weight.form == "integer" else _expanded(weight)
    if isinstance(parameters, str):
        return Refusal(layer.node, parameters)
    return _view(layer, parameters)


@dataclass(frozen=True)
class _Parameters:
    """Where the scale and the zero point of codes are.

    Attributes:
        scale: Where it is read.
        zero: The zero point; None for 0.
        axis: Of the stored codes that the scales go along.
        block: Codes that share a scale along it; 0 where it has one for each index, None where
            it has the rank of the codes.
        repeated: Behind ``axis`` the scales have another one of size 1, to be repeated along.
    """

    scale: Use
    zero: Constant | None
    axis: int
    block: int | None
    repeated: bool = False

    def shaped(self, values: NDArray[Any], rank: int) -> NDArray[Any] | None:
        """Scales or zero points in the rank of the stored codes; None where they do not fit."""
        if self.repeated and values.ndim == rank + 1:
            values = values.squeeze(self.axis + 1)
        if values.size == 1:
            return values.reshape((1,) * rank)
        if self.block is None and values.ndim <= rank:
            return values.reshape((1,) * (rank - values.ndim) + values.shape)
        if self.block:
            return values if values.ndim == rank else None
        if values.ndim != 1:
            return None
        return values.reshape([-1 if at == self.axis else 1 for at in range(rank)])

    def blocks(self, scales: tuple[int, ...], codes: tuple[int, ...]) -> tuple[int, ...] | None:
        """How many codes share a scale along each axis; None where the shapes do not fit."""
        found = []
        for axis, (has, size) in enumerate(zip(scales, codes, strict=True)):
            many = self.block if self.block and axis == self.axis else size if has == 1 else 1
            if -(-size // max(many, 1)) != has:
                return None
            found.append(many)
        return tuple(found)


def _view(layer: Layer, parameters: _Parameters) -> CodedWeight | Refusal:
    weight, held = layer.weight, _read(parameters.scale)
    assert held is not None and weight.order is not None
    stored, order = weight.constant.values, weight.order
    kind = _KINDS[weight.constant.data_type]
    scale = parameters.shaped(held.values, stored.ndim)
    zero = np.zeros((1,), np.int64)
    if parameters.zero is not None:
        zero = parameters.zero.values.astype(np.int64)
    point = parameters.shaped(zero, stored.ndim)
    if held.data_type not in _SCALES or not (held.values > 0).all():
        return Refusal(layer.node, "the scales of its weight are no floats above zero")
    block = None if scale is None else parameters.blocks(scale.shape, stored.shape)
    if scale is None or point is None or block is None:
        return Refusal(layer.node, "the scales of its weight do not fit its codes")
    kept_shape, back = held.shape, np.argsort(order)
    dtype = tensor_dtype_to_np_dtype(weight.constant.data_type)

    def keep(codes: Codes, scales: Singles, _: Singles | None) -> None:
        weight.constant.set(np.ascontiguousarray(codes.transpose(back)).astype(dtype))
        values = np.ascontiguousarray(scales.transpose(back).reshape(kept_shape))
        set_alone(parameters.scale, held, values.astype(held.values.dtype))

    symmetric = not point.any() and kind.qmin < 0
    return CodedWeight(
        layer,
        stored.astype(np.int64).transpose(order),
        np.asarray(scale.transpose(order), np.float32),
        np.broadcast_to(point, scale.shape).transpose(order),
        tuple(block[axis] for axis in order),
        -kind.qmax if symmetric and kind.bits == 8 else kind.qmin,  # as kernels want them
        kind.qmax,
        keep,
    )


def has_one_reader(weight: Operand) -> bool:
    """Whether nothing but one node reads codes, through what stands between."""
    names = [(weight.constant.scope, weight.constant.origin)]
    names += [(use.scope, str(use.node.output[0])) for use in weight.path]
    return all(
        len(scope.uses(name)) == 1 and not scope.is_output(name) and scope.uses(name)[0].index >= 0
        for scope, name in names
    )


def _expanded(weight: Operand) -> _Parameters | str:
    """The scale of codes that a DequantizeLinear, or Cast and Mul, make floats of."""
    making = [use for use in weight.path if is_op(use.node, "DequantizeLinear", "Mul")]
    if len(making) != 1:
        return "its weight is floats" if not making else "two scales make floats of its codes"
    use = making[0]
    turned = any(is_op(each.node, "Transpose") for each in weight.path[: weight.path.index(use)])
    if turned:
        return "its codes are transposed before their scale comes to them"
    rank = len(weight.constant.shape)
    scale = spread_constant(use.scope, use.node, 1 - use.index)
    if scale is None or scale.constant.overridable:
        return "its scale is computed"
    if is_op(use.node, "Mul"):
        centring = [each for each in weight.path if is_op(each.node, "Sub")]
        zeros = [spread_constant(each.scope, each.node, 1) for each in centring]
        zero = zeros[0].constant if zeros and zeros[0] is not None else None
        if scale.axis is None:
            return _Parameters(scale.place, zero, 0, None)
        return _Parameters(scale.place, zero, scale.axis, scale.block, repeated=True)
    zero = None
    if len(use.node.input) > 2 and use.node.input[2]:
        zero = use.scope.constant(use.node.input[2])
        if zero is None:
            return "its zero point is computed"
    axis = attribute(use.node, "axis", 1) % max(1, rank)
    return _Parameters(scale.place, zero, axis, attribute(use.node, "block_size", 0))


def _integer(layer: Layer) -> _Parameters | str:
    """The scale of codes that a MatMulInteger reads: it comes to the sums."""
    scope, node = layer.scope, layer.node
    if not is_op(node, "MatMulInteger"):
        return f"nobody knows where a {node.op_type} has the scales of its codes"
    cast = _only(scope, node, "Cast")
    scaled = None if cast is None else _only(scope, cast, "Mul")
    if scaled is None or cast is None:
        return "nothing known makes floats of its sums"
    factor = next(name for name in scaled.input if name != cast.output[0])
    maker = scope.producer(factor)
    if maker is None or not is_op(maker, "Mul"):
        return "its scale is computed"
    fixed = [at for at, name in enumerate(maker.input) if scope.constant(name) is not None]
    if len(fixed) != 1 or len(scope.uses(factor)) != 1:
        return "its scale is computed"
    zero = None
    if len(node.input) > 3 and node.input[3]:
        zero = scope.constant(node.input[3])
        if zero is None:
            return "its zero point is computed"
    return _Parameters(Use(scope, maker, fixed[0]), zero, layer.out_axis, 0)


def _only(scope: Scope, node: NodeProto, op_type: str) -> NodeProto | None:
    """The node of that type that alone reads what a node gives."""
    uses = scope.uses(node.output[0])
    alone = len(uses) == 1 and uses[0].scope is scope and not scope.is_output(node.output[0])
    return uses[0].node if alone and is_op(uses[0].node, op_type) else None


def _read(use: Use) -> Constant | None:
    constant = use.scope.constant(use.node.input[use.index])
    return None if constant is None or constant.overridable else constant


def set_alone(use: Use, held: Constant, values: NDArray[Any]) -> None:
    """Let one place read other values than others that read the same constant."""
    if len(held.scope.uses(held.origin)) == 1 and not held.scope.is_output(held.origin):
        held.set(values)
    else:
        name = use.scope.add_constant(f"{held.origin}_own", values)
        use.scope.set_input(use.node, use.index, name)
