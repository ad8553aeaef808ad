"""Why onnxruntime leaves a layer in float, read from the graph as it was given.

The conditions are those of its QDQ fusions on the CPU (version 1.32, measured). Which operators
have kernels, and for which codes, is said by the rules of a target.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import NodeProto, TensorProto

from graphopt.facts.layers import Layer, layer
from graphopt.facts.quantized import (
    dequantizer,
    is_dequantized,
    quantizers,
)
from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.grids import CODE_TYPES, CodeName
from graphopt.targets import OpRule, Target

__all__ = ["float_reason", "layer_at", "obstacle"]

_BIAS_TOLERANCE = 1e-5  # relative; float32 rounding of the product of the scales
UNKNOWN = "no rule of onnxruntime matched, although all that is known to matter is in place"


def float_reason(scope: Scope, node: NodeProto, target: Target) -> str:
    """Why a layer that is known to run in float does so, as a sentence.

    Args:
        scope: Where the node is.
        node: The layer.
        target: The machine that onnxruntime runs it on.
    """
    rule = target.rules.get(node.op_type) if is_op(node, node.op_type) else None
    return (
        obstacle(scope, node, target)
        or ("" if rule is None else _output(scope, node, rule, target))
        or _signed(scope, node)
        or UNKNOWN
    )


def obstacle(scope: Scope, node: NodeProto, target: Target) -> str:
    """What keeps a layer from the integer kernels of a target; empty where nothing is known to.

    Args:
        scope: Where the node is.
        node: The layer.
        target: Whose table says what runs on integers.
    """
    rule = target.rules.get(node.op_type) if is_op(node, node.op_type) else None
    if rule is None and node.op_type in target.dynamic and is_op(node, node.op_type):
        return _weight(scope, node, None) or "its weights are float"
    if rule is None:
        return f"{target.runtime} has no integer kernel for {node.op_type}"
    return (
        _weight(scope, node, rule)
        or _inputs(scope, node, rule)
        or (_output(scope, node, rule, target) if rule.needs_output else "")
        or _swallowed(scope, node, rule, target)
        or _parameters(scope, node, rule, target.runtime)
        or _per_channel(scope, node)
        or _bias(scope, node)
        or _gemm(scope, node, rule)
    )


def layer_at(scope: Scope, node: NodeProto) -> Layer | None:
    """The Conv, ConvTranspose, Gemm, MatMul, Einsum, RNN, GRU or LSTM with a constant weight."""
    found = layer(scope, node)
    if not isinstance(found, Layer):
        return None
    counts = found.multiplies or found.kind == "contraction" or _is_float_cell(found)
    return found if counts else None


def _is_float_cell(found: Layer) -> bool:
    return found.kind == "recurrent" and found.weight.form != "integer"


def _weight(scope: Scope, node: NodeProto, rule: OpRule | None) -> str:
    found = layer_at(scope, node)
    if found is None:
        return ""
    if found.weight.form == "float":
        return "its weight is float"
    if found.weight.form in ("expanded", "codebook"):
        return "its weight is only stored small; onnxruntime expands it to float at load"
    kind = found.weight.constant.data_type
    if rule is None:
        return "its weights are dequantized, and its activations are float"
    if _type_name(kind) in rule.weight_types:
        return ""
    taken = _others(kind, rule.weight_types)
    return f"its weight has {_type_name(kind)} codes, the kernels take {taken}"


def _inputs(scope: Scope, node: NodeProto, rule: OpRule) -> str:
    """An input that is not dequantized, or has codes that no kernel takes."""
    found = layer_at(scope, node)
    read: Iterable[int] = range(len(node.input))
    if found is not None:
        read = [found.data_index]
    elif rule.role != "weighted" and rule.inputs is not None:
        read = rule.inputs
    for position in read:
        name = node.input[position]
        made = dequantizer(scope, name)
        if name and made is None:
            return "its input is not quantized"
        kind = None if made is None else _code_type(scope, made)
        if kind is not None and _type_name(kind) not in rule.activation_types:
            taken = _others(kind, rule.activation_types)
            return f"its input has {_type_name(kind)} codes, the kernels take {taken}"
    return ""


def _output(scope: Scope, node: NodeProto, rule: OpRule, target: Target) -> str:
    """Something between the result and the one QuantizeLinear that a kernel needs."""
    name, step = node.output[0], node
    while True:
        readers = [use.node for use in scope.uses(name)]
        if scope.is_output(name):
            return "its result is an output of the model and not quantized"
        if len(readers) > 1:
            kinds = ", ".join(sorted({reader.op_type for reader in readers}))
            return f"its result has {len(readers)} readers ({kinds}) where one Q is needed"
        if not readers:
            return "nothing reads its result"
        if is_op(readers[0], "QuantizeLinear"):
            kind = _code_type(scope, readers[0])
            if kind is not None and _type_name(kind) not in rule.activation_types:
                given = _others(kind, rule.activation_types)
                return f"its result gets {_type_name(kind)} codes, the kernels give {given}"
            free = step is node or target.clamps
            return "" if free else _activation(scope, step, readers[0])
        if not is_op(readers[0], *target.activations):
            return _unquantized(scope, node, readers[0])
        step, name = readers[0], readers[0].output[0]


def _swallowed(scope: Scope, node: NodeProto, rule: OpRule, target: Target) -> str:
    """What follows a kernel that can give floats, and takes it away from the integers all the same.

    onnxruntime (1.32) keeps a layer float whose only reader is an activation without Q behind it,
    and makes a float Gemm of a MatMul with a float bias behind it.
    """
    uses = scope.uses(node.output[0])
    if target.clamps or len(uses) != 1 or scope.is_output(node.output[0]):
        return ""
    reader = uses[0].node
    if is_op(reader, *target.activations):
        return _output(scope, node, rule, target)
    return _merged(scope, node, reader)


def _merged(scope: Scope, node: NodeProto, reader: NodeProto) -> str:
    constants = [name for name in reader.input if scope.constant(name) is not None]
    if is_op(node, "MatMul") and is_op(reader, "Add") and constants:
        return (
            "onnxruntime merges it with the float bias behind it into a float Gemm; an int32 bias "
            "behind a DequantizeLinear, or a Q before or behind the Add, prevents that"
        )
    return ""


def _unquantized(scope: Scope, node: NodeProto, reader: NodeProto) -> str:
    """A result that goes elsewhere than to a Q; MatMul loses its kernel to a float bias only."""
    if merged := _merged(scope, node, reader):
        return merged
    return f"its result goes to {reader.op_type} and is not quantized before"


def _activation(scope: Scope, step: NodeProto, quantizer: NodeProto) -> str:
    """A Relu or Clip that the range of the codes does not make superfluous."""
    scale, zero_point = (_value(scope, quantizer, index) for index in (1, 2))
    if scale is None or scale.size != 1:
        return ""
    codes = np.iinfo(np.uint8 if zero_point is None else zero_point.dtype)
    zero = 0 if zero_point is None else int(zero_point.reshape(-1)[0])
    low = float(scale.reshape(-1)[0]) * (int(codes.min) - zero)
    high = float(scale.reshape(-1)[0]) * (int(codes.max) - zero)
    floor, ceiling = 0.0, np.inf
    if is_op(step, "Clip"):
        bounds = [_input_value(scope, step, index) for index in (1, 2)]
        floor = -np.inf if bounds[0] is None else float(bounds[0].reshape(-1)[0])
        ceiling = np.inf if bounds[1] is None else float(bounds[1].reshape(-1)[0])
    if low < floor - abs(low) * 1e-6 or high > ceiling * (1 + 1e-6):
        return (
            f"the codes behind its {step.op_type} reach beyond its bounds, so {step.op_type} stays "
            "between"
        )
    return ""


def _parameters(scope: Scope, node: NodeProto, rule: OpRule, runtime: str) -> str:
    """Scales that are not rank 0, or that must be equal before and behind."""
    around = [made for name in node.input if (made := dequantizer(scope, name)) is not None]
    around += quantizers(scope, node.output[0])
    activations = [n for n in around if scope.constant(n.input[0]) is None]
    for item in activations:
        scale = scope.constant(item.input[1])
        if scale is None:
            return "a scale around it is not constant"
        if len(scale.shape) and rule.role != "weighted":
            return f"a scale around it has shape {list(scale.shape)}; it must have rank 0"
    if any(attribute(node, name, value) != value for name, value in rule.attributes.items()):
        return f"{runtime} has no integer kernel for {rule.otherwise}"
    if scope.graph.opset < rule.min_opset:
        return f"{node.op_type} takes integers from opset {rule.min_opset} on only"
    if rule.role == "same" and len({_parameter_key(scope, item) for item in activations}) > 1:
        return "scale or zero point differ before and behind it"
    return ""


def _signed(scope: Scope, node: NodeProto) -> str:
    """Activations of int8, which onnxruntime rewrites to uint8 on x86 where nothing branches."""
    codes = [
        made.input[0]
        for name in node.input
        if (made := dequantizer(scope, name)) is not None and is_dequantized(scope, name)
        if _code_type(scope, made) == TensorProto.INT8
    ]
    codes += [
        made.output[0]
        for made in quantizers(scope, node.output[0])
        if _code_type(scope, made) == TensorProto.INT8
    ]
    for name in codes:
        readers = [use for dq in scope.uses(name) for use in scope.uses(dq.node.output[0])]
        if len(readers) > 1:
            return (
                f"an int8 activation of it has {len(readers)} readers, which keeps "
                "onnxruntime from its uint8 kernels on x86; use uint8 activations"
            )
    return "its activations are int8, mixed with uint8 on x86; use uint8" if codes else ""


def _per_channel(scope: Scope, node: NodeProto) -> str:
    """A weight whose scales lie along another axis than the output channels."""
    found = layer_at(scope, node)
    if found is None or found.weight.dequantizer is None or found.weight.turned:
        return ""
    made, scale = found.weight.dequantizer.node, found.weight.scale
    if scale is None or scale.shape in ((), (1,)) or not is_op(made, "DequantizeLinear"):
        return ""
    axis = attribute(made, "axis", 1) % len(found.weight.constant.shape)
    if axis == found.out_axis:
        return ""
    return f"its weight has a scale for each index of axis {axis}; it must be axis {found.out_axis}"


def _bias(scope: Scope, node: NodeProto) -> str:
    """An int32 bias whose scale is not that of the products."""
    if not is_op(node, "Conv", "Gemm") or len(node.input) < 3 or not node.input[2]:
        return ""
    made = dequantizer(scope, node.input[2])
    if made is None:
        return "" if scope.constant(node.input[2]) is not None else "its bias is not constant"
    scales = [
        None if source is None else _value(scope, source, 1)
        for source in (dequantizer(scope, name) for name in node.input[:2])
    ]
    scale = _value(scope, made, 1)
    if scale is None or scales[0] is None or scales[1] is None:
        return ""
    product = scales[0].astype(np.float64) * scales[1]
    if np.allclose(scale, product, rtol=_BIAS_TOLERANCE, atol=0):
        return ""
    return "the scale of its int32 bias is not input scale times weight scale"


def _gemm(scope: Scope, node: NodeProto, rule: OpRule) -> str:
    """What an integer kernel wants besides: no factors, a zero point for each operand."""
    for name in ("alpha", "beta") if is_op(node, "Gemm") else ():
        if len(node.input) > 2 and node.input[2] and attribute(node, name, 1.0) != 1.0:
            return f"its {name} is not 1; fold it into the weight or bias first"
    made = [dequantizer(scope, name) for name in node.input[:2] if rule.needs_zero_points]
    if any(one is not None and (len(one.input) < 3 or not one.input[2]) for one in made):
        lacking = "a DequantizeLinear in front of it has no zero point"
        return f"{lacking}, which {node.op_type} alone asks for"
    return ""


def _value(scope: Scope, node: NodeProto, index: int) -> np.ndarray | None:
    return _input_value(scope, node, index)


def _input_value(scope: Scope, node: NodeProto, index: int) -> np.ndarray | None:
    """The constant that a node reads at ``index``; None if absent or computed."""
    if len(node.input) <= index or not node.input[index]:
        return None
    constant = scope.constant(node.input[index])
    return None if constant is None else constant.values


def _code_type(scope: Scope, node: NodeProto) -> int | None:
    """Element type of the codes that a Q makes or a DQ reads; None where it cannot be told."""
    if len(node.input) > 2 and node.input[2]:
        zero_point = scope.constant(node.input[2])
        return None if zero_point is None else zero_point.data_type
    codes = scope.constant(node.input[0])
    if is_op(node, "DequantizeLinear"):
        return None if codes is None else codes.data_type
    return int(attribute(node, "output_dtype", 0)) or int(TensorProto.UINT8)


def _others(kind: int, types: tuple[CodeName, ...]) -> str:
    """What kernels have instead of a type: by their bits, by names where these are the same."""
    bits = sorted({CODE_TYPES[name].bits for name in types})
    same = [code.bits for name, code in CODE_TYPES.items() if name == _type_name(kind)]
    return " or ".join(types) if same[:1] == bits else f"{' or '.join(map(str, bits))} bits"


def _type_name(kind: int | None) -> str:
    return "unknown" if kind is None else TensorProto.DataType.Name(kind).lower()


def _parameter_key(scope: Scope, node: NodeProto) -> tuple[bytes, ...]:
    """Scale and zero point as bytes, to compare."""
    values: list[Constant | None] = [scope.constant(name) for name in node.input[1:3] if name]
    return tuple(b"?" if value is None else value.values.tobytes() for value in values)
