"""What a step from elsewhere did to a model: its edits, and what it lost on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
)

from graphopt.graph import tensors
from graphopt.graph.lossless import Difference, differences

__all__ = ["edits", "losses"]

_HEADER = ("producer_name", "producer_version", "domain", "model_version", "ir_version")
_WHOLE = {
    "configuration": "configurations",
    "device_configurations": "device configurations",
    "functions": "functions",
    "quantization_annotation": "quantization annotations",
    "sparse_initializer": "sparse initializers",
    "training_info": "training graphs",
}
_OWNERS = {
    "graph": "the graph",
    "initializer": "initializers",
    "input": "inputs",
    "model": "the model",
    "node": "nodes",
    "output": "outputs",
    "value_info": "tensors",
}


def edits(before: ModelProto, after: ModelProto) -> list[tuple[str, str]]:
    """What changed in what a model computes and in how it is called: where, and what.

    Nodes are the same where their outputs have the same names, in bodies too. Neither the order
    of nodes, nor how values are stored, nor anything that ``losses`` tells is an edit.
    """
    pair = (before, after)
    old, new = ({tuple(node.output): node for node in _nodes(model.graph)} for model in pair)
    rows = [("nodes", words) for words in _compared(old, new, _same_node, _op_types)]
    held, now = ({item.name: item for item in _weights(model.graph)} for model in pair)
    rows += [("initializers", words) for words in _compared(held, now, _same_tensor, _elements)]
    ours, theirs = ({(f.domain, f.name): f for f in model.functions} for model in pair)
    both = {key: item for key, item in ours.items() if key in theirs}
    rows += [("functions", words) for words in _compared(both, theirs, _same_function, _names)]
    for kind in ("input", "output"):
        given, asked = ({v.name: v for v in getattr(model.graph, kind)} for model in pair)
        rows += [("interface", words) for words in _ports(kind, given, asked)]
    versions, others = ({o.domain: o.version for o in model.opset_import} for model in pair)
    for domain, version in versions.items():
        if others.get(domain, version) != version:
            words = f"{domain or 'ai.onnx'} {version} became {others[domain]}"
            rows.append(("operator set", words))
    return rows


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of a graph and of the bodies in it."""
    for node in graph.node:
        yield node
        for item in node.attribute:
            yield from _nodes(item.g) if item.type == AttributeProto.GRAPH else ()


