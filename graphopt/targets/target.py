"""What a runtime on a machine does with quantized operators, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["OpRule", "Role", "Target"]

Role = Literal["weighted", "integer", "same"]


@dataclass(frozen=True)
class OpRule:
    """How one operator runs on integers.

    Attributes:
        role: ``weighted``: constant int8 weight, int32 bias. ``integer``: every input and the
            output have parameters of their own. ``same``: values are moved or selected, so input
            and output share their parameters.
        inputs: Which inputs are activations; None means all.
        needs_output: The integer kernel is used only where the output is quantized as well.
        min_opset: Least version of the default domain for the integer kernel.
        attributes: Values that attributes must have (absent ones count as their default).
    """

    role: Role
    inputs: tuple[int, ...] | None = (0,)
    needs_output: bool = True
    min_opset: int = 10
    attributes: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """A runtime on a kind of machine.

    Attributes:
        name: How the user calls it.
        description: One phrase.
        saturates: Its uint8 x int8 kernels add two neighbouring products in a saturating int16.
        rules: What runs on integers, by operator of the default domain.
        activations: Operators that vanish into the integer kernel before them.
        weight_types: Codes of weights for which it has integer kernels.
        activation_types: Codes of activations for which it has.
        requantizes: Float operators with a weight that the runtime quantizes by itself where they
            stand between a DequantizeLinear with scalar scale and a QuantizeLinear.
        min_opset: Least version of the default domain that quantized models need.
        narrow_group: A two-dimensional Conv with fewer input channels a group than this, but more
            than one, is slower on integers than in floats; 0 where no width is known to be.
    """

    name: str
    description: str
    saturates: bool
    rules: Mapping[str, OpRule]
    activations: tuple[str, ...] = ("Relu", "Clip")
    requantizes: tuple[str, ...] = ("Conv", "ConvTranspose", "Gemm")
    min_opset: int = 13
    narrow_group: int = 0
    weight_types: tuple[str, ...] = ("int8",)
    activation_types: tuple[str, ...] = ("uint8", "int8")

    def computes(self, weights: str, activations: str) -> bool:
        """Whether it has integer kernels for weights and activations of these codes."""
        return weights in self.weight_types and activations in self.activation_types
