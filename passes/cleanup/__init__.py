"""Lossless clean-up, on the house's own graph.

Why not a library: over 155 models (six convolutional nets and those that come with onnx 1.23, given
doc strings and metadata) onnxscript.optimizer 0.7.2 kept the metadata, but made 139 files larger, 2
invalid, and left the 35 BatchNormalization of a model whose initializers are listed as inputs.
onnxslim 0.1.98 lost metadata on the 43 that it finished; why it raised on the others was not
traced, so that may be due to how it was called. Measured once, by hand.
"""

from graphopt.passes.cleanup.convert_einsum import ConvertEinsum
from graphopt.passes.cleanup.convert_to_float32 import ConvertToFloat32
from graphopt.passes.cleanup.deduplicate_initializers import DeduplicateInitializers
from graphopt.passes.cleanup.densify import Densify
from graphopt.passes.cleanup.eliminate_dead import EliminateDead
from graphopt.passes.cleanup.eliminate_identity import EliminateIdentity
from graphopt.passes.cleanup.fix_shapes import FixShapes
from graphopt.passes.cleanup.fold_constants import FoldConstants
from graphopt.passes.cleanup.freeze_initializers import FreezeInitializers
from graphopt.passes.cleanup.fuse_activations import FuseActivations
from graphopt.passes.cleanup.fuse_batchnorm import FuseBatchnorm
from graphopt.passes.cleanup.inline_functions import InlineFunctions
from graphopt.passes.cleanup.strip_metadata import StripMetadata
from graphopt.passes.cleanup.upgrade_opset import UpgradeOpset

__all__ = [
    "ConvertEinsum",
    "ConvertToFloat32",
    "DeduplicateInitializers",
    "Densify",
    "EliminateDead",
    "EliminateIdentity",
    "FixShapes",
    "FoldConstants",
    "FreezeInitializers",
    "FuseActivations",
    "FuseBatchnorm",
    "InlineFunctions",
    "StripMetadata",
    "UpgradeOpset",
]