def _weights(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in _nodes(graph):
        for item in node.attribute:
            yield from item.g.initializer


def _compared(
    ours: Mapping[Any, Any],
    theirs: Mapping[Any, Any],
    same: Callable[[Any, Any], bool],
    described: Callable[[Sequence[Any]], str],
) -> Iterator[str]:
    """Sentences on what is gone, new and different, each with the number and a description."""
    for verb, items in (
        ("removed", [item for key, item in ours.items() if key not in theirs]),
        ("added", [item for key, item in theirs.items() if key not in ours]),
        (
            "changed",
            [item for key, item in theirs.items() if key in ours and not same(ours[key], item)],
        ),
    ):
        if items:
            yield f"{verb} {len(items)}: {described(items)}"


def _same_node(a: NodeProto, b: NodeProto) -> bool:
    return _computation(a) == _computation(b)


def _computation(node: NodeProto) -> tuple[Any, ...]:
    """What a node computes; the nodes of its bodies are compared one by one."""
    attributes: dict[str, Any] = {}
    for item in node.attribute:
        if item.type == AttributeProto.TENSOR:
            attributes[item.name] = _values(item.t)
        elif item.type == AttributeProto.GRAPH:
            attributes[item.name] = "body"
        else:
            plain = AttributeProto()
            plain.CopyFrom(item)
            plain.ClearField("doc_string")
            attributes[item.name] = plain.SerializeToString(deterministic=True)
    domain = "" if node.domain == "ai.onnx" else node.domain
    return domain, node.op_type, tuple(node.input), attributes


def _op_types(nodes: Sequence[NodeProto]) -> str:
    counts = Counter(node.op_type for node in nodes)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _same_tensor(a: TensorProto, b: TensorProto) -> bool:
    return _values(a) == _values(b)


def _values(tensor: TensorProto) -> tuple[Any, ...]:
    """Type, shape and values, in whichever field of the message they are stored."""
    values = tensors.to_array(tensor)
    held = values.tolist() if values.dtype.kind == "O" else values.tobytes()
    return tensor.data_type, tuple(tensor.dims), held


def _same_function(a: FunctionProto, b: FunctionProto) -> bool:
    ports = [(tuple(f.input), tuple(f.output), tuple(f.attribute)) for f in (a, b)]
    nodes = [[_computation(node) for node in f.node] for f in (a, b)]
    return ports[0] == ports[1] and nodes[0] == nodes[1]


def _names(functions: Sequence[FunctionProto]) -> str:
    return ", ".join(function.name for function in functions)


def _elements(weights: Sequence[TensorProto]) -> str:
    return f"{sum(tensors.element_count(tensor) for tensor in weights)} elements"


def _ports(
    kind: str, ours: Mapping[str, ValueInfoProto], theirs: Mapping[str, ValueInfoProto]
) -> Iterator[str]:
    for name in dict.fromkeys([*ours, *theirs]):
        if name not in theirs:
            yield f"no longer has the {kind} {name!r}"
        elif name not in ours:
            yield f"has the new {kind} {name!r}"
        elif _declared(ours[name]) != _declared(theirs[name]):
            yield f"declares the {kind} {name!r} otherwise"


def _declared(value: ValueInfoProto) -> tuple[int, list[int]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, [dim.dim_value for dim in tensor.shape.dim]


def losses(before: ModelProto, after: ModelProto) -> list[str]:
    """What ``after`` lacks that has nothing to do with what the model computes, with counts.

    That of nodes and tensors that are gone themselves is not counted.
    """
    names = {name for node in _nodes(after.graph) for name in node.output}
    counts: Counter[str] = Counter()
    for item in differences(before, after):
        what, count = _loss(item, names)
        if count:
            counts[what] += count
    return [what if what.startswith("the ") else f"{what} ({n})" for what, n in counts.items()]


def _loss(item: Difference, names: set[str]) -> tuple[str, int]:
    """What kind of thing was lost, or is another now, and how many of it; 0 for no loss."""
    fields = ("model", *item.fields)
    last, owner = fields[-1], _OWNERS.get(fields[-2], fields[-2]) if len(fields) > 1 else ""
    if item.before is None:
        moved = item.after is None and last in ("input", "output")
        return f"the order of the {last}s", int(moved)
    if "metadata_props" in fields:
        owner = fields[fields.index("metadata_props") - 1]
        return f"metadata entries of {_OWNERS.get(owner, owner)}", _number(item.before)
    if last == "doc_string":
        return f"doc strings of {owner}", int(bool(item.before))
    if last == "name" and fields[-2] in ("node", "graph"):
        return f"names of {owner}", int(bool(item.before))
    if last in _HEADER and len(fields) == 2:
        now = f"{item.after!r}" if item.after else "gone"
        return f"the {last} {item.before!r}, now {now}", int(bool(item.before))
    if "value_info" in fields and item.after is None:
        lost = [item.before] if last != "value_info" else _listed(item.before)
        still = [v for v in lost if not isinstance(v, ValueInfoProto) or v.name in names]
        return "declared types of tensors", len(still)
    if {"input", "output"}.intersection(fields[:-1]) and item.after is None:
        return "declared dimensions or types of inputs and outputs", 1
    if last in _WHOLE and item.after is None:
        return _WHOLE[last], _number(item.before)
    return "", 0


def _listed(value: Any) -> Iterable[Any]:
    return [value] if isinstance(value, ValueInfoProto) else value


def _number(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") and not isinstance(value, str | bytes) else 1
