"""What the author of a pass outside this package needs; ``docs/passes.md`` shows its use.

A distribution brings its passes as entry points of the group ``graphopt.passes``, each the module
or the class that registers one.
"""

from __future__ import annotations

from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import (
    CalibrationSamples,
    MinOpset,
    Precondition,
    TrainingSamples,
    Unquantized,
    When,
)
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import attribute, is_op, label
from graphopt.passes.foreign import Foreign

__all__ = [
    "CalibrationSamples",
    "Changes",
    "Constant",
    "Context",
    "Foreign",
    "Graph",
    "MinOpset",
    "Option",
    "Pass",
    "PassError",
    "Precondition",
    "Scope",
    "TrainingSamples",
    "Unquantized",
    "When",
    "attribute",
    "is_op",
    "label",
    "register",
]
