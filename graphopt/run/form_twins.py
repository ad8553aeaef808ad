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
from graphopt.contract.forms import FLOAT, Grid, LayerForm, form_named
from graphopt.facts.layers import Layer, layer, open_layers
from graphopt.graph.graph import Constant, Graph
from graphopt.graph.node import label
from graphopt.run.stage import Stage

__all__ = ["FormTwins", "Made"]

Floats = NDArray[np.float32]
Made = Graph | str
"""What the passes of a form make of a graph, or why they make nothing."""

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
        sources = {form.weights: form_named(form.weights) for form in forms if form.weights}
        for name, form in (sources | wanted).items():
            made = make(form.spec)
            if isinstance(made, str):
                reasons[name] = made
            else:
                twins[name] = made
        return cls(stage, own, twins, wanted, reasons)

    @cached_property
    def _nodes(self) -> dict[str, dict[str, NodeProto]]:
        return {
            name: {label(node): node for node in twin.main.nodes}
            for name, twin in self.twins.items()
        }

    def _twin(self, node: str, form: str) -> Layer | None:
        """The layer as it is in a form, where it has that form."""
        twin = self.twins.get(form)
        if twin is None or node not in self._nodes[form]:
            return None
        found = layer(twin.main, self._nodes[form][node])
        return found if isinstance(found, Layer) and found.weight.form != "float" else None

    def weights(self, node: str, form: str) -> Floats | None:
        """The weights that a layer has in a form, as its float node reads them; None without."""
        source = self.rounds[form].weights or form
        found, own = self._twin(node, source), self.layers[node]
        if found is None or (source != form and not self._replaced(node, form)):
            return None
        values = found.values().astype(np.float32) / np.float32(own.alpha)
        return np.ascontiguousarray(values) if values.shape == own.weight.shape else None

    def _replaced(self, node: str, form: str) -> bool:
        """Whether other nodes compute the result of a layer in a form."""
        twin = self.twins.get(form)
        if twin is None:
            return False
        maker = twin.main.producer(self.layers[node].node.output[0])
        return maker is not None and maker.op_type != self.layers[node].node.op_type

    def grids(self, node: str, form: str) -> tuple[Grid, ...]:
        """The tensors that go on a grid with a layer in a form."""
        kind = self.rounds[form].rounds
        if kind == "at run time":
            return ((self.layers[node].data, True),)
        found = self._twin(node, form) if kind == "fixed" else None
        if found is None:
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
                twin = self._twin(node, form) if item.rounds == "fixed" else None
                if twin is not None:
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
