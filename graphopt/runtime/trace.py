"""Data type and shape of every tensor of the main graph, from one real run."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import onnx
from onnx import TensorProto

from graphopt.errors import ModelError
from graphopt.facts.shapes import TensorInfo
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session

__all__ = ["trace"]

_TENSOR = re.compile(r"tensor\((\w+)\)")

logger = logging.getLogger(__name__)


def trace(graph: Graph, feeds: Mapping[str, Array], *, threads: int = 0) -> dict[str, TensorInfo]:
    """What onnxruntime finds in the node outputs of the main graph, by tensor name.

    The shapes are taken inside the graph, so that no activation is copied out or kept: the run
    needs no more memory than plain inference. Sequences and optionals are left out.

    Args:
        graph: The model; not modified.
        feeds: One feed.
        threads: Threads of the run; 0 for all cores.

    Returns:
        Tensors with type and shape; the shape is None where the run fails. Empty where the model
        does not even load.
    """
    names = [name for node in graph.main.nodes for name in node.output if name]
    try:
        types = Session(graph, threads=threads, outputs=names, level="off").types()
    except ModelError as err:
        logger.info("no trace: %s", err)
        return {}
    kinds = {name: kind for name in names if (kind := _data_type(types[name])) is not None}
    shape_names = {name: graph.unique_name(f"{name}_shape") for name in kinds}
    probes = [
        onnx.helper.make_node("Shape", [name], [shape]) for name, shape in shape_names.items()
    ]
    try:
        session = Session(
            graph, threads=threads, outputs=list(shape_names.values()), probes=probes, level="off"
        )
        shapes = session.run(feeds)
    except ModelError as err:
        logger.info("types only: %s", err)
        return {name: TensorInfo(kind, None) for name, kind in kinds.items()}
    return {
        name: TensorInfo(kind, tuple(int(size) for size in shapes[shape_names[name]]))
        for name, kind in kinds.items()
    }


def _data_type(text: str) -> int | None:
    """The ONNX element type that onnxruntime writes as ``tensor(float)``; None for others."""
    found = _TENSOR.fullmatch(text)
    return None if found is None else _ELEMENT_TYPES.get(found.group(1))


_ELEMENT_TYPES = {name.lower(): number for name, number in TensorProto.DataType.items()}
