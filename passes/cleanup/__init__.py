"""Lossless clean-up."""

from graphopt.passes.cleanup.deduplicate_initializers import DeduplicateInitializers
from graphopt.passes.cleanup.eliminate_dead import EliminateDead
from graphopt.passes.cleanup.eliminate_identity import EliminateIdentity
from graphopt.passes.cleanup.fold_constants import FoldConstants
from graphopt.passes.cleanup.freeze_initializers import FreezeInitializers
from graphopt.passes.cleanup.fuse_batchnorm import FuseBatchnorm
from graphopt.passes.cleanup.upgrade_opset import UpgradeOpset

__all__ = [
    "DeduplicateInitializers",
    "EliminateDead",
    "EliminateIdentity",
    "FoldConstants",
    "FreezeInitializers",
    "FuseBatchnorm",
    "UpgradeOpset",
]
