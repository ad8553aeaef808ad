"""Whether a graph is a valid model: the ONNX checker and what it does not look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import onnx

from graphopt.errors import ModelError
from graphopt.graph import tensors
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import in_default_domain, label
from graphopt.graph.order import is_cyclic
from graphopt.graph.weightless import weightless

__all__ = ["malformed_nodes", "problems"]


def problems(graph: Graph) -> list[str]:
    """What is wrong with the model, one sentence each; empty for a valid one.

    The same fault has the same text every time, so that lists from before and after an edit can
    be compared. Operators of domains that the ONNX package does not know are no fault. Nothing
    is read from external files; those were checked when the model was loaded.
    """
    found = [problem for scope in graph.scopes() for problem in _scope_problems(scope)]
    found += _checker_problems(graph)
    return list(dict.fromkeys(found))


def malformed_nodes(graph: Graph) -> Iterator[str]:
    """Nodes with too few or too many inputs or outputs for their operator, a sentence each.

    No runtime loads them, and nobody who reads a node has to ask whether its inputs are there.
    Operators that the ONNX package does not know in the model's version are passed over.
    """
    for scope in graph.scopes():
        for node in scope.nodes:
            schema = _schema(node.op_type, graph.opset) if in_default_domain(node) else None
            if schema is None:
                continue
            for kind, count, least, most in (
                ("inputs", len(node.input), schema.min_input, schema.max_input),
                ("outputs", len(node.output), schema.min_output, schema.max_output),
            ):
                if not least <= count <= most:
                    needed = _range(least, most)
                    yield (
                        f"node {label(node)!r} has {count} {kind}, "
                        f"{node.op_type} of opset {graph.opset} needs {needed}"
                    )
            required = bool(schema.inputs) and schema.inputs[0].option == _REQUIRED
            if required and node.input and not node.input[0]:
                yield f"node {label(node)!r}: the first input of {node.op_type} has no name"


_REQUIRED = onnx.defs.OpSchema.FormalParameterOption.Single
_UNBOUNDED = 1 << 30


@cache
def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _range(least: int, most: int) -> str:
    if most >= _UNBOUNDED:
        return f"{least} or more"
    return str(least) if least == most else f"{least} to {most}"


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


def _scope_problems(scope: Scope) -> Iterator[str]:
    """Duplicate definitions, inputs that nothing computes, outputs that nothing produces."""
    where = f" in {scope.path}" if scope.path else ""
    yield from (f"{text}{where}" for text in _duplicates(scope))
    yield from (f"{text}{where}" for text in _unfit_tensors(scope.initializers.values()))
    outer = _visible(scope.parent) if scope.parent is not None else set()
    made = _visible(scope)
    for node in scope.nodes:
        for name in node.input:
            if name and name not in made and name not in outer:
                yield f"node {label(node)!r} reads {name!r}, which nothing computes{where}"
    for name in scope.outputs:
        if name not in made and name not in outer:
            yield f"output {name!r} is computed by nothing{where}"
    if is_cyclic(scope):
        yield f"nodes read their own outputs (a cycle){where}"


def _visible(scope: Scope) -> set[str]:
    """Every name defined in the scope or around it."""
    names = set(scope.inputs) | set(scope.initializers)
    names.update(sparse.values.name for sparse in scope.proto.sparse_initializer)
    names.update(out for node in scope.nodes for out in node.output if out)
    return names if scope.parent is None else names | _visible(scope.parent)


def _duplicates(scope: Scope) -> Iterator[str]:
    seen = set(scope.inputs) | set(scope.initializers)
    for node in scope.nodes:
        for name in node.output:
            if name in seen:
                yield f"node {label(node)!r} defines {name!r} a second time"
            if name:
                seen.add(name)


def _unfit_tensors(held: Iterable[onnx.TensorProto]) -> Iterator[str]:
    """Inline initializers whose data does not fit their dimensions."""
    for tensor in held:
        if not tensors.is_external(tensor):
            try:
                tensors.check_length(tensor)
            except ModelError as err:
                yield str(err)
