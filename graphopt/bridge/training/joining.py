"""Whether samples may go through a model together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from graphopt.bridge.module import GraphModule
from graphopt.bridge.training.objective import on_device
from graphopt.data.inputs import model_inputs
from graphopt.data.staged import StagedGroup, StagedSamples
from graphopt.errors import ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

__all__ = ["joinable"]

_CPU = torch.device("cpu")
_APART = 0.05
_ROUNDING = 1e-5
_FEEDS = 256


def joinable(module: GraphModule, student: Graph, data: StagedSamples) -> frozenset[str] | None:
    """The inputs that are joined along their first axis; None where samples must go one by one.

    A file may fix its batch to 1 although its nodes do not care, or leave it free although one of
    them reshapes to a fixed batch: two samples together must give what each gives alone.

    Args:
        module: Computes ``student``; left in evaluation mode, on the CPU.
        student: The model.
        data: The samples.
    """
    inputs = {each.name: each for each in model_inputs(student)}
    group = max(data.groups, key=len)
    if group.per_feed != 1 or len(group) < 2:
        return None
    moving = [name for name, column in group.columns.items() if column.shape]
    free = [name for name in moving if inputs[name].batch is None]
    names = frozenset(free or moving)
    shared = frozenset(group.columns) - names
    if not all(_same_for_all(data, name) for name in shared):
        return None
    return names if _alike_together(module, group, names) else None


def _same_for_all(data: StagedSamples, name: str) -> bool:
    first = data.groups[0].take([0])[name]
    return all(
        np.array_equal(np.broadcast_to(first, values.shape), values)
        for group in data.groups
        if group.columns[name] == data.groups[0].columns[name]
        for start in range(0, len(group), _FEEDS)
        for values in [group.take(range(start, min(len(group), start + _FEEDS)))[name]]
    )


def _alike_together(module: GraphModule, group: StagedGroup, names: frozenset[str]) -> bool:
    """Whether two samples together differ from each alone by less than from each other."""
    pair = group.take([0, 1])
    module.eval()
    with torch.no_grad():
        alone = [
            module(on_device({n: a[row, ...] for n, a in pair.items()}, _CPU)) for row in (0, 1)
        ]
        try:
            together = module(on_device(_joined(pair, names), _CPU))
        except ModelError:
            return False
    return all(_near(values, [each[name] for each in alone]) for name, values in together.items())


def _joined(pair: dict[str, Array], names: frozenset[str]) -> dict[str, Array]:
    return {n: np.concatenate([*a]) if n in names else a[0, ...] for n, a in pair.items()}


def _near(together: Tensor, alone: list[Tensor]) -> bool:
    wanted = torch.cat(alone) if together.dim() else alone[0]
    if wanted.shape != together.shape:
        return False
    first, second = (each.double() for each in alone)
    error = (together.double() - wanted.double()).norm()
    apart = (first - second).norm() if first.shape == second.shape else torch.tensor(0.0)
    return bool(error <= max(_ROUNDING * wanted.double().norm(), _APART * apart))
