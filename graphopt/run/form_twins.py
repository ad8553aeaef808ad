"""Graphs in which all layers have one form, and what is read off them of each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.analysis.layer_grids import rounded_tensors
from graphopt.contract.forms import FLOAT, Grid, LayerForm
from graphopt.facts.coded import coded_weight
from graphopt.facts.layers import Layer, Refusal, layer, open_layers
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import is_op, label
from graphopt.run.stage import Stage

__all__ = ["FormTwins", "Made"]

Floats = NDArray[np.float32]
Made = Graph | str
"""What the passes of a form make of a graph, or why they make nothing."""

_NODES = 5
"""Between an integer product and the result of its layer: Cast, two Mul, Add, and itself."""
_LEAST_POSITIONS = 16
"""Of fewer values of a channel the mean is no bias that other samples share."""


@dataclass(frozen=True)
class FormTwins:
    """The layers of a graph, and graphs in which all of them have one form.

    Attributes:
        stage: The model in floats.
        layers: Those that can be measured, by label.
        twins: The model in each form.
        rounds: The forms that are compared, by name.
        reasons: Why a form cannot be made.
    """

    stage: Stage
    layers: Mapping[str, Layer]
    twins: Mapping[str, Graph]
    rounds: Mapping[str, LayerForm]
    reasons: dict[str, str]

    @classmethod
    def read(
        cls, stage: Stage, forms: Sequence[LayerForm], make: Callable[[str], Made]
    ) -> FormTwins:
        """Make a graph of each form."""
        own = {
            label(each.node): each
            for each in open_layers(stage.graph.main)
            if each.refusal("float32", "fixed", "finite") is None
        }
        twins, reasons = dict[str, Graph](), dict[str, str]()
        wanted = {form.name: form for form in forms if form is not FLOAT}
        for name, form in wanted.items():
            made = make(form.spec)
            if isinstance(made, str):
                reasons[name] = made
            else:
                twins[name] = made
        return cls(stage, own, twins, wanted, reasons)

    @cached_property
    def _found(self) -> dict[tuple[str, str], Layer]:
        """Each layer as it is in each form that it has, by label and form."""
        found = {}
        for form, twin in self.twins.items():
            named = {label(each): each for each in twin.main.nodes}
            for node, own in self.layers.items():
                made = named.get(node) or _integers(twin.main, own.node.output[0])
                twin_layer = None if made is None else layer(twin.main, made)
                if isinstance(twin_layer, Layer) and twin_layer.weight.form != "float":
                    found[node, form] = twin_layer
        return found

    def weights(self, node: str, form: str) -> Floats | None:
        """The weights that a layer has in a form, as its float node reads them; None without."""
        found, own = self._found.get((node, form)), self.layers[node]
        if found is None:
            return None
        values = _floats(found)
        if values is None:
            return None
        if values.ndim == 2 and found.read_axes[0] % 2 != own.read_axes[0] % 2:
            values = values.T
        fitting = np.ascontiguousarray(values / np.float32(own.alpha))
        return fitting if fitting.shape == own.weight.shape else None

    def grids(self, node: str, form: str) -> tuple[Grid, ...]:
        """The tensors that go on a grid with a layer in a form."""
        kind = self.rounds[form].rounds
        if kind == "at run time":
            return ((self.layers[node].data, True),)
        found = self._found.get((node, form))
        if found is None or kind == "nothing":
            return ()
        return tuple((name, False) for name in rounded_tensors(found, self.stage.graph.main))

    @cached_property
    def all_grids(self) -> dict[Grid, tuple[Constant, Constant] | None]:
        """Every grid of every form: scale and zero point, or None for those of each run."""
        found: dict[Grid, tuple[Constant, Constant] | None] = {}
        for form, item in self.rounds.items():
            for node in self.layers:
                if item.rounds == "at run time" and self.weights(node, form) is not None:
                    found[self.layers[node].data, True] = None
                twin = self._found.get((node, form))
                if twin is not None and item.rounds == "fixed":
                    for name, grid in rounded_tensors(twin, self.stage.graph.main).items():
                        found.setdefault((name, False), grid)
        return found

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each layer with each form that it has; form after form."""
        for form in self.rounds:
            for node in self.layers:
                if self.weights(node, form) is not None:
                    yield node, form

    def ranks(self, samples: int) -> dict[str, int | None]:
        """Ranks of the results of layers whose means can be put right; None for the others.

        Args:
            samples: How many the means are taken over.
        """
        found: dict[str, int | None] = {}
        for name, each in self.layers.items():
            shape = self.stage.sizes.shapes.static_shape(each.node.output[0])
            positions = 0 if shape is None else math.prod(shape) * samples
            fit = each.bias_place is not None and positions >= _LEAST_POSITIONS * each.channels
            found[name] = len(shape) if shape is not None and fit else None
        return found


def _integers(scope: Scope, result: str) -> NodeProto | None:
    """The integer product from whose sums Cast, Mul and Add make a tensor."""
    node = scope.producer(result)
    for _ in range(_NODES):
        if node is None or is_op(node, "MatMulInteger"):
            break
        inner = (scope.producer(name) for name in node.input if is_op(node, "Add", "Mul", "Cast"))
        node = next((each for each in inner if each is not None and not _scales(each)), None)
    return node


def _scales(node: NodeProto) -> bool:
    """Whether a node hands on the scale of codes, not their sums."""
    return is_op(node, "DynamicQuantizeLinear")


def _floats(found: Layer) -> Floats | None:
    """What the weight of a layer stands for."""
    if found.weight.form != "integer":
        return np.asarray(found.values(), np.float32)
    codes = coded_weight(found)
    return None if isinstance(codes, Refusal) else codes.values()
