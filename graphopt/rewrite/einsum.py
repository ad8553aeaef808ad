"""An Einsum of data and a weight turned into the MatMul or Conv that it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from graphopt.facts.einsum import Contraction
from graphopt.facts.layers import Layer, Refusal
from graphopt.graph.node import label, set_attributes
from graphopt.rewrite.edit import forget

__all__ = ["place_product", "place_weight"]


def place_weight(layer: Layer, letters: str, made: Contraction) -> Refusal | None:
    """Bring the weight of an Einsum to the form that the product reads.

    Args:
        layer: The Einsum; no caller may replace its weight.
        letters: Those of the axes of its weight.
        made: What it is to become.

    Returns:
        Why that cannot be, with nothing done; None where it is done.
    """
    weight, sizes = layer.weight, _sizes(layer, letters)
    order = [letters.index(letter) for letter in made.weight]
    shape = _weight_shape(made, sizes)
    if made.weight == letters and shape == [sizes[letter] for letter in letters]:
        return None
    if weight.alone and weight.form == "float" and not weight.turned:
        constant = weight.constant
        constant.set(np.ascontiguousarray(constant.values.transpose(order)).reshape(shape))
        for use in weight.path:
            forget(use.scope, use.node.output)
        return None
    if made.kind == "matmul" and len(shape) == len(order) == 2:
        name = layer.node.input[weight.index]
        turned = layer.scope.graph.unique_name(f"{name}_transposed")
        _insert(layer, layer.node, "Transpose", [name], turned, perm=order)
        layer.scope.set_input(layer.node, weight.index, turned)
        return None
    others = [use.node for use in weight.readers if use.node is not layer.node]
    why = f"also read by another {others[0].op_type}" if others else "not stored as it is read"
    return Refusal(layer.node, f"its weight is {why}, in another form")


def _sizes(layer: Layer, letters: str) -> dict[str, int]:
    """The size of each axis of the weight."""
    return dict(zip(letters, layer.weight.shape or (), strict=True))


def _weight_shape(made: Contraction, sizes: Mapping[str, int]) -> list[int]:
    """What the product reads: ``(*batch, in, out)``, or ``(out, in, 1, ...)`` of a Conv."""
    summed, columns = ([sizes[c] for c in part] for part in (made.summed, made.columns))
    if made.kind == "conv":
        return [*columns, *summed, *[1] * (len(made.data) - 2)]
    batch = [sizes.get(letter, 1) for letter in made.batch]
    return [*batch, math.prod(summed), math.prod(columns)]


def place_product(layer: Layer, terms: tuple[str, str, str], made: Contraction) -> None:
    """Make a MatMul or Conv of an Einsum whose weight is in place.

    Args:
        layer: The Einsum.
        terms: Letters of its data, its weight and its result.
        made: What it is to become.
    """
    scope, node, sizes = layer.scope, layer.node, _sizes(layer, terms[1])
    unique, result = scope.graph.unique_name, node.output[0]
    data, weight = layer.data, node.input[layer.weight.index]
    if made.data != terms[0]:
        turned = unique(f"{result}_turned")
        perm = [terms[0].index(letter) for letter in made.data]
        _insert(layer, node, "Transpose", [data], turned, perm=perm)
        data = turned
    if len(made.summed) > 1:
        flat = unique(f"{result}_flat")
        lead = len(made.data) - len(made.summed)
        size = math.prod(sizes[letter] for letter in made.summed)
        _reshape(layer, node, data, flat, [0] * lead + [size])
        data = flat
    node.input[0], node.input[1] = data, weight
    set_attributes(node, drop=["equation"])
    node.op_type = "Conv" if made.kind == "conv" else "MatMul"
    scope.touch(node)
    _place_result(layer, terms[2], made, sizes)


def _place_result(layer: Layer, letters: str, made: Contraction, sizes: Mapping[str, int]) -> None:
    """Give the result of a product the axes that the Einsum gave it."""
    split, turned = made.kind == "matmul" and len(made.columns) > 1, made.result != letters
    if not split and not turned:
        return
    scope, node, result = layer.scope, layer.node, layer.node.output[0]
    after, made_here = scope.following(node), scope.graph.unique_name(f"{result}_product")
    scope.set_output(node, 0, made_here)
    if split:
        lead = len(made.result) - len(made.columns)
        whole = scope.graph.unique_name(f"{result}_split") if turned else result
        shape = [0] * lead + [sizes[letter] for letter in made.columns]
        _reshape(layer, after, made_here, whole, shape)
        made_here = whole
    if turned:
        perm = [made.result.index(letter) for letter in letters]
        _insert(layer, after, "Transpose", [made_here], result, perm=perm)


def _reshape(
    layer: Layer, before: NodeProto | None, source: str, target: str, shape: Sequence[int]
) -> None:
    sizes = layer.scope.add_constant(f"{target}_shape", np.array(shape, np.int64))
    _insert(layer, before, "Reshape", [source, sizes], target)


def _insert(
    layer: Layer,
    before: NodeProto | None,
    op_type: str,
    inputs: Sequence[str],
    output: str,
    **given: Any,
) -> None:
    """A node beside the layer, called after it."""
    name = layer.scope.graph.unique_name(f"{label(layer.node)}_{op_type.lower()}")
    made = helper.make_node(op_type, inputs, [output], name, **given)
    layer.scope.add(made, before=before)
