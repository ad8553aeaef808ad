"""A model rewired: what only a reader of graphs would think of."""

from __future__ import annotations

import random
from collections.abc import Callable

import onnx
import onnx.defs
import onnx.helper
from onnx import GraphProto, ModelProto, NodeProto

from tests.fuzz.fields import INTEGERS, messages

__all__ = ["EDITS"]

Edit = Callable[[ModelProto, random.Random], str]
_OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})


def _graphs(model: ModelProto) -> list[GraphProto]:
    return [found for found in messages(model) if isinstance(found, GraphProto)]


def _nodes(model: ModelProto) -> list[NodeProto]:
    return [found for found in messages(model) if isinstance(found, NodeProto)]


def _node(model: ModelProto, rng: random.Random) -> NodeProto:
    nodes = _nodes(model) or [model.graph.node.add(op_type="Relu")]
    return rng.choice(nodes)


def _values(model: ModelProto) -> list[str]:
    names = [name for node in _nodes(model) for name in (*node.input, *node.output)]
    return [*names, *(value.name for value in model.graph.input), ""]


def _rewire(model: ModelProto, rng: random.Random) -> str:
    node = _node(model, rng)
    ports = node.input if rng.random() < 0.7 else node.output
    if not ports:
        return "nothing to rewire"
    index, name = rng.randrange(len(ports)), rng.choice(_values(model))
    ports[index] = name
    return f"port {index} of {node.op_type} is {name!r}"


def _cycle(model: ModelProto, rng: random.Random) -> str:
    graph = rng.choice(_graphs(model))
    if not graph.node:
        return "no node for a cycle"
    low, high = sorted((rng.randrange(len(graph.node)), rng.randrange(len(graph.node))))
    first, last = graph.node[low], graph.node[high]
    if first.input and last.output:
        first.input[rng.randrange(len(first.input))] = last.output[0]
    return f"{first.op_type} reads what {last.op_type} computes behind it"


def _operator(model: ModelProto, rng: random.Random) -> str:
    node = _node(model, rng)
    old, node.op_type = node.op_type, rng.choice(_OPERATORS)
    return f"{old} is called {node.op_type}"


def _domain(model: ModelProto, rng: random.Random) -> str:
    node = _node(model, rng)
    node.domain = rng.choice(["ai.onnx", "com.microsoft", "own", "local", "ai.onnx.ml"])
    if rng.random() < 0.7:
        model.opset_import.add(domain=node.domain, version=rng.choice([1, 1, 0, 3]))
    return f"{node.op_type} is of {node.domain}"


def _remove(model: ModelProto, rng: random.Random) -> str:
    graph = rng.choice(_graphs(model))
    lists = [graph.node, graph.initializer, graph.input, graph.output, graph.value_info]
    some = rng.choice([part for part in lists if len(part)] or [model.opset_import])
    if len(some):
        del some[rng.randrange(len(some))]
    return "one of a list removed"


