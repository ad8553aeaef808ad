"""The steps of a model, and what lies in which slot."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from graphopt.bridge.program import NOTHING, Step

__all__ = ["Plan", "Substitute"]


@dataclass(frozen=True)
class Substitute:
    """Something else that yields a tensor of the main graph: ``module(*tensors named here)``.

    What only served to compute the tensor before is not run any more. So a fake quantization may
    stand for a QuantizeLinear with its DequantizeLinear, reading what the pair reads.

    Attributes:
        module: Its parameters are trained with those of the graph.
        inputs: Tensors that it is called with; they must be computed before the one it replaces.
    """

    module: nn.Module
    inputs: tuple[str, ...] = ()


@dataclass
class Plan:
    """The steps of a model, and what lies in which slot.

    Attributes:
        slots: How many there are.
        steps: All steps in order; not all are needed for each output.
        inputs: Required inputs of the model.
        frozen: Slots of tensors that are handed in beside the inputs.
        tensors: Slots of the tensors of the main graph.
        weights: Slots of trainable constants by name, with their values.
        statistics: Slots of running statistics by name, with their values.
        constants: Other constants, on the CPU.
        moved: From slots on the CPU to slots of the same on the device.
        modules: Modules of the substitutes that are in use.
    """

    slots: int = NOTHING + 1
    steps: list[Step] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, int] = field(default_factory=dict)
    weights: dict[str, tuple[int, Tensor]] = field(default_factory=dict)
    statistics: dict[str, tuple[int, Tensor]] = field(default_factory=dict)
    constants: dict[int, Tensor] = field(default_factory=dict)
    moved: dict[int, int] = field(default_factory=dict)
    modules: list[nn.Module] = field(default_factory=list)

    def slot(self) -> int:
        """A slot that nobody has yet."""
        self.slots += 1
        return self.slots - 1
