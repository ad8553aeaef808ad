"""Passes that take weights away."""

from graphopt.passes.prune.mask_weights import MaskWeights

__all__ = ["MaskWeights"]
