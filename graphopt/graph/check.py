"""Whether a graph is a valid model: the ONNX checker and what it does not look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from graphopt.errors import ModelError
from graphopt.graph import tensors
from graphopt.graph.calls import miscalled
from graphopt.graph.graph import Graph
from graphopt.graph.node import DEFAULT_DOMAIN, label
from graphopt.graph.schemas import NEWEST_OPSET, misuse
from graphopt.graph.sparse_tensors import check_sparse
from graphopt.graph.texts import illegible
from graphopt.graph.weightless import weightless
from graphopt.graph.wiring import miswired

__all__ = ["malformed_nodes", "problems", "refuse_unsound"]


def problems(graph: Graph) -> list[str]:
    """What is wrong with the model, one sentence each; empty for a valid one.

    The same fault has the same text every time, so that lists from before and after an edit can
    be compared. Operators of domains that the ONNX package does not know are no fault. Nothing
    is read from external files; those were checked when the model was loaded.
    """
    found = list(miswired(graph))
    for scope in graph.scopes():
        found += _unfit_tensors(scope.initializers.values())
    found += _checker_problems(graph)
    return list(dict.fromkeys(found))


_FIRST_IMPORTS = 3
"""The version of the file format from which on models import operator sets."""


def malformed_nodes(graph: Graph) -> Iterator[str]:
    """Nodes that are not what their operator asks for, see ``graphopt.graph.schemas``."""
    opset = graph.opset
    if not opset:  # files older than operator sets are of the first; others are taken as the newest
        opset = 1 if graph.header.ir_version < _FIRST_IMPORTS else NEWEST_OPSET
    for scope in graph.scopes():
        for node in scope.nodes:
            yield from misuse(node, opset)


def refuse_unsound(graph: Graph) -> None:
    """Refuse a model that is wrong in itself, whatever runs it; linear in its nodes.

    What onnxruntime loads and runs passes, and so does what it merely has no kernel for. Who reads
    a model that has passed may rely on it: names are text, nodes have the inputs, outputs and
    attributes that ONNX asks for, constants have the values of their shapes.

    Raises:
        ModelError: What is wrong, with the node, tensor or field.
    """
    for faults in (illegible, _odd_versions, _odd_types, malformed_nodes):
        _refuse(faults(graph))
    for tensor in graph.tensors():
        if tensors.is_external(tensor):
            tensors.external_file(tensor, graph.folder)
        else:
            tensors.check_length(tensor)
    for scope in graph.scopes():
        for sparse in scope.proto.sparse_initializer:
            check_sparse(graph, sparse)
    if not graph.main.outputs:
        raise ModelError("it has no outputs, so nothing of it can be run")
    _refuse(miswired(graph))
    if graph.header.functions:
        _refuse(miscalled(graph.header, [n for scope in graph.scopes() for n in scope.nodes]))


def _refuse(faults: Iterator[str]) -> None:
    fault = next(faults, None)
    if fault is not None:
        raise ModelError(fault)


def _odd_versions(graph: Graph) -> Iterator[str]:
    """Versions that no number of 32 bits holds, and of ONNX's own operators below 1."""
    version = graph.header.ir_version
    if not _is_int32(version):
        yield f"its IR version is {version}: there is none"
    imports = [*graph.header.opset_import]
    imports += [item for function in graph.header.functions for item in function.opset_import]
    for item in imports:
        if not _is_int32(item.version) or (item.domain in DEFAULT_DOMAIN and item.version < 1):
            domain = item.domain or "ai.onnx"
            yield f"it imports version {item.version} of operator set {domain!r}: there is none"


def _is_int32(version: int) -> bool:
    return -(2**31) <= version < 2**31


def _odd_types(graph: Graph) -> Iterator[str]:
    """Inputs and outputs of element types that ONNX does not have, inputs that have no type."""
    main = graph.main.proto
    for value in (*main.input, *main.output):
        tensor = value.type.HasField("tensor_type")
        if tensor and not value.type.tensor_type.elem_type:
            yield f"{value.name!r} is a tensor of no element type"
    for value in graph.required_inputs:
        if value.type.WhichOneof("value") is None:
            yield f"input {value.name!r} has no type"
    for scope in graph.scopes():
        for value in (*scope.proto.input, *scope.proto.output):
            kind = value.type.tensor_type.elem_type
            if kind not in _ELEMENT_TYPES:
                yield f"{value.name!r} has element type {kind}, which ONNX does not have"


_ELEMENT_TYPES = frozenset(onnx.TensorProto.DataType.values())


def _checker_problems(graph: Graph) -> list[str]:
    """The checker's word on the whole model and, where it objects, on each node."""
    model = weightless(graph, keep_dims=False)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as err:  # ValueError: no graph at all
        return [*_node_problems(model), str(err).splitlines()[0]]
    return []


def _node_problems(model: onnx.ModelProto) -> Iterator[str]:
    """Each faulty node by name; the checker of models stops at the first."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {item.domain: item.version for item in model.opset_import}
    local = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        if (node.domain, node.op_type) in local or any(a.HasField("g") for a in node.attribute):
            continue
        try:
            onnx.checker.check_node(node, context)
        except onnx.checker.ValidationError as err:
            yield f"node {label(node)!r}: {str(err).splitlines()[0]}"


def _unfit_tensors(held: Iterable[onnx.TensorProto]) -> Iterator[str]:
    """Inline initializers whose data does not fit their dimensions."""
    for tensor in held:
        if not tensors.is_external(tensor):
            try:
                tensors.check_length(tensor)
            except ModelError as err:
                yield str(err)
