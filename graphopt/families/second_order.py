"""What calibration samples tell of the weights of a layer that is to lose some of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from graphopt.contract.passes import Context, MeanSquare, RowMoments, body_reason
from graphopt.facts.layers import Refusal
from graphopt.facts.weights import WeightGroup
from graphopt.families.padding import RealRows
from graphopt.families.refitting.blocks import blocks_of, from_blocks
from graphopt.families.refitting.fit import Fit
from graphopt.families.refitting.solvable import SolvableLayer, refit_refusal
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics.removal import damped, second_order_mask
from graphopt.numerics.scores import AskedZeros, Mask

__all__ = ["input_scores", "remove_weights", "unseen_reasons"]

Floats = NDArray[np.float64]

_ROUNDS = 3
"""Solutions behind a function that is flat."""


def unseen_reasons(
    context: Context, groups: Sequence[WeightGroup], samples: int, *, scored: bool
) -> dict[str, str]:
    """By name of the weights of which samples tell nothing, why that is so.

    Args:
        context: Has the samples.
        groups: Weights that are to lose elements.
        samples: How many to look at.
        scored: Whether ``input_scores`` is to be asked of them.
    """
    found = {group.name: _unseen(group) for group in groups}
    seen = [group for group in groups if not found[group.name]] if scored else []
    requests = [_powers(group) for group in seen]
    answers = context.observe(requests, limit=samples)
    for group, request in zip(seen, requests, strict=True):
        failure = answers.failure(request)
        found[group.name] = "" if failure is None else str(failure)
    return {name: reason for name, reason in found.items() if reason}


def _unseen(group: WeightGroup) -> str:
    one = group.layers[0]
    if one.scope.parent is not None:
        return body_reason(one.scope)
    refusal = refit_refusal(one)
    return "" if refusal is None else refusal.reason


def _powers(group: WeightGroup) -> MeanSquare:
    one = group.layers[0]
    return MeanSquare(one.data, 1 if one.kind == "conv" else -1)


def input_scores(
    graph: Graph, context: Context, groups: Sequence[WeightGroup], samples: int
) -> Iterator[Array]:
    """``w^2`` times the mean square of the input that it multiplies: what its output loses.

    Tokens of padding, by a mask among the inputs, do not count.

    Args:
        graph: The model.
        context: Has the samples.
        groups: Weights of which samples tell.
        samples: How many to look at.

    Yields:
        Scores in the layout in which the weight is stored.

    Source: Sun et al., A Simple and Effective Pruning Approach for Large Language Models (2024),
    equation 1 (Wanda), squared.
    """
    requests = [_powers(group) for group in groups]
    answers = context.observe(requests, limit=samples)
    rows = [RowMoments.of(group.layers[0]) for group in groups]
    asked = [each for each in rows if isinstance(each, RowMoments)]
    real = RealRows(graph, context, run_shapes(graph, context), samples).moments(asked)
    for group, request, row in zip(groups, requests, rows, strict=True):
        one = group.layers[0]
        weight = blocks_of(one, one.values().astype(np.float64))
        powers = answers[request].reshape(one.groups, -1)
        if isinstance(row, RowMoments) and row in real:
            powers = np.square(real[row].mean) + np.diagonal(real[row].covariance, 0, 1, 2)
        by_row = np.repeat(powers, weight.shape[1] // powers.shape[1], axis=1)
        yield one.weight.stored(from_blocks(one, weight**2 * by_row[:, :, None]))


def remove_weights(fit: Fit, zeros: AskedZeros, ridge: float) -> str | Refusal:
    """Set weights of a layer to zero and solve for the others; what came of it, in words.

    Args:
        fit: What the layer is solved by.
        zeros: What is to be zero.
        ridge: Pull towards the weights as they are, as a share of the mean square of the input.
    """
    biased = fit.of.biased
    everything = np.ones(fit.weight.shape, np.bool_)
    dense = fit.solved(ridge, 0, everything, biased=biased).weight
    keep = _kept(fit, dense, zeros, ridge)
    solved = fit.solved(ridge, _ROUNDS, keep, biased=biased)
    refusal = fit.of.store(solved.weight, solved.bias if biased else None)
    return refusal or f"error of its result {fit.error(solved.weight, solved.bias):.2%}"


def _kept(fit: Fit, dense: Floats, zeros: AskedZeros, ridge: float) -> Mask:
    """What stays, ``(groups, width, out)``, of the weights that would be best without zeros."""
    groups, width, _ = dense.shape
    mean, gram = fit.moments.mean, fit.moments.covariance
    if not fit.of.biased:
        gram = gram + mean[:, :, None] * mean[:, None, :]
    gram = np.stack([damped(each, ridge) for each in gram])
    # blocks and patterns count neighbouring channels at the same place of the kernel
    assert isinstance(fit.of, SolvableLayer)
    channels = fit.of.layer.in_channels // groups
    order = np.arange(width).reshape(channels, -1).T.ravel()
    found = second_order_mask(
        dense.transpose(0, 2, 1)[:, :, order],
        gram[:, order][:, :, order],
        zeros,
        (fit.weight == 0).transpose(0, 2, 1)[:, :, order],
    )
    keep = np.empty(dense.shape, np.bool_)
    keep[:, order] = found.transpose(0, 2, 1)
    return keep
