"""The pass ``quantize-weights``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import MinOpset, When
from graphopt.contract.registry import register
from graphopt.facts import ops
from graphopt.facts.select import select
from graphopt.graph.graph import Constant, Graph, Scope, Use
from graphopt.graph.node import is_op, label
from graphopt.numerics import grids, ranges
from graphopt.numerics.grids import CODE_TYPES, CodeType
from graphopt.rewrite import edit, qdq
from graphopt.rewrite.values import drop_unread

__all__ = ["QuantizeWeights"]

_SCALE_BYTES = 4


@register("quantize-weights")
@dataclass(frozen=True, kw_only=True)
class QuantizeWeights(Pass):
    """Store weights as integers whose layers go on computing in floats: smaller, the same speed.

        Gather(W, i)   becomes   Cast(Gather(W int8, i)) * Gather(W_scale, i)
        Conv(x, W)     becomes   Conv(x, Cast(W int8) * W_scale)

    Embedding tables stay integers in memory as well, and only the rows that are looked up are
    dequantized. The other weights are turned back into floats when onnxruntime loads the model:
    it folds Cast and Mul, but not DequantizeLinear, which would run at every call. Scales are
    symmetric, one a row of a table, an output channel of a Conv, ConvTranspose, Gemm or MatMul,
    or a gate row of an RNN, GRU or LSTM. No data is needed. Put it behind the passes that make
    layers compute on integers; it takes what they left. Four bits (``weight_type=int4``) usually
    want ``train-quantized`` behind; tables stay as they are then, as no runtime looks rows of four
    bits up.

    Source: Krishnamoorthi 2018, Quantizing deep convolutional networks for efficient inference,
    section 3.1.1 (weight only quantization).
    """

    which: Annotated[
        Literal["all", "embeddings"], Option("all weights, or only tables read by a Gather")
    ] = "all"
    weight_type: Annotated[Literal["int8", "int4"], Option("integers to store")] = "int8"
    ranges: Annotated[
        Literal["auto", "max", "mse"],
        Option(
            "range: cover every value, or clip where that makes the error less; auto: mse for "
            "4 bits, else max"
        ),
    ] = "auto"
    min_size: Annotated[int, Option("leave smaller weights alone", low=0, unit="elements")] = 1024
    nodes: Annotated[
        tuple[str, ...],
        Option("patterns of nodes whose weights are stored; all by default", patterns=True),
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Option("patterns of nodes whose weights stay float", patterns=True)
    ] = ()
    lossy: ClassVar[bool] = True
    requires = (
        MinOpset("Mul that broadcasts", 7),
        MinOpset("4-bit integers", 21, when=When("weight_type", "int4")),
    )

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        chosen = select(graph, self.nodes, self.exclude)
        for weight in list(_weights(graph)):
            places = ", ".join(dict.fromkeys(label(use.node) for use in weight.uses))
            reason = self._reason(weight, all(chosen(use.node) for use in weight.uses))
            if reason:
                changes.skip(places, f"{weight.constant.origin}: {reason}")
                continue
            values = weight.constant.values
            if not np.isfinite(values).all():
                changes.skip(places, f"{weight.constant.origin} holds NaN or infinity")
                continue
            _store(weight, values, self._codes, self._method)
            what = f"stored as {self.weight_type}, {weight.channels}"
            changes.edit(places, f"{weight.constant.origin} {what}")
        return changes

    @property
    def _codes(self) -> CodeType:
        return CODE_TYPES[self.weight_type]

    @property
    def _method(self) -> Literal["max", "mse"]:
        if self.ranges == "auto":
            return "mse" if self.weight_type == "int4" else "max"
        return self.ranges

    def _reason(self, weight: _Weight, chosen: bool) -> str:
        """Why a weight stays float; empty where it does not."""
        if not chosen:
            return "kept float by the options nodes and exclude"
        if self.which == "embeddings" and not weight.lookups:
            return "not read by a Gather, and which is embeddings"
        size = math.prod(weight.constant.shape)
        if size < self.min_size:
            return f"{size} elements, min_size is {self.min_size}"
        if weight.lookups and self.weight_type == "int4":
            return "a table whose rows are looked up; onnxruntime has no Gather of 4 bits"
        stored = size * self._codes.bits / 8 + _SCALE_BYTES * weight.groups
        if stored >= weight.constant.nbytes / 2:
            return f"{weight.groups} scales for {size} elements; hardly anything to gain"
        if weight.given_out:
            return "also an output of its graph"
        if weight.constant.overridable:
            return "listed as an input; put freeze-initializers before"
        return ""


@dataclass(frozen=True)
class _Weight:
    """A constant, all that reads it, and the axes along which it has scales of its own."""

    constant: Constant
    uses: list[Use]
    axes: tuple[int, ...]

    @property
    def lookups(self) -> list[Use]:
        return [use for use in self.uses if ops.picks_rows(use.node, use.index)]

    @property
    def given_out(self) -> bool:
        """Whether a graph hands it out as it is."""
        return self.constant.scope.is_output(self.constant.origin) or any(
            use.index < 0 for use in self.uses
        )

    @property
    def groups(self) -> int:
        return math.prod(self.constant.shape[axis] for axis in self.axes)

    @property
    def channels(self) -> str:
        return f"{self.groups} scales along axis {', '.join(map(str, self.axes))}"


def _weights(graph: Graph) -> Iterator[_Weight]:
    """Every float constant that is the weight of some node, once, in order of its first reader."""
    seen: set[tuple[int, str]] = set()
    for scope in graph.scopes():
        for node in scope.nodes:
            for index, name in enumerate(node.input):
                axes = _channel_axes(scope, Use(scope, node, index))
                constant = scope.constant(name) if axes is not None else None
                if constant is None or axes is None or constant.data_type != TensorProto.FLOAT:
                    continue
                key = (id(constant.scope), constant.origin)
                if key not in seen:
                    seen.add(key)
                    yield _Weight(constant, constant.scope.uses(constant.origin), axes)


def _channel_axes(scope: Scope, use: Use) -> tuple[int, ...] | None:
    """The axes with scales of their own, if the input is a weight; None if it is none."""
    node, index = use.node, use.index
    if ops.picks_rows(node, index):
        constant = scope.constant(node.input[0])
        return (0,) if constant is not None and math.prod(constant.shape[1:]) > 1 else None
    if is_op(node, *ops.RECURRENT) and index in (1, 2):
        return (0, 1)
    weight = ops.weight_of(scope, node)
    if weight is None or weight.index != index:
        return None
    return (weight.out_axis,)


def _store(
    weight: _Weight, values: NDArray[Any], kind: CodeType, method: Literal["max", "mse"]
) -> None:
    """Put codes and scales in place of the constant."""
    constant = weight.constant
    rows = np.moveaxis(values, weight.axes, range(len(weight.axes)))
    kept = rows.shape[: len(weight.axes)]
    flat = ranges.weight_scales(rows.reshape(weight.groups, -1), 0, kind.qmax, method)
    shape = [1] * values.ndim
    for axis, length in zip(weight.axes, kept, strict=True):
        shape[axis] = length
    scale = flat.reshape(shape)
    codes = grids.quantize(values / scale, 1.0, 0, -kind.qmax, kind.qmax).astype(kind.dtype)
    home, name = constant.scope, constant.origin
    stored = home.add_constant(f"{name}_quantized", codes)
    factor = home.add_constant(f"{name}_scale", scale)
    lookups = weight.lookups if weight.axes == (0,) else []
    others = [use for use in weight.uses if all(use is not other for other in lookups)]
    for use in lookups:
        qdq.gather_rows(use.scope, use.node, stored, factor)
    if others:
        first = home.first_reader(name)
        edit.redirect(others, qdq.expand(home, name, stored, factor, before=first))
    drop_unread(home, [constant.origin])
