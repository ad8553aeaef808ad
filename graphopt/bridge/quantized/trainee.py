"""A quantized graph made ready for training, and the way back into the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from onnx import NodeProto
from torch import nn

from graphopt.bridge.chosen import is_read, weights_of
from graphopt.bridge.frozen import nodes_after
from graphopt.bridge.functions import without_functions
from graphopt.bridge.plan import Substitute
from graphopt.bridge.quantized.fake import FakeActivation, FakeBias, FakeWeight, Grid
from graphopt.bridge.quantized.find import Found, find
from graphopt.bridge.quantized.limits import KeepLimits, Walk, WeightLimits, unsafe_pairs, walk_of
from graphopt.bridge.quantized.points import ActivationPoint, BiasPoint, WeightPoint
from graphopt.bridge.quantized.start import kept_zeros, start
from graphopt.bridge.quantized.write_back import put_bias, put_scale, put_weight
from graphopt.bridge.to_torch import to_torch
from graphopt.bridge.trainee import Trainee
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute, is_op

__all__ = ["QuantizedTrainee", "quantized_trainee"]

_BITS_8 = 255


@dataclass(frozen=True)
class QuantizedTrainee(Trainee):
    """A quantized graph made ready for training.

    Attributes:
        found: What is quantized in the graph.
        stand_ins: Modules in place of quantized tensors, by the name of the tensor.
        limits: Keeps the weights to what the quantizer promised.
        from_float: How many weights start from those of the model before quantization.
    """

    found: Found = field(kw_only=True)
    stand_ins: Mapping[str, nn.Module] = field(kw_only=True)
    limits: KeepLimits = field(kw_only=True)
    from_float: int = field(kw_only=True)

    def write_back(self, graph: Graph) -> list[str]:
        """Put what was trained into ``graph``, which has the nodes of the one that was read.

        Integers, scales and biases go where they were; what is as it was keeps its bits.
        """
        self.limits.judged()
        changed = super().write_back(graph)
        scope, here = graph.main, find(graph)
        for weight in here.weights:
            module = self.stand_ins.get(weight.output)
            if isinstance(module, FakeWeight):
                changed += put_weight(scope, weight, module)
        for points in _by_tie(here.activations).values():
            held = [self.stand_ins.get(out) for point in points for out in point.outputs]
            learned = [each for each in held if isinstance(each, FakeActivation)]
            if learned:
                changed += put_scale(scope, points, learned[0].grid)
        for bias in here.biases:
            module = self.stand_ins.get(bias.output)
            if isinstance(module, FakeBias):
                changed += put_bias(scope, bias, module)
        return changed


def quantized_trainee(
    graph: Graph,
    chosen: Callable[[NodeProto], bool],
    reference: Graph,
    *,
    scales: Literal["learned", "fixed"],
    batch_norm: Literal["batch", "frozen"] = "frozen",
    dropout: bool = False,
    frozen: Sequence[str] = (),
    saturates: bool = False,
    keep_zeros: bool = True,
) -> QuantizedTrainee:
    """A QDQ graph as a module in which fake quantization stands for its Q and DQ.

    Args:
        graph: Stays as it is until ``write_back``.
        chosen: Whether a node's weights, and the steps of what it reads, are trained.
        reference: The model before quantization, for the weights to start from.
        scales: Whether steps are trained as well.
        batch_norm: What BatchNormalization does in training.
        dropout: Whether Dropout drops anything.
        frozen: Tensors up to which onnxruntime computes.
        saturates: Integer kernels overflow 16 bits; layers in which none can stay so.
        keep_zeros: Pruned weights stay zero.

    Raises:
        ModelError: A node cannot be computed in torch; the message names it.
        UsageError: A frozen tensor does not exist.
    """
    found = find(graph)
    builder = _Builder(graph, found, chosen, reference, learned=scales == "learned")
    flat = without_functions(graph)
    builder.build({name for node in nodes_after(flat, frozen) for name in node.output})
    module = to_torch(
        graph,
        batch_norm=batch_norm,
        dropout=dropout,
        trainable=_floats(graph, found, chosen),
        substitutes=builder.substitutes,
        frozen=frozen,
    )
    limits = builder.limits(saturates=saturates, keep_zeros=keep_zeros)
    return QuantizedTrainee(
        module,
        graph,
        found=found,
        stand_ins=builder.modules,
        limits=limits,
        from_float=len(builder.from_float),
    )


def _floats(graph: Graph, found: Found, chosen: Callable[[NodeProto], bool]) -> list[str]:
    """What is trained although it is not quantized; scales are no weights."""
    scales = [graph.main.constant(point.scale_at.name) for point in found.weights]
    names = {constant.origin for constant in scales if constant is not None} | found.row_scales
    return [name for name in weights_of(graph, chosen) if name not in names]


def _by_tie(points: Sequence[ActivationPoint]) -> dict[int, list[ActivationPoint]]:
    groups: dict[int, list[ActivationPoint]] = {}
    for point in points:
        groups.setdefault(point.tie, []).append(point)
    return groups


@dataclass
class _Builder:
    """Makes the modules that stand for quantized tensors."""

    graph: Graph
    found: Found
    chosen: Callable[[NodeProto], bool]
    reference: Graph
    learned: bool
    modules: dict[str, nn.Module] = field(default_factory=dict)
    substitutes: dict[str, Substitute] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    from_float: set[str] = field(default_factory=set)

    def build(self, planned: Collection[str]) -> None:
        """Modules for all quantized tensors among ``planned``."""
        for points in _by_tie(self.found.activations).values():
            outputs = [out for point in points for out in point.outputs]
            learned = self.learned and any(map(self.trained, outputs))
            grid = Grid(points[0].scale, points[0].codes, learned=learned)
            for point in points:
                self.activation(point, grid, planned)
        for weight in self.found.weights:
            if weight.output in planned and self.trained(weight.output):
                self.weight(weight)
        for bias in self.found.biases:
            if bias.output in planned and self.trained(bias.output):
                self.bias(bias)

    def trained(self, output: str) -> bool:
        """Whether some chosen node reads a tensor."""
        return is_read(self.graph.main, output, self.chosen)

    def stand(self, output: str, module: nn.Module, inputs: tuple[str, ...]) -> None:
        """Let a module stand for a tensor."""
        self.modules[output] = module
        self.substitutes[output] = Substitute(module, inputs)

    def activation(self, point: ActivationPoint, grid: Grid, planned: Collection[str]) -> None:
        """One module for the first tensor behind Q; the others are the same."""
        outputs = [name for name in point.outputs if name in planned]
        self.grids.update(dict.fromkeys(point.outputs, grid))
        for index, output in enumerate(outputs):
            if index:
                self.stand(output, nn.Identity(), (outputs[0],))
            else:
                self.stand(output, FakeActivation(grid), (point.source,))

    def weight(self, point: WeightPoint) -> None:
        """The float weight behind the integers, on its grid."""
        grid = Grid(point.scale, point.codes, learned=self.learned)
        values, exact = start(point, grid, self.reference)
        if exact:
            self.from_float.add(point.output)
        self.grids[point.output] = grid
        self.stand(point.output, FakeWeight(values, grid), ())

    def bias(self, point: BiasPoint) -> None:
        """The float bias, in steps that follow those of the layer where they move."""
        layer = point.layer and (self.grid_of(point.layer[0]), self.grid_of(point.layer[1]))
        if layer and not any(grid.learned for grid in layer):
            layer = None
        values = torch.from_numpy(point.values)
        self.stand(point.output, FakeBias(values, point.scale, layer), ())

    def grid_of(self, output: str) -> Grid:
        """The grid of a quantized tensor, one that is not trained included."""
        if output not in self.grids:
            point = next(each for each in self.found.weights if each.output == output)
            self.grids[output] = Grid(point.scale, point.codes, learned=False)
        return self.grids[output]

    def limits(self, *, saturates: bool, keep_zeros: bool) -> KeepLimits:
        """What the modules keep to, as they are now."""
        kept = []
        for point in self.found.weights:
            module = self.modules.get(point.output)
            if isinstance(module, FakeWeight):
                exact = point.output in self.from_float
                zeros = kept_zeros(module.values.detach(), exact=exact) if keep_zeros else None
                walks = list(self.walks(point, module)) if saturates else []
                kept.append(WeightLimits(module, walks, zeros))
        ceilings = [
            (self.grids[point.outputs[0]], point.ceiling)
            for point in self.found.activations
            if point.outputs and point.ceiling is not None
        ]
        return KeepLimits(kept, ceilings)

    def walks(self, point: WeightPoint, module: FakeWeight) -> list[Walk]:
        """The kernels that read a weight of 8 bits and cannot overflow as it is now."""
        span = module.grid.codes.qmax - module.grid.codes.qmin
        found = []
        for use in self.graph.main.uses(point.output):
            node = use.node
            if not is_op(node, "Conv", "Gemm", "MatMul") or use.index != 1 or span < _BITS_8 - 1:
                continue
            data = self.grids.get(node.input[0])
            wide = data is not None and data.codes.qmax - data.codes.qmin == _BITS_8
            depthwise = is_op(node, "Conv") and point.constant.shape[1] == 1
            if not wide or depthwise or (not is_op(node, "Conv") and module.values.dim() != 2):
                continue
            walk = walk_of(node.op_type, transposed=bool(attribute(node, "transB", 0)))
            codes = walk(module.grid.integers(module.values.detach()))
            if not bool(unsafe_pairs(codes).any()):
                found.append(walk)
        return found
