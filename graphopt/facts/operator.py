"""What a row of the table of operators says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from graphopt.facts.axis_rules import AxisRule
from graphopt.facts.flats import FlatRule

__all__ = ["CONTRIB", "Kind", "Operator", "rows"]

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

Kind = Literal[
    "product",
    "convolution",
    "recurrent",
    "attention",
    "elementwise",
    "cast",
    "view",
    "permute",
    "repeat",
    "select",
    "join",
    "normalize",
    "softmax",
    "reduce",
    "order",
    "pool",
    "resize",
    "signal",
    "quantize",
    "integer",
    "make",
    "measure",
    "loss",
    "control",
    "sequence",
    "text",
]
"""``view`` keeps the order of the elements, ``permute`` changes it, ``repeat`` copies elements,
``select`` takes some or puts constants around them, ``join`` takes them from several inputs;
``quantize`` goes between floats and codes, ``integer`` computes on codes by its definition;
``make`` has results that no float input decides, ``measure`` gives shapes and sizes."""


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: Its type.
        kind: What it does to values.
        axes: How each axis of each output follows from the inputs.
        domain: Empty for ONNX's own.
        data: Inputs that carry the values it works on; None: all. Others are parameters, sizes,
            indices and bounds.
        weights: Inputs that hold what is trained, where they are constant floats.
        factors: The two inputs that are multiplied with each other, which is what MACs count.
        uncounted: It multiplies as well, and no rule says how often.
        codes: Of a quantizing or integer operator: inputs that hold values. Scales and zero
            points are none.
        zeros: Pairs of an input of codes and the input that holds its zero points.
        coded: Of an integer operator with a weight: which input it is, and its axes of outputs and
            inputs; ``transB`` swaps them.
        exact: Its result is the same, bit by bit, on every runtime.
        random: Its result is drawn.
        sized_by_values: How large its result is depends on values, not on shapes alone.
        homogeneous: f(a x) = a f(x) for every a > 0.
        adds: It adds its inputs up.
        skips: The two inputs that it adds up before it does anything else.
        scales: Of a normalization of the last axis: the inputs that scale and shift its first
            result.
        averages: Its result is the mean over positions that go.
        flat: Where a function of one value does not tell its inputs apart; None for nowhere.
        fuses: Passes and runtimes merge it into the layer in front.
        packed: Input of codes of which there are several in a byte, by its attribute ``bits``.
        looks_up: It picks rows of its weight, and multiplies by none.
        recurrent: It goes step by step over time, with a second weight for what it hands on.
        weights_only: Of an integer operator: it reads and gives floats, only its weight is codes.
        same_name: It has this type whether it computes on floats or on integers.
    """

    name: str
    kind: Kind
    axes: AxisRule
    domain: str = ""
    data: tuple[int, ...] | None = (0,)
    weights: tuple[int, ...] = ()
    factors: tuple[int, int] | None = None
    uncounted: bool = False
    codes: tuple[int, ...] = ()
    zeros: tuple[tuple[int, int], ...] = ()
    coded: tuple[int, int, int] | None = None
    exact: bool = False
    random: bool = False
    sized_by_values: bool = False
    homogeneous: bool = False
    adds: bool = False
    skips: tuple[int, int] | None = None
    scales: tuple[int, ...] = ()
    averages: bool = False
    flat: FlatRule | None = None
    fuses: bool = False
    packed: int | None = None
    looks_up: bool = False
    recurrent: bool = False
    weights_only: bool = False
    same_name: bool = False

    @property
    def least(self) -> int:
        """Inputs that a node cannot do without: those that are multiplied."""
        weight = () if self.coded is None else (self.coded[0],)
        return 1 + max((*(self.factors or ()), *weight), default=-1)


def rows(names: str, kind: Kind, axes: AxisRule, **columns: Any) -> list[Operator]:
    """One row for each of the names, which have all else in common."""
    return [Operator(name, kind, axes, **columns) for name in names.split()]
