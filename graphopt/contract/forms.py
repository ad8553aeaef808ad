"""The forms that a layer can take in a file, by the passes that make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from graphopt.errors import UsageError, quoted
from graphopt.options import near_miss

__all__ = [
    "FLOAT",
    "FORMS",
    "FormFigures",
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
        spec: The passes that give it to every layer that it suits; empty for floats.
        rounds: What becomes of the tensors around the layer.
        weights: The form that has the same weights, if these cannot be read off its own graph.
    """

    name: str
    spec: str
    rounds: Rounds = "nothing"
    weights: str = ""


_LIFT = "upgrade-opset{opset=21},"
FLOAT = LayerForm("float32", "")
FORMS: tuple[LayerForm, ...] = (
    FLOAT,
    LayerForm("int8-weights", "quantize-weights{min_size=0}"),
    LayerForm("int4-weights", f"{_LIFT}quantize-weights{{weight_type=int4,min_size=0}}"),
    LayerForm("int8-static", "quantize-static", "fixed"),
    LayerForm("int4-static", f"{_LIFT}quantize-static{{weight_type=int4,edges=same}}", "fixed"),
    LayerForm("int8-dynamic", "quantize-dynamic{min_size=0}", "at run time", "int8-weights"),
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

    def noise(self, choice: Mapping[str, str]) -> float:
        """What a choice does to the worst output: noise of its layers and grids added up.

        Args:
            choice: A form by the label of each layer; what is not named stays float.
        """
        chosen = [each.forms[choice[each.node]] for each in self.layers if each.node in choice]
        grids = {grid for form in chosen for grid in form.grids}
        return sum(form.noise for form in chosen) + sum(self.grids[grid] for grid in grids)

    def alone(self, node: str, form: str) -> float:
        """What one layer does in a form, with the tensors around it."""
        return self.noise({node: form})
