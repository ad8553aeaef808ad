"""Losses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.table import op

_NEVER = -(2**31)


@op("NegativeLogLikelihoodLoss", 12, 13, 22)
def negative_log_likelihood_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = _NEVER,
    reduction: str = "mean",
) -> Tensor:
    """NegativeLogLikelihoodLoss-22; classes along axis 1."""
    return functional.nll_loss(
        x, target.long(), weight, ignore_index=ignore_index, reduction=reduction
    )


@op("SoftmaxCrossEntropyLoss", 12, 13)
def softmax_cross_entropy_loss(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    outputs: int,
    ignore_index: int = _NEVER,
    reduction: str = "mean",
) -> Tensor | tuple[Tensor, Tensor]:
    """SoftmaxCrossEntropyLoss-13, and the logarithms of the shares if asked."""
    shares = torch.log_softmax(scores, 1)
    loss = negative_log_likelihood_loss(
        shares, labels, weights, ignore_index=ignore_index, reduction=reduction
    )
    return loss if outputs == 1 else (loss, shares)