def _shuffle(model: ModelProto, rng: random.Random) -> str:
    graph = rng.choice(_graphs(model))
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    rng.shuffle(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    return "nodes in another order"


def _attribute(model: ModelProto, rng: random.Random) -> str:
    """An attribute of another type, with values as they come."""
    node = _node(model, rng)
    names = [attribute.name for attribute in node.attribute]
    if node.domain == "" and node.op_type in _OPERATORS:
        names += onnx.defs.get_schema(node.op_type).attributes
    name = rng.choice(names or ["axis"])
    for index in reversed(range(len(node.attribute))):
        if node.attribute[index].name == name and rng.random() < 0.9:
            del node.attribute[index]
    number = rng.choice(INTEGERS)
    values: list[object] = [
        number, float(number), "text", b"\xff", [number], [number] * 4, [1, 2], [0.5, float("nan")],
        ["a", "b"], onnx.TensorProto(), model.graph.node[:0] or [0], [-1, number], [],
    ]  # fmt: skip
    value = rng.choice(values)
    if value == []:
        node.attribute.add(name=name, type=onnx.AttributeProto.INTS)
    else:
        node.attribute.append(onnx.helper.make_attribute(name, value))
    return f"{node.op_type}.{name} = {value!r}"


def _opset(model: ModelProto, rng: random.Random) -> str:
    version = rng.choice([*INTEGERS, 1, 6, 7, 9, 12, 17, 18, 21, 23, 25, 9999])
    if model.opset_import and rng.random() < 0.8:
        rng.choice(list(model.opset_import)).version = version
    else:
        model.opset_import.add(domain=rng.choice(["", "ai.onnx", "own"]), version=version)
    return f"opset {version}"


def _type(model: ModelProto, rng: random.Random) -> str:
    """A tensor or value of another type or shape than its neighbours expect."""
    kinds = [m for m in messages(model) if isinstance(m, (onnx.TensorProto, onnx.ValueInfoProto))]
    if not kinds:
        return "no type to change"
    chosen = rng.choice(kinds)
    dtype = rng.choice([*range(27), 99, -1])
    if isinstance(chosen, onnx.ValueInfoProto):
        tensor = chosen.type.tensor_type
        if rng.random() < 0.5:
            tensor.elem_type = dtype
        elif tensor.shape.dim:
            rng.choice(list(tensor.shape.dim)).dim_value = rng.choice(INTEGERS)
        else:
            tensor.shape.dim.add(dim_param="M")
    elif rng.random() < 0.5 or not chosen.dims:
        chosen.data_type = dtype
    else:
        chosen.dims[rng.randrange(len(chosen.dims))] = rng.choice(INTEGERS)
    return f"type or shape of {chosen.name!r}"


def _external(model: ModelProto, rng: random.Random) -> str:
    tensors = [m for m in messages(model) if isinstance(m, onnx.TensorProto)]
    if not tensors:
        return "no tensor to put elsewhere"
    tensor = rng.choice(tensors)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    locations = (
        "m.data", "m.data", "m.onnx", "calib.npz", "../m.data", "/etc/hostname", "/dev/zero", ".",
        "", "missing", "link.data", "pipe", "*/_ORT_MEM_ADDR_/*", "a\0b", "m.data/", "./m.data",
    )  # fmt: skip
    numbers = [str(number) for number in INTEGERS] + ["", "x", "1.5", " 4", "0x10", "9" * 400]
    entries = {"location": locations, "offset": numbers, "length": numbers, "checksum": ("x",)}
    key = rng.choice([*entries, "location"])
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = rng.choice(entries[key])
            return f"{key} of {tensor.name!r}: {entry.value!r}"
    value = rng.choice(entries[key])
    tensor.external_data.add(key=key, value=value)
    return f"{key} of {tensor.name!r} added: {value!r}"


def _function(model: ModelProto, rng: random.Random) -> str:
    """A function: recursive, named as an operator, doubling, or called without being there."""
    domain = rng.choice(["local", "own", ""])
    name = rng.choice(["twice", "outer", "Relu", "Conv", "F"])
    body = [onnx.helper.make_node(name, ["a"], ["t"], domain=domain)]
    if rng.random() < 0.5:
        body = [onnx.helper.make_node("Neg", ["a"], ["t"])]
    inner = onnx.helper.make_node(rng.choice(["F0", "twice", "Relu"]), ["t"], ["b"], domain=domain)
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(domain, 1)]
    made = onnx.helper.make_function(domain, name, ["a"], ["b"], [*body, inner], imports)
    model.functions.append(made)
    for level in range(rng.choice([0, 3, 12, 40])):
        called = f"F{level + 1}"
        calls = [
            onnx.helper.make_node(called, ["a"], ["t"], domain=domain),
            onnx.helper.make_node(called, ["t"], ["b"], domain=domain),
        ]
        model.functions.append(
            onnx.helper.make_function(domain, f"F{level}", ["a"], ["b"], calls, imports)
        )
    if domain and rng.random() < 0.8:
        model.opset_import.add(domain=domain, version=1)
    node = _node(model, rng)
    if len(node.input) == 1:
        node.op_type, node.domain = name, domain
    return f"a function {domain}:{name}"


def _nest(model: ModelProto, rng: random.Random) -> str:
    """A graph within itself, some levels deep."""
    graph = rng.choice(_graphs(model))
    depth = rng.choice([1, 3, 12, 25])
    wrapped = GraphProto.FromString(graph.SerializeToString())
    if depth > 3:
        del wrapped.initializer[:]
        del wrapped.node[2:]
    for _ in range(depth):
        node = onnx.helper.make_node("If", [rng.choice(_values(model))], ["nested"])
        node.attribute.append(onnx.helper.make_attribute("then_branch", wrapped))
        node.attribute.append(onnx.helper.make_attribute("else_branch", GraphProto(name="e")))
        wrapped = GraphProto(name="level")
        wrapped.node.append(node)
        wrapped.output.add(name="nested")
    graph.node.extend(wrapped.node)
    return f"a graph nested {depth} deep"


def _sparse(model: ModelProto, rng: random.Random) -> str:
    values = onnx.helper.make_tensor("odd", 1, [2], [1.0, 2.0])
    places = rng.choice([[0, 1], [1, 1], [-1, 0], [5, 2**62], [3, 1]])
    indices = onnx.helper.make_tensor("odd_places", 7, [2], places)
    sizes = rng.choice([[4, 4], [2**31, 2**31], [0], [], [-1]])
    sparse = onnx.SparseTensorProto(values=values, indices=indices, dims=sizes)
    model.graph.sparse_initializer.append(sparse)
    return f"a sparse tensor {sizes} with {places}"


def _bomb(model: ModelProto, rng: random.Random) -> str:
    """A constant that stands for far more than the file holds."""
    size = rng.choice([10**4, 10**9, 2**40, 2**62])
    shape = onnx.helper.make_tensor("huge", 7, [2], [size, rng.choice([1, 4, 10**4])])
    model.graph.initializer.append(shape)
    name = rng.choice([n for n in _values(model) if n] or ["x"])
    operator = rng.choice(["ConstantOfShape", "Expand", "Tile", "RandomNormal"])
    inputs = ["huge"] if operator == "ConstantOfShape" else [name, "huge"]
    model.graph.node.insert(0, onnx.helper.make_node(operator, inputs, ["bomb"]))
    if rng.random() < 0.7:
        model.graph.output.add(name="bomb").type.tensor_type.elem_type = 1
    return f"{operator} of {size}"


EDITS: tuple[Edit, ...] = (
    _rewire, _rewire, _cycle, _operator, _domain, _remove, _shuffle, _attribute, _attribute, _opset,
    _type, _type, _external, _function, _nest, _sparse, _bomb,
)  # fmt: skip
