"""An ONNX graph as a torch module that can be trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from graphopt.bridge.frozen import FrozenPart, nodes_after, read_by
from graphopt.bridge.functions import without_functions
from graphopt.bridge.module import GraphModule
from graphopt.bridge.names import constants
from graphopt.bridge.ops.table import TrainingSettings
from graphopt.bridge.plan import Substitute
from graphopt.bridge.planner import PlanRequest, make_plan
from graphopt.bridge.roles import roles
from graphopt.bridge.tensors import FLOATS
from graphopt.errors import UsageError
from graphopt.graph.graph import Graph

__all__ = ["to_torch"]


def to_torch(
    graph: Graph,
    *,
    batch_norm: Literal["batch", "frozen"] = "batch",
    dropout: bool = False,
    trainable: Collection[str] | None = None,
    substitutes: Mapping[str, Substitute] | None = None,
    frozen: Sequence[str] = (),
) -> GraphModule:
    """A module that computes what ``graph`` computes, node by node; it is in evaluation mode.

    Args:
        graph: The model, opset 7 or later; it stays as it is.
        batch_norm: What BatchNormalization does in training mode: take the statistics of the
            batch and move the stored ones, or take the stored ones.
        dropout: Whether Dropout drops anything in training mode.
        trainable: Float constants that become parameters; by default those whose readers use
            them as weights (``roles``). Names as in the file; tensors of a body have the owner
            and its attribute in front, as ``owner.then_branch/name``.
        substitutes: Modules that stand for tensors of the main graph, by their names.
        frozen: Tensors of the main graph that onnxruntime computes, so that what comes before
            them is not trained and may hold operators that the bridge lacks.

    Raises:
        ModelError: A node cannot be computed in torch; the message names it.
        UsageError: A name is unknown, or no float constant.
    """
    found = roles(graph)
    weights = found.weights if trainable is None else list(trainable)
    _check(graph, weights)
    flat = without_functions(graph)
    nodes = nodes_after(flat, frozen)
    planned = {id(node) for node in nodes}
    untouched = read_by(flat, [node for node in flat.main.nodes if id(node) not in planned])
    settings = TrainingSettings(training=False, batch_norm=batch_norm, dropout=dropout)
    made = make_plan(
        PlanRequest(
            flat,
            nodes,
            settings,
            frozenset(weights) - untouched,
            frozenset(found.statistics) - frozenset(weights) - untouched,
            substitutes or {},
            tuple(frozen),
        )
    )
    for name in substitutes or {}:
        if name not in made.tensors:
            raise UsageError(f"the main graph has no tensor {name!r} to be replaced")
    return GraphModule(
        made, settings, graph.main.outputs, FrozenPart(flat, frozen) if frozen else None
    )


def _check(graph: Graph, weights: Collection[str]) -> None:
    known = constants(graph)
    for name in weights:
        if name not in known:
            raise UsageError(f"the model has no constant {name!r} to be trained")
        if known[name].data_type not in FLOATS:
            raise UsageError(f"constant {name!r} is no float tensor and cannot be trained")
