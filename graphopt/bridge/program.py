"""What a module runs: steps over numbered values, each freed after its last reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from graphopt.errors import ModelError

__all__ = ["NOTHING", "Body", "Known", "Program", "Step", "Values", "needed", "run", "with_frees"]

NOTHING = 0
"""The slot of inputs that are left out, and of outputs that nobody named."""

Values = list[Any]
_FAULTS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, ZeroDivisionError)


class Known(IntEnum):
    """When something is known, from early to late."""

    CONSTANT = 0
    BY_SHAPES = 1
    BY_DATA = 2


@dataclass(frozen=True, eq=False)
class Step:
    """One node: a function that reads values and writes values.

    Attributes:
        label: The node, for messages.
        function: Called with the inputs in order; gives one tensor or several.
        inputs: Slots that it reads.
        outputs: Slots that it writes.
        known: What its results depend on.
        bodies: Graphs that it runs, by the name of their attribute.
    """

    label: str
    function: Callable[..., Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    known: Known
    bodies: Mapping[str, Body] = field(default_factory=dict)

    def reads(self) -> set[int]:
        """All slots that the step or its bodies read."""
        found = set(self.inputs)
        for body in self.bodies.values():
            found.update(body.outputs)
            for step in body.steps:
                found |= step.reads()
        return found

    def run(self, values: Values) -> None:
        """Compute the outputs into ``values``.

        Raises:
            ModelError: The function refuses its inputs; the message names the node.
        """
        arguments = [values[slot] for slot in self.inputs]
        try:
            if self.bodies:
                bound = {name: body.bound(values) for name, body in self.bodies.items()}
                result = self.function(*arguments, **bound)
            else:
                result = self.function(*arguments)
        except torch.OutOfMemoryError:
            raise
        except _FAULTS as err:
            reason = " ".join(str(err).split())
            raise ModelError(f"node {self.label} cannot be computed in torch: {reason}") from err
        if isinstance(result, Tensor):
            values[self.outputs[0]] = result
        else:
            for slot, value in zip(self.outputs, result, strict=False):
                values[slot] = value
        values[NOTHING] = None


Program = list[tuple[Step, tuple[int, ...]]]
"""Steps in order, each with the slots that nobody reads after it."""


@dataclass(frozen=True, eq=False)
class Body:
    """The graph inside an If, Loop or Scan; it works on the same values as what is around it."""

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def bound(self, values: Values) -> Callable[..., tuple[Tensor, ...]]:
        """The body as a function of its inputs."""

        def call(*arguments: Tensor) -> tuple[Tensor, ...]:
            for slot, argument in zip(self.inputs, arguments, strict=True):
                values[slot] = argument
            for step in self.steps:
                step.run(values)
            return tuple(values[slot] for slot in self.outputs)

        return call


def needed(steps: Iterable[Step], outputs: Iterable[int], sources: Mapping[int, int]) -> list[Step]:
    """The steps that ``outputs`` depend on, in order.

    Args:
        steps: All steps.
        outputs: Slots that are asked for.
        sources: For slots that are copies, the slots they are copied from.
    """
    wanted = set(outputs)
    kept: list[Step] = []
    for step in reversed(list(steps)):
        if not wanted.isdisjoint(step.outputs):
            kept.append(step)
            wanted.update(sources.get(slot, slot) for slot in step.reads())
            wanted.discard(NOTHING)
    return kept[::-1]


def with_frees(steps: list[Step], kept: Iterable[int]) -> Program:
    """Each step with the slots that nobody reads after it; never those in ``kept``."""
    seen = {NOTHING, *kept}
    paired: Program = []
    for step in reversed(steps):
        last = (step.reads() | set(step.outputs)) - seen
        seen |= last
        paired.append((step, tuple(sorted(last))))
    return paired[::-1]


def run(program: Program, values: Values) -> None:
    """Run steps in order and free what is not read any more."""
    for step, frees in program:
        step.run(values)
        for slot in frees:
            values[slot] = None
