"""Pass ``train-quantized``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import OtherTeacher, Precondition, When
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.facts.operators import find, is_kind
from graphopt.facts.quantized import integer_op
from graphopt.facts.select import select
from graphopt.families.training import DistillingPass, distilling_examples, require_torch, told
from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op, label

if TYPE_CHECKING:
    from graphopt.bridge.quantized import QuantizedTrainee

__all__ = ["TrainQuantized"]

_ADVICE = "put quantize-static or quantize-weights before it"
_SMALL_INTEGERS = {2, 3, 21, 22, 25, 26}
"""ONNX element types uint8, int8, uint4, int4, uint2, int2."""


@dataclass(frozen=True, kw_only=True)
class Dequantizes(Precondition):
    """Only graphs that dequantize have weights behind which floats can stand."""

    words = "a quantized model that dequantizes: QDQ form, or weights stored as integers"

    def problem(self, item: Pass, graph: Graph, context: Context) -> str:
        nodes = [node for scope in graph.scopes() for node in scope.nodes]
        for node in nodes:
            row = find(node)
            looks_up = row is not None and row.looks_up
            if (integer_op(node) and not looks_up) or is_op(node, "DynamicQuantizeLinear"):
                return (
                    f"{item.name} trains graphs of QuantizeLinear and DequantizeLinear; "
                    f"{node.op_type} {label(node)!r} computes on integers by itself, and no "
                    "gradient passes; give the model in QDQ form"
                )
        small = {tensor.data_type for scope in graph.scopes() for tensor in scope.tensors()}
        if any(is_kind(node, "quantize") for node in nodes) or small & _SMALL_INTEGERS:
            return ""
        return f"{item.name}: the model is not quantized; {_ADVICE}"


@register("train-quantized")
@dataclass(frozen=True, kw_only=True)
class TrainQuantized(DistillingPass):
    """Train the integers of a quantized model until it answers like its teacher again.

        Conv(DQ(Q(x, s)), DQ(W int4, t))      becomes      Conv(DQ(Q(x, s')), DQ(W' int4, t'))

    While training, floats stand behind the integers of each weight. They are rounded at every step
    as the file will have them, activations as QuantizeLinear does, and gradients pass through the
    rounding. Scales are learned as well; zero points stay. The loss is that of distill. The result
    is the same graph with other numbers: nodes, names and types stay, int32 biases keep activation
    scale * weight scale, and on a target whose kernels saturate, layers that cannot overflow
    cannot do so afterwards. Whether onnxruntime computes the integers that training saw is
    measured on some samples.

    Put it behind quantize-static (W8A8, W4A8 and W4A4) or quantize-weights. Floats start from the
    weights before quantization where they are found by name. Fold BatchNormalization before
    quantize-static; one that is left keeps its statistics. Before quantize-weights leave it in and
    give ``batch_norm=batch``: its statistics then follow the rounded weights. Four bits gain most;
    8 bits are close from the start and want a small rate, such as ``lr=1e-5``.

    Source: Esser et al., Learned Step Size Quantization (2020); Jacob et al. (2018), section 3.
    """

    scales: Annotated[
        Literal["learned", "fixed"], Option("train the scales too, or keep those of the file")
    ] = "learned"
    lr: Annotated[float, Option("highest learning rate", low=0, low_open=True)] = 5e-4
    batch_norm: Annotated[
        Literal["batch", "frozen"], Option("statistics that BatchNormalization takes")
    ] = "frozen"

    requires = (
        Dequantizes(),
        *DistillingPass.requires,
        OtherTeacher(when=When("alpha", 0.0)),
    )

    def run(self, graph: Graph, context: Context) -> Changes:
        require_torch(self.name)
        from graphopt.bridge.quantized import agreement  # noqa: PLC0415 - torch is heavy

        changes = Changes()
        trainee = self.quantized(graph, context)
        for node, reason in trainee.found.left:
            changes.skip(node, reason)
        curves = self.train(trainee, context, self, [trainee.limits])
        told(curves, changes, trainee.write_back(graph) if curves.best_step else [])
        if curves.best_step and trainee.found.activations:
            training = self.training(context)
            agreed = agreement(trainee, graph, training.samples, threads=training.threads)
            changes.edit("integers", str(agreed))
        return changes

    def quantized(self, graph: Graph, context: Context) -> QuantizedTrainee:
        """The graph as a module with fake quantization in it.

        Raises:
            ModelError: A node cannot be computed in torch; the message names it.
            PassError: No weight is stored in a form that can be trained.
            UsageError: A pattern or a frozen tensor names nothing.
        """
        from graphopt.bridge.quantized import quantized_trainee  # noqa: PLC0415 - torch is heavy

        trainee = quantized_trainee(
            graph,
            select(graph, self.nodes, self.exclude),
            context.reference,
            scales=self.scales,
            batch_norm=self.batch_norm,
            dropout=self.dropout,
            frozen=self.frozen,
            saturates=context.target.saturates,
            keep_zeros=self.keep_zeros,
        )
        if not trainee.found:
            raise PassError(
                f"{self.name}: no constant behind DequantizeLinear, or Cast and Mul, in the main "
                f"graph, and no QuantizeLinear; {_ADVICE}"
            )
        return trainee

    @classmethod
    def examples(cls) -> Sequence[Example]:
        coarse = "per_channel=false,ranges=percentile,percentile=90"
        static = f"fuse-batchnorm,quantize-static{{{coarse}}}"
        lift = "upgrade-opset{opset=21},fuse-batchnorm,"
        four = f"quantize-static{{{coarse},weight_type=int4,weight_ranges=max,edges=same}}"
        first, *others = distilling_examples(Example("cnn", {"lr": 5e-5}, static, 24, "classes"))
        return [
            first,
            *others,
            replace(first, before=lift + four),
            replace(first.but(scales="fixed"), before=lift + "quantize-weights{weight_type=int4}"),
        ]
