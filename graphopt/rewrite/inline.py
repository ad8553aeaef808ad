"""The body of a node moved into the scope around it."""

from __future__ import annotations

from onnx import NodeProto, TensorProto, helper

from graphopt.graph.graph import Scope

__all__ = ["inline_body"]


def inline_body(scope: Scope, owner: NodeProto, attribute: str) -> None:
    """Replace ``owner``, an If, by the nodes of one of its bodies.

    Names of the body that the rest of the model knows too are made unique; the outputs of the
    owner keep their names.

    Args:
        scope: Where the owner stands.
        owner: A node whose body takes no inputs of its own.
        attribute: Which body.
    """
    body = scope.children(owner)[attribute]
    _make_unique(scope, owner, body)
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
    scope.proto.quantization_annotation.extend(body.proto.quantization_annotation)


def _make_unique(scope: Scope, owner: NodeProto, body: Scope) -> None:
    """Rename what the body defines where another scope defines the same name."""
    elsewhere: set[str] = set()
    gone = {id(inner) for other in scope.children(owner).values() for inner in other.walk()}
    for other in scope.graph.scopes():
        if id(other) not in gone:
            elsewhere.update(other.initializers, other.inputs)
            elsewhere.update(name for node in other.nodes for name in node.output)
    for name in [*body.initializers, *(o for node in body.nodes for o in node.output if o)]:
        if name in elsewhere:
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
