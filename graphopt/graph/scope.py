"""Scopes: the nodes and constants of the main graph, or of the body of an If, Loop or Scan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from graphopt.graph.constant import Constant, constant_tensor
from graphopt.graph.node import is_op, label
from graphopt.graph.tensors import Array

if TYPE_CHECKING:
    from graphopt.graph.graph import Graph

__all__ = ["Scope", "Use"]

_FOLLOWED = 8  # Identity nodes between a constant and its reader that are looked through


@dataclass(frozen=True)
class Use:
    """One place where a tensor is read: input ``index`` of ``node`` in ``scope``."""

    scope: Scope
    node: NodeProto
    index: int


@dataclass(eq=False)
class Scope:
    """The main graph or the body of an If, Loop or Scan.

    ``nodes`` and ``initializers`` may be edited through the methods below; ``proto`` holds the
    rest (inputs, outputs, value infos, doc string, metadata) without nodes and initializers.
    """

    graph: Graph
    proto: GraphProto
    nodes: list[NodeProto]
    initializers: dict[str, TensorProto]
    parent: Scope | None = None
    owner: NodeProto | None = None
    bodies: dict[int, dict[str, Scope]] = field(default_factory=dict)
    _producers: dict[str, NodeProto] | None = field(default=None, repr=False)
    _uses: dict[str, list[Use]] | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """Where the scope is: empty for the main graph, else the owners' labels."""
        if self.parent is None or self.owner is None:
            return ""
        return f"{self.parent.path}{label(self.owner)}/"

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs as listed, initializers among them included."""
        return [value.name for value in self.proto.input]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs in order."""
        return [value.name for value in self.proto.output]

    def children(self, node: NodeProto) -> dict[str, Scope]:
        """The bodies of a node by attribute name; empty for ordinary nodes."""
        return self.bodies.get(id(node), {})

    def walk(self) -> Iterator[Scope]:
        """This scope, then every body below it, in order of the nodes."""
        yield self
        for node in list(self.nodes):
            for body in self.children(node).values():
                yield from body.walk()

    def tensors(self) -> Iterator[TensorProto]:
        """The tensors of this scope's initializers and Constant nodes."""
        yield from self.initializers.values()
        for sparse in self.proto.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in self.nodes:
            if node.op_type == "Constant":
                yield from (a.t for a in node.attribute if a.type == AttributeProto.TENSOR)

    def clone(
        self, graph: Graph, proto: GraphProto, parent: Scope | None, owner: NodeProto | None
    ) -> Scope:
        """A scope of ``graph`` over ``proto`` with copies of the nodes and the same tensors."""
        twin = Scope(graph, proto, [], dict(self.initializers), parent, owner)
        for node in self.nodes:
            copied = NodeProto()
            copied.CopyFrom(node)
            twin.nodes.append(copied)
            bodies = self.children(node)
            if bodies:
                twin.bodies[id(copied)] = {
                    attribute.name: bodies[attribute.name].clone(graph, attribute.g, twin, copied)
                    for attribute in copied.attribute
                    if attribute.name in bodies
                }
        return twin

    # looking things up

    def producer(self, name: str) -> NodeProto | None:
        """The node of this scope that computes ``name``; None for inputs and initializers."""
        if self._producers is None:
            self._producers = {out: node for node in self.nodes for out in node.output if out}
        return self._producers.get(name)

    def defines(self, name: str) -> bool:
        """Whether ``name`` is an input, initializer or node output of this very scope."""
        return (
            name in self.initializers
            or self.producer(name) is not None
            or name in self.inputs
            or any(sparse.values.name == name for sparse in self.proto.sparse_initializer)
        )

    def uses(self, name: str) -> list[Use]:
        """Every node input that reads ``name``, in this scope and in bodies that capture it."""
        if self._uses is None:
            self._uses = {}
            for node in self.nodes:
                for index, read in enumerate(node.input):
                    if read:
                        self._uses.setdefault(read, []).append(Use(self, node, index))
                for body in self.children(node).values():
                    for captured, uses in body.captures().items():
                        self._uses.setdefault(captured, []).extend(uses)
        return list(self._uses.get(name, ()))

    def captures(self) -> dict[str, list[Use]]:
        """Names that this body reads from the scopes around it, with their uses.

        An output of a body that is an outer name counts as read too; its use is the owner's.
        """
        found: dict[str, list[Use]] = {}
        self.uses("")
        assert self._uses is not None
        for name, uses in self._uses.items():
            if not self.defines(name):
                found.setdefault(name, []).extend(uses)
        if self.parent is not None and self.owner is not None:
            for name in self.outputs:
                if name and not self.defines(name):
                    found.setdefault(name, []).append(Use(self.parent, self.owner, -1))
        return found

    def constant(self, name: str) -> Constant | None:
        """The constant behind ``name``: initializer, Constant node or one of these by Identity.

        Looks into the scopes around a body as well. An initializer that is also listed as an
        input counts as constant: its value is what every caller gets who does not override it.
        """
        asked, scope = name, self
        for _ in range(_FOLLOWED):
            home: Scope | None = scope
            while home is not None and not home.defines(name):
                home = home.parent
            if home is None:
                return None
            if name in home.initializers:
                return Constant(asked, home, name, None, home.initializers[name])
            node = home.producer(name)
            if node is None:
                return None
            if is_op(node, "Constant"):
                tensor = constant_tensor(node)
                return None if tensor is None else Constant(asked, home, name, node, tensor)
            if not is_op(node, "Identity"):
                return None
            name, scope = node.input[0], home
        return None

    # editing

    def touch(self) -> None:
        """Forget the look-up tables; to be called after editing a node in place."""
        scope: Scope | None = self
        while scope is not None:
            scope._producers = scope._uses = None
            scope = scope.parent

    def add(self, *nodes: NodeProto, before: NodeProto | None = None) -> None:
        """Put nodes in front of ``before``, or at the end; saving sorts them where needed."""
        at = len(self.nodes) if before is None else self._position(before)
        self.nodes[at:at] = nodes
        self.touch()

    def remove(self, nodes: Iterable[NodeProto]) -> None:
        """Take nodes out, with their bodies; what reads their outputs is the caller's care."""
        gone = {id(node) for node in nodes}
        self.nodes[:] = [node for node in self.nodes if id(node) not in gone]
        for key in gone:
            self.bodies.pop(key, None)
        self.touch()

    def replace_uses(self, old: str, new: str) -> None:
        """Let every reader of ``old``, in bodies too, read ``new``; outputs keep their names."""
        for use in self.uses(old):
            if use.index >= 0:
                use.node.input[use.index] = new
        for scope in self.walk():
            scope._producers = scope._uses = None
        self.touch()

    def set_input(self, node: NodeProto, index: int, name: str) -> None:
        """Let input ``index`` of ``node`` read ``name``; missing optional inputs are filled."""
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name
        self.touch()

    def add_constant(self, name: str, values: Array) -> str:
        """Store ``values`` as a new initializer called ``name`` or, if taken, like it."""
        unique = self.graph.unique_name(name)
        self.define(unique, values)
        return unique

    def define(self, name: str, values: Array) -> None:
        """Make ``name`` an initializer; a node that computes it is for the caller to remove.

        Before IR version 4 every initializer had to be an input: the model is raised to 4.
        """
        self.initializers[name] = self.graph.store(name, values)
        self.graph.header.ir_version = max(4, self.graph.header.ir_version)
        self.touch()

    def set_constant(self, constant: Constant, values: Array) -> None:
        """Give a constant other values where it lives; all its readers see them."""
        home, origin = constant.scope, constant.origin
        tensor = self.graph.store(origin, values)
        if constant.node is None:
            home.initializers[origin] = tensor
        else:
            kept = [a for a in constant.node.attribute if not a.name.startswith(_VALUE_PREFIXES)]
            attribute = AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor)
            del constant.node.attribute[:]
            constant.node.attribute.extend([*kept, attribute])
        home.touch()
        _retype_readers(home, origin, values)

    def retype(self, name: str, values: Array) -> None:
        """Make the declared type of ``name`` fit ``values``, wherever it is declared."""
        data_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        for declared in (*self.proto.input, *self.proto.value_info):
            if declared.name == name:
                declared.type.CopyFrom(
                    onnx.helper.make_tensor_type_proto(data_type, list(values.shape))
                )

    def drop_initializer(self, name: str) -> None:
        """Remove an initializer, from the inputs too if it is listed there."""
        self.initializers.pop(name, None)
        for declared in (self.proto.input, self.proto.value_info):
            for index in reversed(range(len(declared))):
                if declared[index].name == name:
                    del declared[index]

    def _position(self, node: NodeProto) -> int:
        return next(i for i, other in enumerate(self.nodes) if other is node)


_VALUE_PREFIXES = ("value", "sparse_value")


def _retype_readers(home: Scope, name: str, values: Array) -> None:
    """Make declared types fit a constant's new values: its own and those behind Identity."""
    home.retype(name, values)
    for use in home.uses(name):
        if is_op(use.node, "Identity"):
            _retype_readers(use.scope, use.node.output[0], values)
