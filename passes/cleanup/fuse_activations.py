"""Pass ``fuse-activations``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx import NodeProto, TensorProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.registry import register
from graphopt.facts.operands import FLOATS
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import attribute, is_op, set_attributes
from graphopt.rewrite.edit import forget, only_reader, rename_output
from graphopt.rewrite.gelu import order_gelu
from graphopt.rewrite.values import drop_unread

__all__ = ["FuseActivations"]

_HARD_SWISH_OPSET = 14
_TOLERANCE = 1e-6  # relative: constants are float32, and some exporters write 0.1666667


@register("fuse-activations")
@dataclass(frozen=True, kw_only=True)
class FuseActivations(Pass):
    """Write a hard sigmoid or hard swish that is spelled out as the one operator that it is.

        x -> Add(3) -> Clip(0, 6) -> Div(6) -> y      becomes      x -> HardSigmoid -> y
        Mul(x, Clip(Add(x, 3), 0, 6)) -> Div(6)       becomes      x -> HardSwish -> y

    onnxruntime computes elementwise chains node by node; the one operator took 0.6 times as long.
    Factors and offsets may stand in any order, a product by x before or behind the division.
    HardSwish needs opset 14; before that it is HardSigmoid and Mul. Gelu and LayerNormalization
    are left to the runtime, which fuses them itself, and quantization keeps out of either; of a
    Gelu in an order of factors that it does not know, ``x * (0.5 * (1 + erf))``, the factors change
    places.
    Source: Howard et al. 2019, Searching for MobileNetV3, section 5.2; ONNX HardSwish-14.
    """

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for scope in graph.scopes():
            for node in list(scope.nodes):
                gate = _gate(scope, node, context.shapes)
                if gate is not None:
                    changes.edit(node, gate.replace())
            for node in list(scope.nodes) if graph.opset >= _HARD_SWISH_OPSET else ():
                if _fuse_product(scope, node):
                    changes.edit(node, "HardSwish, with the Mul behind it")
            for node in [each for each in scope.nodes if is_op(each, "Erf")]:
                outer = order_gelu(scope, node)
                if outer is not None:
                    changes.edit(outer, "Gelu in an order of factors that onnxruntime fuses")
        if not changes:
            changes.skip("model", "no hard sigmoid or hard swish that is spelled out")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("hard-swish")]


@dataclass(frozen=True)
class _Gate:
    """Nodes that compute ``clip(alpha * source + beta, 0, 1)``.

    Attributes:
        scope: Where they are.
        source: What they read.
        alpha: The factor.
        beta: The offset.
        before: The nodes in front of the Clip.
        clip: The Clip.
        product: A Mul between the Clip and ``scaling``, if any.
        scaling: The node that divides by the upper bound of the Clip, if any.
    """

    scope: Scope
    source: str
    alpha: float
    beta: float
    before: tuple[NodeProto, ...]
    clip: NodeProto
    product: NodeProto | None = None
    scaling: NodeProto | None = None

    def replace(self) -> str:
        """Make the Clip the HardSigmoid and take the other nodes out; what was done."""
        scope, clip = self.scope, self.clip
        gone = [*self.before, *([self.scaling] if self.scaling is not None else [])]
        scope.remove(gone)
        forget(scope, [name for node in gone for name in node.output])
        read = list(clip.input[1:])
        del clip.input[1:]
        clip.input[0] = self.source
        clip.op_type = "HardSigmoid"
        set_attributes(clip, drop=["min", "max"], alpha=self.alpha, beta=self.beta)
        scope.touch(clip)
        if self.scaling is not None:
            last = clip if self.product is None else self.product
            rename_output(scope, last, last.output[0], self.scaling.output[0])
        read += [name for node in gone for name in node.input]
        drop_unread(scope, [name for name in read if scope.constant(name) is not None])
        return f"HardSigmoid, with {len(gone)} nodes around it"


def _gate(scope: Scope, clip: NodeProto, shapes: Shapes) -> _Gate | None:
    """The hard sigmoid that a Clip is the middle of."""
    high = _upper_bound(scope, clip) if is_op(clip, "Clip") else None
    if high is None:
        return None
    alpha, beta, source, before = 1.0, 0.0, str(clip.input[0]), list[NodeProto]()
    while (step := _affine(scope, source, shapes)) is not None:
        node, source, factor, offset = step
        alpha, beta = alpha * factor, beta + alpha * offset
        before.append(node)
    info = shapes.get(source)
    if not before or alpha <= 0 or info is None or info.data_type != TensorProto.FLOAT:
        return None
    gate = _Gate(scope, source, alpha / high, beta / high, tuple(before), clip)
    if math.isclose(high, 1, rel_tol=_TOLERANCE):
        return gate
    product, scaling = None, _next(scope, clip)
    if scaling is not None and is_op(scaling, "Mul") and source in scaling.input:
        product, scaling = scaling, _next(scope, scaling)
    if scaling is None or not _divides(scope, scaling, high, shapes):
        return None
    return replace(gate, product=product, scaling=scaling)


def _next(scope: Scope, node: NodeProto) -> NodeProto | None:
    """The node of the scope that alone reads what another computes."""
    use = only_reader(scope, node.output[0])
    return use.node if use is not None and use.scope is scope else None


def _upper_bound(scope: Scope, clip: NodeProto) -> float | None:
    """Where a Clip from zero ends; None where it is another one."""
    if scope.graph.opset < 11:
        low, high = attribute(clip, "min", -math.inf), attribute(clip, "max", math.inf)
    elif len(clip.input) == 3:
        low, high = (_scalar(scope, name, 0) for name in clip.input[1:])
    else:
        return None
    fits = low == 0 and high is not None and 0 < high < math.inf
    return float(high) if fits and high is not None else None


def _scalar(scope: Scope, name: str, most_axes: int | None) -> float | None:
    """The value of a constant of one element with so many axes at most."""
    constant = scope.constant(name) if name else None
    if constant is None or constant.overridable or math.prod(constant.shape) != 1:
        return None
    if constant.shape and (most_axes is None or len(constant.shape) > most_axes):
        return None
    return float(constant.values.reshape(-1)[0]) if constant.data_type in FLOATS else None


def _operands(scope: Scope, node: NodeProto, shapes: Shapes) -> tuple[str, float, bool] | None:
    """What a node of two operands computes on, its scalar, and whether that stands first."""
    for at in (1, 0):
        data = str(node.input[1 - at])
        info = shapes.get(data)
        rank = None if info is None or info.shape is None else len(info.shape)
        value = _scalar(scope, node.input[at], rank)
        if value is not None and math.isfinite(value):
            return data, value, at == 0
    return None


def _affine(scope: Scope, name: str, shapes: Shapes) -> tuple[NodeProto, str, float, float] | None:
    """The node that makes ``name`` for one reader, and of what: ``factor * data + offset``."""
    node = scope.producer(name)
    if node is None or not is_op(node, "Add", "Sub", "Mul", "Div"):
        return None
    found = _operands(scope, node, shapes) if only_reader(scope, name) is not None else None
    if found is None:
        return None
    data, value, first = found
    if is_op(node, "Add", "Sub"):
        turned = is_op(node, "Sub") and first
        offset = value if is_op(node, "Add") or first else -value
        return node, data, -1.0 if turned else 1.0, offset
    if is_op(node, "Div") and (first or value == 0):
        return None
    return node, data, value if is_op(node, "Mul") else 1 / value, 0.0


def _divides(scope: Scope, node: NodeProto, by: float, shapes: Shapes) -> bool:
    """Whether a node divides what it reads by a number."""
    if not is_op(node, "Mul", "Div"):
        return False
    found = _operands(scope, node, shapes)
    if found is None or (is_op(node, "Div") and found[2]):
        return False
    factor = found[1] * by if is_op(node, "Mul") else by / found[1] if found[1] else 0.0
    return math.isclose(factor, 1, rel_tol=_TOLERANCE)


def _fuse_product(scope: Scope, gate: NodeProto) -> bool:
    """Make a HardSwish of a HardSigmoid and the product by what it reads."""
    if not is_op(gate, "HardSigmoid"):
        return False
    slope, offset = attribute(gate, "alpha", 0.2), attribute(gate, "beta", 0.5)
    product = _next(scope, gate)
    if not (math.isclose(slope * 6, 1, rel_tol=_TOLERANCE) and math.isclose(offset, 0.5)):
        return False
    if product is None or not is_op(product, "Mul"):
        return False
    if sorted(product.input) != sorted([gate.input[0], gate.output[0]]):
        return False
    product.op_type = "HardSwish"
    product.input[0] = gate.input[0]
    del product.input[1:]
    scope.touch(product)
    scope.remove([gate])
    forget(scope, gate.output)
    return True
