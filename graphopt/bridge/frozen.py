"""The first part of a model, run by onnxruntime where it need not be trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from onnx import NodeProto
from torch import Tensor

from graphopt.bridge.tensors import from_torch, to_tensor
from graphopt.errors import UsageError
from graphopt.graph.graph import Graph
from graphopt.graph.order import sorted_nodes
from graphopt.runtime.session import Session

__all__ = ["FrozenPart", "nodes_after", "read_by"]


class FrozenPart:
    """Tensors of a model computed by onnxruntime, on the CPU and without gradients.

    It takes as many threads as torch has now: of several processes each has its part of the cores.

    Args:
        graph: The model.
        names: The tensors, of its main graph.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """

    def __init__(self, graph: Graph, names: Sequence[str]) -> None:
        self._session = Session(graph, outputs=names, threads=torch.get_num_threads())

    def __deepcopy__(self, memo: dict[int, object]) -> FrozenPart:
        """Copies of a module share the session: nothing in it changes."""
        return self

    def __call__(self, feeds: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """The tensors for one feed, on ``device``.

        Raises:
            ModelError: The feed does not fit, or a node fails.
        """
        arrays = {name: from_torch(tensor) for name, tensor in feeds.items()}
        found = self._session.run(arrays)
        return {name: to_tensor(values).to(device) for name, values in found.items()}


def nodes_after(graph: Graph, frozen: Collection[str]) -> list[NodeProto]:
    """The nodes of the main graph that its outputs need where ``frozen`` tensors are given.

    Raises:
        UsageError: No node of the main graph computes one of them.
    """
    main = graph.main
    for name in frozen:
        if main.producer(name) is None:
            raise UsageError(f"no node of the main graph computes {name!r}; it cannot be frozen")
    if not frozen:
        return sorted_nodes(main)
    wanted = set(main.outputs) - set(frozen)
    kept: list[NodeProto] = []
    for node in reversed(sorted_nodes(main)):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted |= read_by(graph, [node]) - set(frozen)
    return kept[::-1]


def read_by(graph: Graph, nodes: Collection[NodeProto]) -> set[str]:
    """Tensors of the main graph that these nodes or their bodies read."""
    return {name for node in nodes for name in graph.main.reads(node)}
