"""Axes of If, Loop and Scan: what goes into a body and comes out of it."""

from __future__ import annotations

from dataclasses import replace

from graphopt.facts.axes import Axes, Nest, Shape, Unknown
from graphopt.facts.axis_rules import Call, Draft

__all__ = ["branches", "loop", "scan"]

_COUNTED = "the rounds of a loop go over it"
_CHANGES = "its size changes from round to round"


def branches(call: Call) -> Nest:
    """If: each result is that of either branch."""
    draft = Draft(call)
    for index, shape in enumerate(call.outputs):
        if shape is not None:
            draft.set_output(index, draft.each(shape))
    results = tuple(draft.outputs)
    return replace(
        draft.done(), bodies=dict.fromkeys(("then_branch", "else_branch"), ((), results))
    )


def _carried(draft: Draft, index: int, output: int) -> Axes | None:
    """A state that goes from round to round: the same axes in all places."""
    before, after = draft.call.inputs[index], draft.call.outputs[output]
    if before is None or after is None or len(before) != len(after):
        return None
    axes = [
        draft.loop(size, why="" if size == new and size is not None else _CHANGES)
        for size, new in zip(before, after, strict=True)
    ]
    draft.set_input(index, axes)
    draft.set_output(output, axes)
    return tuple(axes)


def _stacked(draft: Draft, shape: Shape | None, at: int) -> tuple[Axes | None, Axes | None]:
    """Axes of a tensor that has one slice a round, and of the slice."""
    if shape is None or not shape:
        return None, None
    axes = draft.each(shape)
    at %= len(shape)
    draft.fix(axes[at], _COUNTED)
    return tuple(axes), (*axes[:at], *axes[at + 1 :])


def loop(call: Call) -> Nest:
    """Loop: states, then results that are stacked along a new first axis."""
    draft = Draft(call)
    states = len(call.inputs) - 2
    inner = [_carried(draft, 2 + k, k) for k in range(states)]
    slices: list[Axes | None] = []
    for index in range(states, len(call.outputs)):
        whole, part = _stacked(draft, call.outputs[index], 0)
        draft.set_output(index, whole)
        slices.append(part)
    body = ((None, None, *inner), (None, *inner, *slices))
    return replace(draft.done(), bodies={"body": body})


def scan(call: Call) -> Nest:
    """Scan: states, inputs of which each round reads a slice, results stacked likewise."""
    draft = Draft(call)
    read = call.attribute("num_scan_inputs", 1)
    states = len(call.inputs) - read
    if not 0 <= states <= len(call.inputs):
        raise Unknown(f"it has {len(call.inputs)} inputs and reads {read} in slices")
    inner = [_carried(draft, k, k) for k in range(states)]
    taken: list[Axes | None] = []
    given: list[Axes | None] = []
    numbers = call.attribute("scan_input_axes", []) or [0] * read
    for index, at in enumerate(numbers, states):
        whole, part = _stacked(draft, call.inputs[index], at)
        draft.set_input(index, whole)
        taken.append(part)
    numbers = call.attribute("scan_output_axes", []) or [0] * (len(call.outputs) - states)
    for index, at in enumerate(numbers, states):
        whole, part = _stacked(draft, call.outputs[index], at)
        draft.set_output(index, whole)
        given.append(part)
    body = ((*inner, *taken), (*inner, *given))
    return replace(draft.done(), bodies={"body": body})
