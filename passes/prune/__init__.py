"""Passes that take weights away, and what makes up for it."""

from graphopt.passes.prune.drop_blocks import DropBlocks
from graphopt.passes.prune.mask_weights import MaskWeights
from graphopt.passes.prune.prune_channels import PruneChannels
from graphopt.passes.prune.reconstruct_weights import ReconstructWeights

__all__ = ["DropBlocks", "MaskWeights", "PruneChannels", "ReconstructWeights"]
