"""What a runtime on a machine does with quantized operators, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from graphopt.numerics.grids import CodeName
from graphopt.rewrite.integer_layers import BiasForm

__all__ = ["OpRule", "Role", "Sizes", "Slow", "Target"]

Role = Literal["weighted", "integer", "same"]
Sizes = Literal["any", "but the batch", "all"]


@dataclass(frozen=True)
class OpRule:
    """How one operator runs on integers.

    Attributes:
        role: ``weighted``: constant integer weight, int32 bias. ``integer``: every input and the
            output have parameters of their own. ``same``: values are moved or selected, so input
            and output share their parameters.
        inputs: Which inputs are activations; None means all.
        needs_output: The integer kernel is used only where the output is quantized as well.
        min_opset: Least version of the default domain for the integer kernel.
        attributes: Values that attributes must have (absent ones count as their default).
        otherwise: What a node is whose attributes have other values, as a phrase.
        weight_types: Codes of weights that the integer kernel takes.
        activation_types: Codes of activations that it takes and gives.
        needs_zero_points: A DequantizeLinear in front must have its zero point spelled out.
        pays: Worth the rounding; where it does not, no pass quantizes the operator.
        per_channel: A weight may have a scale for each output channel, where the target has them.
    """

    role: Role
    inputs: tuple[int, ...] | None = (0,)
    needs_output: bool = True
    min_opset: int = 10
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    otherwise: str = ""
    weight_types: tuple[CodeName, ...] = ("int8", "uint8")
    activation_types: tuple[CodeName, ...] = ("uint8", "int8")
    needs_zero_points: bool = False
    pays: bool = True
    per_channel: bool = True

    def computes(self, weights: CodeName, activations: CodeName) -> bool:
        """Whether its integer kernel takes weights and activations of these codes."""
        return activations in self.activation_types and (
            self.role != "weighted" or weights in self.weight_types
        )


@dataclass(frozen=True)
class Slow:
    """Two-dimensional Convs whose integer kernel is slower than the float one.

    Attributes:
        depthwise: Those of one input channel a group.
        group: Those of more than one group with fewer input channels in each than this.
        pointwise: Those of one position, in one group, with fewer input channels than this.
        alone: Layers beside layers in floats, where to quantize what they read and to dequantize
            what they give takes longer than they save, by ``integer_time`` and ``crossing``.
    """

    depthwise: bool = False
    group: int = 0
    pointwise: int = 0
    alone: bool = False


@dataclass(frozen=True)
class Target:
    """A runtime on a kind of machine.

    Attributes:
        name: How the user calls it.
        description: One phrase.
        machine: What it runs on.
        saturates: Its uint8 x int8 kernels add two neighbouring products in a saturating int16.
        rules: What runs on integers, by operator of the default domain.
        activations: Operators that vanish into the integer kernel before them.
        clamps: The kernel applies their bounds itself; else they vanish only where the range of
            the codes cuts at the same places.
        requantizes: Float operators with a weight that the runtime quantizes by itself where they
            stand between a DequantizeLinear with scalar scale and a QuantizeLinear.
        min_opset: Least version of the default domain that quantized models need.
        slow: Convs that no pass puts on integers, as they would only take longer.
        runtime: Who runs the model there.
        per_channel: Its kernels take one weight scale for each output channel.
        symmetric: They want zero point 0 for activations of signed codes.
        bias: How a bias is written.
        emulates: Codes without kernels that it runs all the same, in floats from rounded values.
        expands: The form that turns a weight which is only stored small into floats once, as the
            model is loaded: Cast and Mul, or DequantizeLinear.
        dynamic: Operators without a rule whose integer form takes the ranges of its activations
            from each call, with the operator of the runtime's own that is this form.
        row_types: Codes of tables whose rows it looks up without expanding the table.
        block_lookup: Operator of its own that looks up rows of 2 or 4 bits in blocks; empty where
            it has none.
        block_sizes: By codes of weights below 8 bits: sizes of the blocks behind a
            DequantizeLinear in front of a MatMul or Gemm with which it takes less time than in
            floats, for one row as for many.
        calls: It runs layers on integers that take the ranges of their activations from each call
            (DynamicQuantizeLinear and MatMulInteger).
        contrib: It has operators of the domain com.microsoft.
        sizes: Which sizes of activations must be fixed: none, all but that of the batch, or all.
        external: It takes files whose weights lie outside of the ONNX file.
        integer_time: Time of a multiplication on integers over that of one in floats, to reckon
            with where the target is not this machine.
        crossing: Time to quantize or dequantize an element, in multiplications of floats.
        overhead: Time that each such node takes besides, in the same unit.
    """

    name: str
    description: str
    machine: str
    saturates: bool
    rules: Mapping[str, OpRule]
    activations: tuple[str, ...] = ("Relu", "Clip")
    clamps: bool = False
    requantizes: tuple[str, ...] = ("Conv", "ConvTranspose", "Gemm")
    min_opset: int = 13
    slow: Slow = Slow()
    runtime: str = "onnxruntime"
    per_channel: bool = True
    symmetric: bool = False
    bias: BiasForm = "int32"
    emulates: tuple[CodeName, ...] = ("int4", "uint4", "int16", "uint16")
    expands: Literal["Cast", "DequantizeLinear"] = "Cast"
    dynamic: Mapping[str, str] = field(default_factory=dict)
    row_types: tuple[CodeName, ...] = ("int8", "uint8")
    block_lookup: Literal["", "GatherBlockQuantized"] = ""
    block_sizes: Mapping[CodeName, tuple[int, ...]] = field(default_factory=dict)
    calls: bool = True
    contrib: bool = True
    sizes: Sizes = "any"
    external: bool = True
    integer_time: float = 0.5
    crossing: float = 8.0
    overhead: float = 5000.0

    @property
    def weight_types(self) -> tuple[CodeName, ...]:
        """Codes of weights that any of its layers takes, those in floats last."""
        return self._any([rule.weight_types for rule in self._weighted()])

    @property
    def activation_types(self) -> tuple[CodeName, ...]:
        """Codes of activations that any of its layers takes, those in floats last."""
        return self._any([rule.activation_types for rule in self._weighted()])

    def refuses(self, rule: OpRule, weights: CodeName, activations: CodeName) -> bool:
        """Whether it can run a layer of these codes neither on integers nor in floats."""
        return not (
            weights in (*rule.weight_types, *self.emulates)
            and activations in (*rule.activation_types, *self.emulates)
        )

    def _weighted(self) -> list[OpRule]:
        return [rule for rule in self.rules.values() if rule.role == "weighted"]

    def _any(self, types: Sequence[tuple[CodeName, ...]]) -> tuple[CodeName, ...]:
        emulated = [self.emulates] if types else []
        return tuple(dict.fromkeys(code for each in (*types, *emulated) for code in each))
