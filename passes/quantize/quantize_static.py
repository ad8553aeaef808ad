"""The pass ``quantize-static``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from onnx import NodeProto

from graphopt.analysis.placement import place
from graphopt.contract.examples import Example
from graphopt.contract.passes import (
    Changes,
    Context,
    HistogramOf,
    MinMax,
    Option,
    Pass,
    body_reason,
)
from graphopt.contract.preconditions import (
    CalibrationSamples,
    FloatActivations,
    MinOpset,
    TargetTakes,
    When,
)
from graphopt.contract.registry import register
from graphopt.errors import UsageError
from graphopt.facts.edge_layers import edge_layers
from graphopt.facts.layers import Layer, open_layers
from graphopt.facts.select import select
from graphopt.families.chosen import Exclude, Nodes
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.numerics import grids, ranges
from graphopt.numerics.grids import CODE_TYPES, CodeName, CodeType
from graphopt.numerics.histogram import Histogram
from graphopt.rewrite.expanded import expand_codes
from graphopt.rewrite.integer_layers import StoredWeights, WeightGrid, set_integer_weight
from graphopt.rewrite.quantized_activations import ActivationGrid, Placement, quantize_activations

__all__ = ["QuantizeStatic"]

_WIDE = When("activation_type", ("uint16", "int16"))
_EIGHT = 8
_CHOSEN_FLOAT = "kept float by the options nodes and exclude"


@register("quantize-static")
@dataclass(frozen=True, kw_only=True)
class QuantizeStatic(Pass):
    """Compute layers on 8-bit integers with fixed activation ranges (QDQ form).

        x -> Conv(W, b) -> Relu -> y

    becomes, with Q = QuantizeLinear and DQ = DequantizeLinear,

        x -> Q -> DQ -> Conv(DQ(W int8), DQ(b int32)) -> Relu -> Q -> DQ -> y

    Activations are of the codes that the target takes (uint8 on a CPU) with one scale a tensor,
    weights int8 with one scale an output channel, biases int32 with exactly activation scale *
    weight scale, or floats where the target wants those; where such a bias would not fit in 32
    bits, the weight scale is raised. Q and DQ stand only where the target's runtime turns
    them into integer kernels; operators that move values keep their parameters. A layer that
    stays float between integer ones is guarded, so that onnxruntime does not quantize it by
    itself. On a target whose kernels saturate, weight scales rise where neighbouring products
    could overflow 16 bits. 8-bit weights that another tool has stored, while activations are
    float, keep their codes; a Transpose behind them is done once and for all.

    With ``weight_type=int4`` (W4A8), and ``activation_type=uint4`` or ``int4`` as well (W4A4),
    codes have four bits, for hardware that has such kernels and for ``train-quantized``, which
    such a model needs. onnxruntime has none: it runs the file, and computes those layers in
    floats from the rounded values. Q and DQ then stand in front of the layers alone. Layers with
    no other one before or behind them keep 8 bits, unless ``narrow`` says which have fewer, such as
    ``quantize-static{weight_type=int4,narrow=pointwise}``: the others are 8-bit layers then.
    ``activation_type=uint16`` (W8A16, W4A16) is for
    accelerators that have it, as the table of the target says; onnxruntime's CPU computes such
    layers in floats from the rounded values.

    Put it behind the clean-up passes. Source: Jacob et al. 2018, Quantization and Training of
    Neural Networks for Efficient Integer-Arithmetic-Only Inference.
    """

    ranges: Annotated[
        Literal["minmax", "mse", "entropy", "percentile"],
        Option("how the range of an activation follows from what was seen"),
    ] = "mse"
    percentile: Annotated[
        float,
        Option(
            "share of the values inside the range, for ranges=percentile",
            low=50,
            high=100,
            low_open=True,
            unit="%",
        ),
    ] = 99.99
    weight_ranges: Annotated[
        Literal["auto", "max", "mse"],
        Option("how the scale of a weight follows from its values; auto: mse for 4 bits, else max"),
    ] = "auto"
    per_channel: Annotated[bool, Option("one weight scale for each output channel")] = True
    weight_type: Annotated[
        Literal["int8", "int4"], Option("integers that weights are stored as")
    ] = "int8"
    activation_type: Annotated[
        Literal["auto", "uint8", "int8", "uint4", "int4", "uint16", "int16"],
        Option("integers that activations become; auto: what the target takes"),
    ] = "auto"
    edges: Annotated[
        Literal["8bit", "same"],
        Option("first and last layers, weights and what they read: 8 bits, or as the others"),
    ] = "8bit"
    narrow: Annotated[
        tuple[str, ...],
        Option("the layers that get weights of weight_type, others int8; else all", patterns=True),
    ] = ()
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    requires = (
        CalibrationSamples(),
        FloatActivations(),
        MinOpset("per-channel DequantizeLinear"),
        MinOpset("4-bit integers", CODE_TYPES["int4"].opset, when=When("weight_type", "int4")),
        MinOpset("16-bit integers", CODE_TYPES["int16"].opset, when=_WIDE),
        TargetTakes("weight_type", "activation_type"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_type == "int8" and self.activation_type in ("uint4", "int4"):
            raise UsageError(
                f"quantize-static: activation_type={self.activation_type} needs weight_type=int4; "
                "onnxruntime does not load a Conv of 4-bit activations and 8-bit weights"
            )

    def _limits(
        self, kinds: Mapping[str, CodeName], context: Context
    ) -> dict[str, tuple[float, float]]:
        """The range of each tensor of ``kinds``, for the codes that it becomes."""
        if self.ranges == "minmax":
            extents = [MinMax(tensor) for tensor in kinds]
            seen = context.observe(extents)
            return {request.tensor: seen[request] for request in extents}
        requests = [HistogramOf(tensor) for tensor in kinds]
        histograms = context.observe(requests)
        return {
            request.tensor: self._range(histograms[request], CODE_TYPES[kinds[request.tensor]])
            for request in requests
        }

    def _range(self, histogram: Histogram, codes: CodeType) -> tuple[float, float]:
        if self.ranges == "percentile":
            return ranges.percentile(histogram, self.percentile)
        if self.ranges == "entropy":
            return ranges.entropy(histogram, codes.bits)
        return ranges.mse(histogram, codes.qmin, codes.qmax)

    def _place(self, graph: Graph, context: Context) -> Placement:
        chosen = select(graph, self.nodes, self.exclude)
        return place(
            graph.main,
            context.shapes,
            context.target,
            lambda node: None if chosen(node) else _CHOSEN_FLOAT,
            weights=self.weight_type,
            wide=self._eight_bits(graph),
            activations=self._codes(context),
        )

    def _codes(self, context: Context) -> CodeName:
        """The codes of activations; by default those that the layers of the target take first."""
        if self.activation_type == "auto":
            return context.target.activation_types[0]
        return self.activation_type

    @property
    def _narrow(self) -> bool:
        """Whether layers get fewer than 8 bits, which the first and last may not bear."""
        return self.weight_type == "int4"

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        placement = self._place(graph, context)
        for refusal in placement.refused:
            changes.skip(refusal)
        for layer in open_layers(graph):
            if layer.scope is not graph.main:
                changes.skip(layer.node, body_reason(layer.scope))
        if not placement.layers:
            return changes
        grids_of = self._activation_grids(graph, context, placement)
        integer = {id(node) for node in placement.nodes}
        for layer in list(open_layers(graph.main)):
            if id(layer.node) not in integer:  # or onnxruntime makes it an integer layer
                expand_codes(layer)
        self._store_weights(graph, context, placement, grids_of, changes)
        for node in placement.moved:
            changes.edit(node, "computes on the integers of its neighbours")
        quantize_activations(graph.main, placement, grids_of)
        return changes

    def _eight_bits(self, graph: Graph) -> Callable[[NodeProto], bool] | None:
        """Which layers are placed as those of 8 bits though others have fewer."""
        if not (self.narrow and self._narrow):
            return None
        wide = self._wide(graph)
        return lambda node: label(node) in wide

    def _wide(self, graph: Graph) -> set[str]:
        """Labels of the layers that keep 8 bits where the others have fewer."""
        if self.narrow:
            narrow = select(graph, self.narrow)
            return {label(each.node) for each in open_layers(graph) if not narrow(each.node)}
        if not self._narrow or self.edges == "same":
            return set()
        return {label(node) for node in edge_layers(graph.main)}

    def _activation_grids(
        self, graph: Graph, context: Context, placement: Placement
    ) -> dict[str, ActivationGrid]:
        """The grid of each tensor that gets Q and DQ."""
        wide = self._wide(graph)
        kinds: dict[str, CodeName] = {}
        codes = self._codes(context)
        kinds |= dict.fromkeys(placement.roots.values(), codes)
        for layer in placement.layers:
            if label(layer.node) in wide and CODE_TYPES[codes].bits < _EIGHT:
                kinds[placement.roots[layer.data]] = grids.eight_bits(codes)
        limits, symmetric = self._limits(kinds, context), context.target.symmetric
        found = {
            root: ActivationGrid.covering(*limits[root], kind, symmetric=symmetric)
            for root, kind in kinds.items()
        }
        return {name: found[root] for name, root in placement.roots.items()}

    def _store_weights(
        self,
        graph: Graph,
        context: Context,
        placement: Placement,
        activations: Mapping[str, ActivationGrid],
        changes: Changes,
    ) -> None:
        """Weights and biases of the layers as integers."""
        wide = self._wide(graph)
        stored: StoredWeights = {}
        integer = {id(layer.node) for layer in placement.layers}
        for layer in placement.layers:
            kind: CodeName = "int8" if label(layer.node) in wide else self.weight_type
            grid = self._weight_grid(layer, kind, context)
            read = activations[layer.data]
            others = [use.node for use in layer.weight.readers if id(use.node) not in integer]
            _, raised = set_integer_weight(layer, float(read.scale), grid, stored)
            note = f", {raised} channel scales raised against saturation" if raised else ""
            if others:
                note += f"; the float weight stays beside it, for {label(others[0])}"
            rule = context.target.rules[layer.node.op_type]
            if not rule.computes(kind, read.kind):
                odd = [each for each in (kind, read.kind) if CODE_TYPES[each].bits != _EIGHT]
                bits = " or ".join(dict.fromkeys(str(CODE_TYPES[each].bits) for each in odd))
                runtime = context.target.runtime
                note += f"; {runtime} has no kernel for {bits} bits and computes in floats"
            changes.edit(layer.node, f"{kind} weight, {read.kind} activation{note}")

    def _weight_grid(self, layer: Layer, kind: CodeName, context: Context) -> WeightGrid:
        method = self.weight_ranges
        if method == "auto":
            method = "mse" if kind == "int4" else "max"
        codes, target = CODE_TYPES[kind], context.target
        per_channel = self.per_channel and target.rules[layer.node.op_type].per_channel
        return WeightGrid(per_channel, method, target.saturates, codes, target.bias)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        four = Example("cnn", {"weight_type": "int4"}, before="upgrade-opset{opset=21}")
        wide = Example("mlp", before="upgrade-opset{opset=21}")
        return [
            Example("cnn"),
            Example("mlp", {"ranges": "minmax", "per_channel": False, "weight_ranges": "mse"}),
            Example("transformer", {"ranges": "entropy", "nodes": ("MatMul",)}),
            Example("cnn", {"ranges": "percentile", "percentile": 99.0, "exclude": ("Gemm",)}),
            Example("cnn", {"activation_type": "int8"}),
            four.but(weight_ranges="max"),
            four.but(activation_type="uint4"),
            four.but(activation_type="int4", edges="same"),
            four.but(narrow=("Gemm",)),
            Example("cnn", {"activation_type": "uint8"}),
            wide.but(activation_type="uint16"),
            wide.but(activation_type="int16"),
        ]
