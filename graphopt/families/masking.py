"""What passes have in common that set weights to zero one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from graphopt.contract.passes import Changes, Context, Missed, missed_budget
from graphopt.contract.taken import LayerZeros
from graphopt.errors import PassError
from graphopt.facts.operators import TRAINED
from graphopt.facts.weights import WeightGroup, weight_groups
from graphopt.families.training import require_torch
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics import scores
from graphopt.numerics.scores import AskedZeros, Pattern

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = [
    "arranged",
    "arranged_back",
    "gradient_scores",
    "has_zeros",
    "held_values",
    "input_axis",
    "missed_zeros",
    "note_zeros",
    "prunable",
    "reached",
    "zero_share",
    "zeros_in",
    "zeros_of",
]


def prunable(
    graph: Graph,
    chosen: Callable[[NodeProto], bool],
    min_size: int,
    zeros: AskedZeros,
    changes: Changes,
) -> list[WeightGroup]:
    """Weights of the chosen nodes that may lose elements; the reasons of the others are noted."""
    found = []
    for group in weight_groups(graph, chosen, TRAINED):
        if refusal := group.refusal(min_size):
            changes.skip(refusal)
        elif np.isnan(group.constant.values).any():
            changes.skip(group.name, "its weight holds NaN")
        elif reason := _undivided(group, zeros):
            changes.skip(group.name, reason)
        else:
            found.append(group)
    return found


def missed_zeros(
    graph: Graph,
    chosen: Callable[[NodeProto], bool],
    zeros: AskedZeros,
    masked: Sequence[WeightGroup],
    spared: Callable[[WeightGroup], bool],
) -> Missed | None:
    """The share of zeros, where some weights that were to have them could not get theirs.

    Args:
        graph: The model with its zeros.
        chosen: The nodes whose weights were to.
        zeros: What was asked.
        masked: The weights that got theirs.
        spared: Weights that were not to after all.
    """
    got = {group.constant.origin for group in masked}
    groups = [each for each in weight_groups(graph, chosen, TRAINED) if not spared(each)]
    stay = sum(each.constant.origin not in got for each in groups)
    if not stay:
        return None  # what is missing is the rounding to whole weights
    asked = zeros.sparsity if zeros.pattern is None else zeros.pattern.sparsity
    reason = "1 weight stays as it was" if stay == 1 else f"{stay} weights stay as they were"
    return missed_budget("sparsity", asked, zero_share(groups), reason, least=True)


def zero_share(groups: Sequence[WeightGroup]) -> float:
    """Share of zeros among weights as they are in the graph now, at least one."""
    size = sum(math.prod(each.constant.shape) for each in groups)
    return 1 - sum(int(np.count_nonzero(held_values(each))) for each in groups) / size


def _undivided(group: WeightGroup, zeros: AskedZeros) -> str:
    """Why blocks or groups of the pattern do not divide a weight; empty where they do."""
    one, shape = group.layers[0], group.constant.shape
    outputs, inputs = zeros.block
    inputs = inputs if zeros.pattern is None else zeros.pattern.group
    if shape[one.in_axis] % inputs:
        return f"{shape[one.in_axis]} inputs are no multiple of {inputs}"
    each = shape[one.out_axis] // one.groups_in
    return f"{each} outputs are no multiple of {outputs}" if each % outputs else ""


def arranged(group: WeightGroup, values: Array) -> Array:
    """What is laid out as the weight is, as ``(out, ..., in)``."""
    one = group.layers[0]
    return np.moveaxis(values, (one.out_axis, one.in_axis), (0, -1))


def arranged_back(group: WeightGroup, values: Array) -> Array:
    """The other way round."""
    one = group.layers[0]
    return np.ascontiguousarray(np.moveaxis(values, (0, -1), (one.out_axis, one.in_axis)))


def held_values(group: WeightGroup) -> Array:
    """The weight as it is in the graph now."""
    constant = group.constant.scope.constant(group.constant.origin)
    assert constant is not None
    return constant.values


def has_zeros(group: WeightGroup, zeros: AskedZeros) -> bool:
    """Whether a weight has the zeros already that it is to have."""
    values = group.constant.values
    present = arranged(group, (values != 0).astype(np.float32))
    blocks = scores.block_sums(present, zeros.block)
    return not blocks[~zeros.keep(blocks)].any()


def input_axis(group: WeightGroup) -> int:
    """The axis along which an N:M pattern has its groups."""
    return group.layers[0].in_axis


def zeros_of(values: Array) -> str:
    """How many of a weight's elements are zero, in words."""
    share = 1 - np.count_nonzero(values) / values.size
    return f"{share:.1%} of {values.size} weights are zero"


def zeros_in(values: Array) -> int:
    """How many elements are zero."""
    return values.size - int(np.count_nonzero(values))


def note_zeros(changes: Changes, group: WeightGroup, before: int, values: Array) -> None:
    """Note how many elements of a weight were zero before, and how many of its values are."""
    changes.taken.zeros.append(LayerZeros(group.name, values.size, before, zeros_in(values)))


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
