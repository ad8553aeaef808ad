"""The body of a node moved into the scope around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from onnx import NodeProto, TensorProto, helper

from graphopt.graph.graph import Graph, Scope

__all__ = ["definitions", "inline_body"]


def definitions(graph: Graph) -> Counter[str]:
    """How many scopes define each name: as an input, an initializer or what a node makes."""
    return Counter(name for scope in graph.scopes() for name in _made_in(scope))


def _made_in(scope: Scope) -> Iterator[str]:
    yield from scope.initializers
    yield from scope.inputs
    for node in scope.nodes:
        yield from node.output


def inline_body(scope: Scope, owner: NodeProto, attribute: str, made: Counter[str]) -> None:
    """Replace ``owner``, an If, by the nodes of one of its bodies.

    Names of the body that the rest of the model knows too are made unique; the outputs of the
    owner keep their names.

    Args:
        scope: Where the owner stands.
        owner: A node whose body takes no inputs of its own.
        attribute: Which body.
        made: The definitions of the whole graph, kept up to date.
    """
    body = scope.children(owner)[attribute]
    _make_unique(scope, owner, body, made)
    renamed: dict[str, str] = {}
    copies: list[NodeProto] = []
    for inner, outer in zip(body.outputs, owner.output, strict=True):
        if not outer:
            continue
        if body.producer(inner) is not None and inner not in renamed:
            renamed[inner] = outer
        else:  # a constant, a captured tensor or one that is given out twice
            source = renamed.get(inner, inner)
            copies.append(helper.make_node("Identity", [source], [outer]))
    for old, new in renamed.items():
        _rename(body, old, new)
    place = scope.following(owner)
    scope.remove([owner])
    for bodies in body.bodies.values():
        for inner_body in bodies.values():
            inner_body.parent = scope
    scope.bodies.update(body.bodies)
    scope.add(*body.nodes, *copies, before=place)
    scope.initializers.update(body.initializers)
    scope.value_infos.extend(value for value in body.value_infos if value.name not in renamed)
    for sparse in body.proto.sparse_initializer:
        scope.add_sparse(sparse)
    scope.annotations.extend(body.annotations)
    made.subtract(owner.output)
    made.update(name for each in body.walk() for name in _made_in(each))
    made.update(copied.output[0] for copied in copies)


def _make_unique(scope: Scope, owner: NodeProto, body: Scope, made: Counter[str]) -> None:
    """Rename what the body defines where a scope that is not below ``owner`` does so too.

    What is defined below ``owner`` is no longer counted then.
    """
    for other in scope.children(owner).values():
        made.subtract(name for inner in other.walk() for name in _made_in(inner))
    for name in [*body.initializers, *(o for node in body.nodes for o in node.output if o)]:
        if made[name] > 0:
            _rename(body, name, scope.graph.unique_name(name))


def _rename(body: Scope, old: str, new: str) -> None:
    """Let a tensor that the body defines have another name, where it is made and where read."""
    body.replace_uses(old, new)
    for output in body.proto.output:
        if output.name == old:
            output.name = new
    body.value_infos.rename(old, new)
    if old in body.initializers:
        tensor = TensorProto()  # tensors are shared with snapshots: replaced, never edited
        tensor.CopyFrom(body.initializers.pop(old))
        tensor.name = new
        body.initializers[new] = tensor
    node = body.producer(old)
    if node is not None:
        body.set_output(node, list(node.output).index(old), new)
