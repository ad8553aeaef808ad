"""A graph made ready for training, and the way back into the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx import NodeProto

from graphopt.bridge.chosen import weights_of
from graphopt.bridge.inserted_norm import InsertedNorm, fold_norms, insert_norms, set_moments
from graphopt.bridge.module import GraphModule
from graphopt.bridge.moments import moments
from graphopt.bridge.to_torch import to_torch
from graphopt.bridge.write_back import write_back
from graphopt.data.samples import Samples
from graphopt.errors import PassError
from graphopt.graph.graph import Graph

__all__ = ["Trainee", "trainee"]


@dataclass(frozen=True)
class Trainee:
    """A graph made ready for training.

    Attributes:
        module: Computes ``graph``.
        graph: The graph to train, or a copy of it with normalizations in it.
        norms: Those normalizations.
    """

    module: GraphModule
    graph: Graph
    norms: Sequence[InsertedNorm] = ()

    def write_back(self, graph: Graph) -> list[str]:
        """Put what was trained into ``graph``; gives the names of the constants that changed."""
        if not self.norms:
            return write_back(self.module, graph)
        write_back(self.module, self.graph)
        return fold_norms(self.graph, self.norms, graph)


def trainee(
    graph: Graph,
    chosen: Callable[[NodeProto], bool],
    samples: Samples,
    *,
    batch_norm: Literal["batch", "frozen", "insert"],
    dropout: bool = False,
    frozen: Sequence[str] = (),
) -> Trainee:
    """The graph as a module, with the weights of the chosen nodes as its parameters.

    Args:
        graph: Stays as it is until ``write_back``.
        chosen: Whether a node's weights are trained.
        samples: What inserted normalizations take their first moments from.
        batch_norm: What BatchNormalization does in training: take the statistics of the batch, or
            the stored ones; ``insert`` also gives one to each Conv that an exporter folded it into.
        dropout: Whether Dropout drops anything.
        frozen: Tensors up to which onnxruntime computes.

    Raises:
        ModelError: A node cannot be computed in torch; the message names it.
        PassError: There is no Conv that a normalization could be inserted behind.
        UsageError: A frozen tensor does not exist.
    """
    if batch_norm != "insert":
        module = to_torch(
            graph,
            batch_norm=batch_norm,
            dropout=dropout,
            trainable=weights_of(graph, chosen),
            frozen=frozen,
        )
        return Trainee(module, graph)
    copy = graph.copy()
    norms = insert_norms(copy)
    if not norms:
        raise PassError(
            "batch_norm=insert finds no Conv with a bias and without BatchNormalization; "
            "take batch or frozen"
        )
    trained = weights_of(graph, chosen)
    trained += [name for norm in norms for name in norm.constants[:2]]
    plain = to_torch(copy, frozen=frozen)
    set_moments(copy, norms, moments(plain, [norm.data for norm in norms], samples))
    module = to_torch(copy, batch_norm="batch", dropout=dropout, trainable=trained, frozen=frozen)
    return Trainee(module, copy, norms)
