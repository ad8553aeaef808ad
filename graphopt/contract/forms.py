"""The forms that a layer can take in a file, by the passes that make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from graphopt.errors import UsageError, quoted
from graphopt.graph.graph import Graph
from graphopt.options import near_miss

__all__ = [
    "FLOAT",
    "FORMS",
    "FormFigures",
    "FormTrials",
    "Grid",
    "LayerFigures",
    "LayerForm",
    "ModelFigures",
    "form_named",
]

Rounds = Literal["nothing", "fixed", "at run time"]
"""What a form makes of the tensors around a layer: they go on no grid, on one that calibration
fixed, or on one that each run finds for what the layer reads."""


@dataclass(frozen=True)
class LayerForm:
    """One form of a layer.

    Attributes:
        name: How people call it.
        item: The pass that makes it; empty for floats.
        options: Of that pass, as spec text.
        rounds: What becomes of the tensors around the layer.
        opset: Least opset of the model.
    """

    name: str
    item: str = ""
    options: str = ""
    rounds: Rounds = "nothing"
    opset: int = 0

    @property
    def spec(self) -> str:
        """The passes that give it to every layer that it suits; empty for floats."""
        lift = f"upgrade-opset{{opset={self.opset}}}," if self.opset else ""
        options = f"{{{self.options}}}" if self.options else ""
        return f"{lift}{self.item}{options}"


_ALL, _FOUR = "min_size=0", 21
FLOAT = LayerForm("float32")
FORMS: tuple[LayerForm, ...] = (
    FLOAT,
    LayerForm("int8-weights", "quantize-weights", _ALL),
    LayerForm("int4-weights", "quantize-weights", f"weight_type=int4,{_ALL}", opset=_FOUR),
    LayerForm("int8-static", "quantize-static", "", "fixed"),
    LayerForm("int4-static", "quantize-static", "weight_type=int4,edges=same", "fixed", _FOUR),
    LayerForm("int8-dynamic", "quantize-dynamic", _ALL, "at run time"),
)
"""All of them; those of less than 8 bits come behind those of 8."""


def form_named(name: str) -> LayerForm:
    """The form of a name.

    Raises:
        UsageError: There is none.
    """
    names = [each.name for each in FORMS]
    if name not in names:
        raise UsageError(f"unknown form {quoted(name)}{near_miss(name, names)}")
    return FORMS[names.index(name)]


_APART = 2.0
"""Power of the difference of two answers that have nothing in common, over that of one."""

Grid = tuple[str, bool]
"""A tensor that goes on a grid, and whether each run finds that grid."""


@dataclass(frozen=True)
class FormFigures:
    """A layer in a form.

    Attributes:
        noise: What its weights alone do to the worst output: power of the error over power of the
            output.
        bytes: What the layer takes in a file.
        ms: Time of one run on this machine; None where it is not known.
        grids: The tensors that go on a grid with it, which neighbours may share.
    """

    noise: float
    bytes: int
    ms: float | None = None
    grids: tuple[Grid, ...] = ()


@dataclass(frozen=True)
class LayerFigures:
    """A layer in every form that suits it, floats among them."""

    node: str
    op_type: str
    forms: Mapping[str, FormFigures]


@dataclass(frozen=True)
class ModelFigures:
    """What every layer costs in every form, by which the best choice for all is found.

    Attributes:
        layers: In the order of the graph.
        grids: Noise of each tensor that goes on a grid, alone, as that of a layer.
        bytes: What the file takes beside the layers.
        borders: Milliseconds that it takes to put a tensor on its grid and back, where only one
            side of it is integer; empty where nothing was timed.
        reasons: Why a form suits no layer, by its name.
        samples: How many the noise was measured on.
        unmeasured: How many noises were not measured before the time was over.
    """

    layers: tuple[LayerFigures, ...]
    grids: Mapping[Grid, float]
    bytes: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)
    samples: int = 0
    unmeasured: int = 0
    borders: Mapping[Grid, float] = field(default_factory=dict)

    def summed(self, choice: Mapping[str, str]) -> float:
        """Noise of the layers and grids of a choice, added up.

        Args:
            choice: A form by the label of each layer; what is not named stays float.
        """
        chosen = [each.forms[choice[each.node]] for each in self.layers if each.node in choice]
        grids = {grid for form in chosen for grid in form.grids}
        return sum(form.noise for form in chosen) + sum(self.grids[grid] for grid in grids)

    def noise(self, choice: Mapping[str, str]) -> float:
        """What a choice does to the worst output, about.

            n = s / (1 + s / 2),  s the sum of the noises

        Small noises add up; answers that have nothing in common any more, of the same power, are
        twice that power apart.

        Args:
            choice: See ``summed``.
        """
        total = self.summed(choice)
        return total / (1 + total / _APART)

    def alone(self, node: str, form: str) -> float:
        """What one layer does in a form, with the tensors around it."""
        return self.summed({node: form})


class FormTrials(Protocol):
    """The door to what forms of the layers of a graph do to its answers."""

    def figures(self, forms: Sequence[LayerForm], *, timed: bool = False) -> ModelFigures:
        """Noise and bytes of each layer in each form.

        Args:
            forms: Those that are compared.
            timed: Whether each is timed as well.

        Raises:
            PassError: No layer can be measured, or the time is over.
            ModelError: onnxruntime cannot run a form.
        """

    def made(self, spec: str) -> Graph | str:
        """What passes make of the graph, or why they make nothing.

        Args:
            spec: The passes, as spec text.
        """

    def noise(self, graph: Graph) -> float:
        """Power of the error in the worst output over the power of that output.

        Args:
            graph: One that takes the same feeds; it is compared with the model as it came.

        Raises:
            ModelError: onnxruntime cannot run it.
        """
