"""If, Loop and Scan: operators whose attributes are graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from graphopt.bridge.ops.arguments import positive
from graphopt.bridge.ops.table import op

Body = Callable[..., tuple[Tensor, ...]]
_RENEWED = (16, 19, 21, 23, 24, 25)


@op("If", 1, 11, 13, *_RENEWED, host=(0,))
def if_(condition: Tensor, *, then_branch: Body, else_branch: Body) -> tuple[Tensor, ...]:
    """If-25; where the condition is constant, the plan has put one branch in its place."""
    return then_branch() if bool(condition.item()) else else_branch()


@op("Loop", 1, 11, 13, *_RENEWED)
def loop(
    trips: Tensor | None, condition: Tensor | None, *carried: Tensor, body: Body, outputs: int
) -> tuple[Tensor, ...]:
    """Loop-25: what the body gives beyond the carried values is stacked over the rounds."""
    most = None if trips is None else int(trips.item())
    goes_on = condition is None or bool(condition.item())
    device = next((t.device for t in (*carried, trips, condition) if t is not None), None)
    state, stacked, count = carried, [], 0
    while goes_on and (most is None or count < most):
        now = torch.tensor(count, device=device)
        again, *found = body(now, torch.tensor(goes_on, device=device), *state)
        state = tuple(found[: len(carried)])
        stacked.append(found[len(carried) :])
        goes_on, count = condition is None or bool(again.item()), count + 1
    if not count and outputs > len(carried):
        raise ValueError("a loop without a round has nothing to stack")
    return *state, *(torch.stack(each) for each in zip(*stacked, strict=True))


@op("Scan", 9, 11, *_RENEWED)
def scan(
    *inputs: Tensor,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] = (),
    scan_input_directions: Sequence[int] = (),
    scan_output_axes: Sequence[int] = (),
    scan_output_directions: Sequence[int] = (),
) -> tuple[Tensor, ...]:
    """Scan-25."""
    first = len(inputs) - num_scan_inputs
    state, scanned = inputs[:first], inputs[first:]
    axes = list(scan_input_axes) or [0] * num_scan_inputs
    backwards = list(scan_input_directions) or [0] * num_scan_inputs
    columns = [
        list(each.unbind(axis))[:: -1 if back else 1]
        for each, axis, back in zip(scanned, axes, backwards, strict=True)
    ]
    stacked = []
    for row in zip(*columns, strict=True):
        found = body(*state, *row)
        state = found[:first]
        stacked.append(found[first:])
    outputs = [list(each) for each in zip(*stacked, strict=True)]
    out_axes = list(scan_output_axes) or [0] * len(outputs)
    out_backwards = list(scan_output_directions) or [0] * len(outputs)
    return *state, *(
        torch.stack(each[:: -1 if back else 1], positive(axis, each[0].dim() + 1))
        for each, axis, back in zip(outputs, out_axes, out_backwards, strict=True)
    )


@op("Scan", 8)
def scan_8(
    sequence_lens: Tensor | None,
    *inputs: Tensor,
    body: Body,
    num_scan_inputs: int,
    directions: Sequence[int] = (),
) -> tuple[Tensor, ...]:
    """Scan-8: over axis 1 of each sample of a batch along axis 0."""
    if sequence_lens is not None:
        raise ValueError("sequence lengths are not supported before opset 9")
    samples = [
        scan(*each, body=body, num_scan_inputs=num_scan_inputs, scan_input_directions=directions)
        for each in zip(*(i.unbind(0) for i in inputs), strict=True)
    ]
    return tuple(torch.stack(each) for each in zip(*samples, strict=True))
