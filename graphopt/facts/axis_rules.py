"""What the rule of an operator is: it gets a call and drafts the nest of its axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto

from graphopt.facts.axes import Axes, Axis, Nest, Piece, Shape, Unknown, loops_of
from graphopt.facts.shapes import Dim
from graphopt.graph.node import attribute
from graphopt.graph.tensors import Array

__all__ = ["AxisRule", "Call", "Draft", "opaque"]

_APART = "its elements are not told apart"


@dataclass(frozen=True)
class Call:
    """A node with what is known of its operands.

    Attributes:
        node: The node.
        inputs: Shapes of its inputs; None where absent or of unknown rank.
        outputs: Shapes of its outputs, likewise.
        constant: The value of an input by its index; None where it is computed.
        opset: Version of the node's domain.
    """

    node: NodeProto
    inputs: tuple[Shape | None, ...]
    outputs: tuple[Shape | None, ...]
    constant: Callable[[int], Array | None]
    opset: int

    def has(self, index: int) -> bool:
        """Whether the node reads an input at ``index``."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def attribute(self, name: str, default: Any) -> Any:
        """Value of an attribute, or ``default``."""
        return attribute(self.node, name, default)

    def shape(self, index: int = 0) -> Shape:
        """Shape of an input.

        Raises:
            Unknown: Its rank is not known.
        """
        shape = self.inputs[index] if index < len(self.inputs) else None
        if shape is None:
            raise Unknown("the rank of its input is not known")
        return shape

    def result(self, index: int = 0) -> Shape:
        """Shape of an output.

        Raises:
            Unknown: Its rank is not known.
        """
        shape = self.outputs[index]
        if shape is None:
            raise Unknown("the rank of its result is not known")
        return shape

    def where(self, name: str, index: int) -> str | int:
        """Whether an attribute or an input of that meaning is there; the input if neither."""
        return name if any(item.name == name for item in self.node.attribute) else index

    def integers(self, name: str, index: int) -> list[int] | None:
        """What older versions say by an attribute and newer ones by an input; None if neither.

        Raises:
            Unknown: It is computed.
        """
        if self.where(name, index) == name:
            return list(self.attribute(name, []))
        if not self.has(index):
            return None
        values = self.constant(index)
        if values is None:
            raise Unknown(f"its {name} are computed")
        return [int(value) for value in values.reshape(-1)]


AxisRule = Callable[[Call], Nest]


class Draft:
    """A nest in the making: the rule of an operator sets what it knows, the rest is fixed."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.sizes: dict[str, Dim] = {}
        self.fixed: dict[str, str] = {}
        self.counts: dict[str | int, tuple[Axis, ...]] = {}
        self.inputs: list[Axes | None] = [None] * len(call.inputs)
        self.outputs: list[Axes | None] = [None] * len(call.outputs)
        self.picks: int | None = None

    def loop(self, size: Dim, name: str = "loop", why: str = "") -> Axis:
        """An axis that runs through a new loop; fixed where ``why`` says a reason."""
        base, count = name, 0
        while name in self.sizes:
            count += 1
            name = f"{base}_{count}"
        self.sizes[name] = size
        if why:
            self.fixed[name] = why
        return (Piece((name,)),)

    def each(self, shape: Sequence[Dim], why: str = "") -> list[Axis]:
        """A new loop for each axis of a shape."""
        return [self.loop(size, why=why) for size in shape]

    def fix(self, axis: Axis, why: str) -> Axis:
        """The same axis, none of whose loops can lose a value any more."""
        self.fixed.update({loop: why for loop in loops_of(axis) if loop not in self.fixed})
        return axis

    def set_input(self, index: int, axes: Sequence[Axis] | None) -> None:
        """Say the axes of an input, if the node has it and they are known."""
        if axes is not None and index < len(self.inputs) and self.call.has(index):
            self.inputs[index] = tuple(axes)

    def set_output(self, index: int, axes: Sequence[Axis] | None) -> None:
        """Say the axes of an output, if the node has it and they are known."""
        if axes is not None and index < len(self.outputs) and self.call.node.output[index]:
            self.outputs[index] = tuple(axes)

    def done(self) -> Nest:
        """The nest; axes that nobody spoke of get fixed loops of their own."""
        for known, shapes in ((self.inputs, self.call.inputs), (self.outputs, self.call.outputs)):
            for index, shape in enumerate(shapes):
                if known[index] is None and shape is not None:
                    known[index] = tuple(self.each(shape, _APART))
        return Nest(
            self.sizes,
            tuple(self.inputs),
            tuple(self.outputs),
            self.fixed,
            self.counts,
            self.picks,
        )


def opaque(why: str) -> AxisRule:
    """Axes of which nothing is known but the reason."""

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        for set_, shapes in ((draft.set_input, call.inputs), (draft.set_output, call.outputs)):
            for index, shape in enumerate(shapes):
                set_(index, None if shape is None else draft.each(shape, why))
        return draft.done()

    return rule
