"""What the author of a pass outside this package needs; ``docs/passes.md`` shows its use.

A distribution brings its passes as entry points of the group ``graphopt.passes``, each the module
or the class that registers one.
"""

from __future__ import annotations

from graphopt.contract.examples import Example
from graphopt.contract.passes import (
    Changes,
    ChannelAbsMax,
    ChannelMean,
    ChannelMin,
    Context,
    Gram,
    HistogramOf,
    MeanOutput,
    MeanSquare,
    MinMax,
    Option,
    Pass,
    RowMoments,
    SampledRows,
    Values,
)
from graphopt.contract.preconditions import (
    CalibrationSamples,
    FloatActivations,
    MinOpset,
    Precondition,
    TargetTakes,
    TimingSamples,
    TrainingSamples,
    Unquantized,
    When,
)
from graphopt.contract.registry import register
from graphopt.errors import Need, PassError
from graphopt.facts.layers import Layer, Refusal, layer, layers
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import attribute, is_op, label
from graphopt.observe.request import Folder, Request, Rows
from graphopt.observe.taps import Tap, TapNodes
from graphopt.passes.foreign import Foreign

__all__ = [
    "CalibrationSamples",
    "Changes",
    "ChannelAbsMax",
    "ChannelMean",
    "ChannelMin",
    "Constant",
    "Context",
    "Example",
    "FloatActivations",
    "Folder",
    "Foreign",
    "Gram",
    "Graph",
    "HistogramOf",
    "Layer",
    "MeanOutput",
    "MeanSquare",
    "MinMax",
    "MinOpset",
    "Need",
    "Option",
    "Pass",
    "PassError",
    "Precondition",
    "Refusal",
    "Request",
    "RowMoments",
    "Rows",
    "SampledRows",
    "Scope",
    "Tap",
    "TapNodes",
    "TargetTakes",
    "TimingSamples",
    "TrainingSamples",
    "Unquantized",
    "Values",
    "When",
    "attribute",
    "is_op",
    "label",
    "layer",
    "layers",
    "register",
]
