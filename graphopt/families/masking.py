"""What passes have in common that set weights to zero one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from graphopt.contract.passes import Changes, Context
from graphopt.errors import PassError
from graphopt.facts.operators import TRAINED
from graphopt.facts.weights import WeightGroup, weight_groups
from graphopt.families.training import require_torch
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics import scores
from graphopt.numerics.scores import Pattern

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = [
    "gradient_scores",
    "input_axis",
    "prunable",
    "reached",
    "zeros_of",
]


def prunable(
    graph: Graph,
    chosen: Callable[[NodeProto], bool],
    min_size: int,
    pattern: Pattern | None,
    changes: Changes,
) -> list[WeightGroup]:
    """Weights of the chosen nodes that may lose elements; the reasons of the others are noted."""
    found = []
    for group in weight_groups(graph, chosen, TRAINED):
        width = group.constant.shape[input_axis(group)]
        if refusal := group.refusal(min_size):
            changes.skip(refusal)
        elif np.isnan(group.constant.values).any():
            changes.skip(group.name, "its weight holds NaN")
        elif pattern is not None and width % pattern.group:
            changes.skip(group.name, f"{width} inputs are no multiple of {pattern.group}")
        else:
            found.append(group)
    return found


def input_axis(group: WeightGroup) -> int:
    """The axis along which an N:M pattern has its groups."""
    return group.layers[0].in_axis


def zeros_of(values: Array) -> str:
    """How many of a weight's elements are zero, in words."""
    share = 1 - np.count_nonzero(values) / values.size
    return f"{share:.1%} of {values.size} weights are zero"


def reached(pool: Sequence[WeightGroup], sparsity: float, pattern: Pattern | None) -> bool:
    """Whether weights that compete have the zeros already that they are to have together."""
    if pattern is not None:
        return all(_fits(group.constant.values, pattern, input_axis(group)) for group in pool)
    size = sum(group.constant.values.size for group in pool)
    zeros = size - sum(np.count_nonzero(group.constant.values) for group in pool)
    return bool(zeros >= scores.zero_count(size, sparsity))


def _fits(values: Array, pattern: Pattern, axis: int) -> bool:
    keep = scores.pattern_mask(scores.magnitudes(values), pattern, axis)
    return not values[~keep].any()


def gradient_scores(
    graph: Graph,
    context: Context,
    groups: Sequence[WeightGroup],
    criterion: Literal["taylor", "snip"],
    name: str,
) -> list[Array]:
    """What a loss says of the elements of weights; see ``graphopt.bridge.training.importance``.

    Elements that are zero already score below all others.

    Args:
        graph: The model as it is.
        context: Has the samples.
        groups: The weights.
        criterion: How effects on the loss are added up.
        name: Of the pass, for messages.

    Raises:
        DataError: The labels fit no output.
        ModelError: A node cannot be computed in torch.
        PassError: No gradient arrives at a weight.
        SystemFailure: torch is missing.
    """
    assert context.training is not None, "a precondition"
    require_torch(f"{name} with criterion={criterion}")
    from graphopt.bridge.names import names_of  # noqa: PLC0415 - torch is heavy
    from graphopt.bridge.training.importance import importance_of  # noqa: PLC0415

    names = names_of(graph, [group.constant for group in groups])
    training = context.training
    wanted = [each for each in names if each is not None]
    found = (
        {}
        if not wanted
        else importance_of(
            graph,
            training.samples,
            criterion,
            wanted,
            seed=training.seed,
            threads=training.threads,
            words=training.tasks,
        )
    )
    ranks = []
    for group, each in zip(groups, names, strict=True):
        if each is None or each not in found:
            raise PassError(f"{name}: no gradient arrives at {group.name}; put it into exclude")
        ranks.append(np.where(group.constant.values == 0, -np.inf, found[each]))
    return ranks
