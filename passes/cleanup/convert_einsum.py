"""Pass ``convert-einsum``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.registry import register
from graphopt.facts.einsum import Contraction, Unspelled, contraction, spelled
from graphopt.facts.layers import Layer, Refusal, layers
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute, is_op
from graphopt.rewrite.einsum import place_product, place_weight

__all__ = ["ConvertEinsum"]


@register("convert-einsum")
@dataclass(frozen=True, kw_only=True)
class ConvertEinsum(Pass):
    """Write an Einsum of data and a weight as the MatMul or Conv that it is.

        Einsum(x, W) {bsd,dhk->bshk}      becomes      Reshape(MatMul(x, W'))
        Einsum(x, W) {bchw,oc->bohw}      becomes      Conv(x, W')

    MatMul and Conv have integer kernels, Einsum has none. The weight is brought to the form that
    they read once and for all; the data is turned where it must be. What has a batch axis in the
    weight becomes a MatMul where nothing must be turned, and stays otherwise: ``quantize-weights``
    stores its weight. Exports from JAX and Keras are full of these.
    Source: ONNX operator Einsum-12.
    """

    may_grow: ClassVar[str] = "the shapes of a Reshape are constants"

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for each in list(layers(graph)):
            if not is_op(each.node, "Einsum"):
                continue
            made = each if isinstance(each, Refusal) else _converted(each, context.shapes)
            if isinstance(made, Refusal):
                changes.skip(made)
            else:
                changes.edit(each.node, made)
        if not changes.edits and not changes.skips:
            changes.skip("model", "no Einsum")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("einsums")]


def _converted(layer: Layer, shapes: Shapes) -> str | Refusal:
    """Replace one Einsum; what it became, or why it stays."""
    node, equation = layer.node, attribute(layer.node, "equation", "")
    try:
        made, terms = _read(layer, shapes)
    except Unspelled as err:
        return Refusal(node, f"{err} (Einsum {equation})")
    refusal = layer.refusal("fixed") or place_weight(layer, terms[1], made)
    if refusal is not None:
        return refusal
    place_product(layer, terms, made)
    return f"Einsum {equation} written as {node.op_type}"


def _read(layer: Layer, shapes: Shapes) -> tuple[Contraction, tuple[str, str, str]]:
    """What an Einsum comes to, with the letters of data, weight and result.

    Raises:
        Unspelled: It cannot be written as a product.
    """
    node, weight = layer.node, layer.weight
    if len(node.input) != 2:
        raise Unspelled(f"it multiplies {len(node.input)} operands")
    info = shapes.get(layer.data)
    dims = None if info is None else info.shape
    sizes = weight.shape
    ranks = [None if dims is None else len(dims), None if sizes is None else len(sizes)]
    first = 1 - weight.index  # where the data is
    equation = attribute(node, "equation", "")
    spelt, result = spelled(equation, ranks if first == 0 else ranks[::-1])
    terms = spelt[first], spelt[weight.index], result
    made = contraction(*terms, ranked=dims is not None or "..." not in equation)
    known = {} if dims is None else dict(zip(terms[0], dims, strict=True))
    for letter, size in zip(terms[1], sizes or (), strict=False):
        if letter in terms[0] and known.get(letter, 0 if size > 1 else None) == 1 != size:
            raise Unspelled("an axis of one element is repeated")
        if letter in terms[0] and size == 1 and known.get(letter) != 1:
            raise Unspelled("an axis of one element is repeated")
    return made, terms
