"""Surgery of quantization: Q/DQ pairs on activations, constants stored as integers.

Names follow one rule. From a tensor ``x`` come the codes ``x_quantized``, their ``x_scale`` and
``x_zero_point``, and the float tensor ``x_dequantized`` that readers see (numbered where taken).
Scales and zero points of one number are rank 0: onnxruntime fuses QLinearAdd, QLinearMul and
AveragePool with those only (1.32).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.graph.graph import Scope, Use
from graphopt.graph.node import is_op
from graphopt.graph.tensors import Array
from graphopt.rewrite import edit

__all__ = [
    "Scale",
    "add_dequantize",
    "add_node",
    "add_quantize_dequantize",
    "dequantize_per_channel",
    "expand",
    "pick_entries",
]

_LONG_BYTES = 64  # as deduplicate-initializers counts

Scale = float | np.floating | NDArray[np.float32]
"""One number for the whole tensor, or a float32 array ``(channels,)``."""


def add_node(
    scope: Scope,
    op_type: str,
    inputs: Iterable[str],
    output: str,
    *,
    before: NodeProto | None = None,
    **attributes: Any,
) -> str:
    """Add a node of the default domain; its name is its output's, which is made unique first.

    Returns:
        The name of the output.
    """
    unique = scope.graph.unique_name(output)
    node = onnx.helper.make_node(op_type, list(inputs), [unique], name=unique, **attributes)
    scope.add(node, before=before)
    return unique


def add_quantize_dequantize(
    scope: Scope,
    tensor: str,
    scale: float,
    zero_point: int,
    dtype: Any = np.uint8,
    *,
    uses: Iterable[Use] | None = None,
) -> str:
    """Put QuantizeLinear and DequantizeLinear on an activation.

    Args:
        scope: Where ``tensor`` is computed, or the main graph for an input of the model.
        tensor: The float tensor; outputs of the graph keep reading it.
        scale: Of the whole tensor, above zero.
        zero_point: Code of 0.0.
        dtype: Type of the codes; of ml_dtypes where they have four bits (opset 21).
        uses: The places that read the dequantized tensor instead; all readers by default.

    Returns:
        The name of the dequantized tensor.
    """
    chosen = scope.uses(tensor) if uses is None else list(uses)
    before = scope.first_reader(tensor)
    parameters = [
        scope.add_constant(f"{tensor}_scale", np.asarray(scale, np.float32)),
        scope.add_constant(f"{tensor}_zero_point", np.asarray(zero_point, dtype)),
    ]
    codes = add_node(
        scope, "QuantizeLinear", [tensor, *parameters], f"{tensor}_quantized", before=before
    )
    result = add_node(
        scope, "DequantizeLinear", [codes, *parameters], f"{tensor}_dequantized", before=before
    )
    edit.redirect(chosen, result)
    return result


def add_dequantize(
    scope: Scope,
    tensor: str,
    codes: Array,
    scale: Scale,
    zero_point: int | Array | None = 0,
    *,
    axis: int | None = None,
    before: NodeProto | None = None,
    stored: str | None = None,
) -> str:
    """Store a constant as integers and dequantize it in the graph.

    Args:
        scope: Where the initializers and the node go.
        tensor: Base of the names; the constant of that name stays as it is.
        codes: Integers of the constant's shape; of ml_dtypes where they have four bits.
        scale: Rank 0, or ``(channels,)`` along ``axis``.
        zero_point: Code of 0.0; None leaves the input out, as for int32 biases. One number is
            repeated for every channel.
        axis: Channel axis of a per-channel scale (opset 13); None for per tensor.
        before: The node is put in front of this one; at the end by default.
        stored: Name of a constant that holds the codes already.

    Returns:
        The name of the dequantized tensor.
    """
    scales = np.asarray(scale, np.float32)
    inputs = [
        stored or scope.add_constant(f"{tensor}_quantized", codes),
        scope.add_constant(f"{tensor}_scale", scales),
    ]
    if zero_point is not None:
        zeros = np.ascontiguousarray(np.broadcast_to(zero_point, scales.shape)).astype(codes.dtype)
        inputs.append(_zero_points(scope, tensor, zeros.reshape(scales.shape)))
    attributes: dict[str, int] = {} if axis is None else {"axis": axis}
    return add_node(
        scope, "DequantizeLinear", inputs, f"{tensor}_dequantized", before=before, **attributes
    )


def _zero_points(scope: Scope, tensor: str, values: Array) -> str:
    """Name of a constant of zero points; long ones of nothing but zeros are shared."""
    if values.nbytes < _LONG_BYTES or values.any():
        return scope.add_constant(f"{tensor}_zero_point", values)
    name = f"zero_points_{values.dtype}_{values.size}"
    held = scope.constant(name) if name in scope.initializers else None
    if held is not None and held.shape == values.shape and not held.values.any():
        return name
    return scope.add_constant(name, values)


def dequantize_per_channel(
    scope: Scope, tensor: str, axis: int, channels: int, before: NodeProto
) -> str:
    """Dequantize an activation once more, by one scale for each channel, all of them equal.

    Args:
        scope: Where the nodes go.
        tensor: Comes from a DequantizeLinear of one scale, moved by other nodes at most.
        axis: Axis of the channels.
        channels: How many there are.
        before: The nodes are put in front of this one.

    Returns:
        The name of a tensor of the same values.
    """
    plain = scope.producer(tensor)
    while plain is not None and not is_op(plain, "DequantizeLinear"):
        plain = scope.producer(plain.input[0])
    assert plain is not None
    codes, scale, zero_point = plain.input
    if plain.output[0] != tensor:
        inputs = [tensor, scale, zero_point]
        codes = add_node(scope, "QuantizeLinear", inputs, f"{tensor}_quantized", before=before)
    inputs = [codes]
    for name in (scale, zero_point):
        constant = scope.constant(name)
        assert constant is not None
        inputs.append(scope.add_constant(name, np.repeat(constant.values, channels)))
    output = f"{tensor}_per_channel"
    return add_node(scope, "DequantizeLinear", inputs, output, before=before, axis=axis)


def expand(
    scope: Scope, tensor: str, codes: str, scale: str, *, before: NodeProto | None = None
) -> str:
    """Turn stored integers back into floats in a way that onnxruntime computes as it loads.

    Cast and Mul are folded at every optimization level but none; DequantizeLinear is not and
    would run at every call (1.32).

    Args:
        scope: Where the nodes go.
        tensor: Base of the names.
        codes: Name of the integers, which have no zero point.
        scale: Name of a float constant that broadcasts to the shape of ``codes``.
        before: The nodes are put in front of this one; at the end by default.

    Returns:
        The name of the float tensor.
    """
    float_type = _element_type(scope, scale)
    cast = add_node(scope, "Cast", [codes], f"{tensor}_cast", before=before, to=float_type)
    return add_node(scope, "Mul", [cast, scale], f"{tensor}_dequantized", before=before)


def pick_entries(scope: Scope, node: NodeProto, codes: str, scale: str) -> None:
    """Let a Gather or Slice read a table of integers, and dequantize the entries it picked.

        Gather(table, i)   becomes   Cast(Gather(codes, i)) * Gather(scale, i)

    Only what is asked for is dequantized; onnxruntime would dequantize the whole table at every
    call if that stood in front (1.32).

    Args:
        scope: Where ``node`` is.
        node: The Gather or Slice; it stays, its output keeps its name.
        codes: Integer table without zero point.
        scale: Float table of the same rank, of size 1 but for the axis along which entries are
            picked; or one number.
    """
    result = node.output[0]
    float_type = _element_type(scope, scale)
    scope.set_output(node, 0, scope.graph.unique_name(f"{result}_quantized"))
    scope.set_input(node, 0, codes)
    before = scope.following(node)
    cast = add_node(scope, "Cast", [node.output[0]], f"{result}_cast", before=before, to=float_type)
    picked, factor = scale, scope.constant(scale)
    if factor is not None and factor.shape:
        inputs = [scale, *node.input[1:]]
        picked = add_node(scope, node.op_type, inputs, f"{result}_scale", before=before)
        twin = scope.producer(picked)
        assert twin is not None
        twin.attribute.extend(node.attribute)
    name = scope.graph.unique_name(f"{node.name or result}_rescale")
    scope.add(onnx.helper.make_node("Mul", [cast, picked], [result], name=name), before=before)


def _element_type(scope: Scope, name: str) -> int:
    constant = scope.constant(name)
    assert constant is not None
    return constant.data_type
