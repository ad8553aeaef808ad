"""Scopes: the nodes and constants of the main graph, or of the body of an If, Loop or Scan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from graphopt.graph.constant import Constant, constant_behind
from graphopt.graph.declared import Annotations, ValueInfos
from graphopt.graph.index import Index, Use
from graphopt.graph.node import is_op, label
from graphopt.graph.tensors import Array

if TYPE_CHECKING:
    from graphopt.graph.graph import Graph

__all__ = ["Scope", "Use"]


@dataclass(frozen=True)
class _Ports:
    """Names that a scope lists, for look-ups."""

    inputs: frozenset[str]
    outputs: frozenset[str]
    sparse: dict[str, SparseTensorProto]


@dataclass(eq=False)
class Scope:
    """The main graph or the body of an If, Loop or Scan.

    ``nodes``, ``initializers``, ``value_infos`` and ``annotations`` may be edited through the
    methods below; ``proto`` holds the rest (inputs, outputs, sparse initializers, doc string,
    metadata). Each edit keeps the index of producers and uses up to date, so it costs what it
    changes, not the graph.

    Nodes are told apart by ``id(node)``, since protobuf compares messages by content: ``nodes``
    keeps each Python object alive, so no other one can get its id before the node is removed, and
    the removal drops what is kept under it.
    """

    graph: Graph
    proto: GraphProto
    nodes: list[NodeProto]
    initializers: dict[str, TensorProto]
    parent: Scope | None = None
    owner: NodeProto | None = None
    bodies: dict[int, dict[str, Scope]] = field(default_factory=dict)
    value_infos: ValueInfos = field(default_factory=ValueInfos)
    annotations: Annotations = field(default_factory=Annotations)
    _index: Index | None = field(default=None, repr=False)
    _ports: _Ports | None = field(default=None, repr=False)

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

    def is_input(self, name: str) -> bool:
        """Whether ``name`` is listed as an input, as initializers may be too."""
        return name in self._listed().inputs

    def is_output(self, name: str) -> bool:
        """Whether ``name`` is listed as an output."""
        return name in self._listed().outputs

    def _listed(self) -> _Ports:
        if self._ports is None:
            sparse = {tensor.values.name: tensor for tensor in self.proto.sparse_initializer}
            self._ports = _Ports(frozenset(self.inputs), frozenset(self.outputs), sparse)
        return self._ports

    def holds(self, name: str) -> bool:
        """Whether ``name`` is an initializer of this very scope, dense or sparse."""
        return name in self.initializers or name in self._listed().sparse

    def sparse(self, name: str) -> SparseTensorProto | None:
        """The sparse initializer of that name, if there is one."""
        return self._listed().sparse.get(name)

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
            if is_op(node, "Constant"):
                yield from (a.t for a in node.attribute if a.type == AttributeProto.TENSOR)

    # looking things up

    @property
    def indexed(self) -> bool:
        """Whether there is an index of the scope; then there is one of every body below it."""
        return self._index is not None

    @property
    def index(self) -> Index:
        """Producers and uses, and the order of the nodes; made when first asked for."""
        if self._index is None:
            self._index = Index(self)
        return self._index

    def producer(self, name: str) -> NodeProto | None:
        """The node of this scope that computes ``name``; None for inputs and initializers."""
        return self.index.producer(name)

    def defines(self, name: str) -> bool:
        """Whether ``name`` is an input, initializer or node output of this very scope."""
        return (
            name in self.initializers
            or self.producer(name) is not None
            or self.is_input(name)
            or name in self._listed().sparse
        )

    def uses(self, name: str) -> list[Use]:
        """Every node input that reads ``name``, in this scope and in bodies that capture it.

        In order of the nodes. An output of a body that is a name from outside counts as read by
        the body's owner, as its input -1.
        """
        return self.index.sorted_uses(name)

    def any_uses(self, name: str) -> Iterator[Use]:
        """What ``uses`` gives, one by one in no order, for who stops early."""
        return self.index.uses(name)

    def is_read(self, name: str) -> bool:
        """Whether a node reads ``name``, or a body captures it."""
        return next(self.any_uses(name), None) is not None

    def only_use(self, name: str) -> Use | None:
        """The one place that reads ``name``; None for none or several."""
        uses = list(islice(self.any_uses(name), 2))
        return uses[0] if len(uses) == 1 else None

    def first_reader(self, name: str) -> NodeProto | None:
        """The first node of this scope that reads ``name``, itself or in a body."""
        return self.index.first_reader(name)

    def following(self, node: NodeProto) -> NodeProto | None:
        """The node that stands behind ``node``; None for the last one."""
        at = self.index.position(node) + 1
        return self.nodes[at] if at < len(self.nodes) else None

    def captures(self) -> dict[str, list[Use]]:
        """Names that this body reads from the scopes around it, with their uses.

        An output of a body that is an outer name counts as read too; its use is the owner's.
        """
        found = self.index.captured()
        if self.parent is not None and self.owner is not None:
            for name in self.outputs:
                if name and not self.defines(name):
                    found.setdefault(name, []).append(Use(self.parent, self.owner, -1))
        return found

    def reads(self, node: NodeProto) -> list[str]:
        """Names of the tensors that a node reads, itself or in its bodies; some may come twice."""
        names = [name for name in node.input if name]
        for body in self.children(node).values():
            names += body.captures()
        return names

    def ancestors(self, names: Iterable[str], stop: Collection[str] = ()) -> list[NodeProto]:
        """The nodes of this scope that compute ``names`` from those in ``stop``, in order."""
        found: dict[int, NodeProto] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            node = None if name in stop else self.producer(name)
            if node is not None and id(node) not in found:
                found[id(node)] = node
                waiting += self.reads(node)
        return sorted(found.values(), key=self.index.rank)

    def constant(self, name: str) -> Constant | None:
        """The constant behind ``name``: initializer, Constant node or one of these by Identity.

        Looks into the scopes around a body as well. An initializer that is also listed as an
        input counts as constant: its value is what every caller gets who does not override it.
        """
        return constant_behind(self, name)

    # editing

    def touch(self, *nodes: NodeProto) -> None:
        """Take note of what was edited in place: these nodes or, without any, the whole scope."""
        if nodes and self._index is not None:
            for node in nodes:
                self._index.enter_again(node)
        if nodes:
            return
        scope: Scope | None = self
        while scope is not None:
            scope._index = scope._ports = None
            scope = scope.parent

    def add(self, *nodes: NodeProto, before: NodeProto | None = None) -> None:
        """Put nodes in front of ``before``, or at the end; saving sorts them where needed."""
        at = len(self.nodes) if before is None else self.index.position(before)
        self.index.insert(nodes, at)

    def remove(self, nodes: Iterable[NodeProto]) -> None:
        """Take nodes out, with their bodies; what reads their outputs is the caller's care."""
        gone = list(nodes)
        self.index.remove(gone)
        for node in gone:
            self.bodies.pop(id(node), None)

    def replace_uses(self, old: str, new: str) -> None:
        """Let every reader of ``old``, in bodies too, read ``new``; outputs keep their names."""
        for use in list(self.any_uses(old)):
            if use.index >= 0:
                use.scope.set_input(use.node, use.index, new)

    def set_input(self, node: NodeProto, index: int, name: str) -> None:
        """Let input ``index`` of ``node`` read ``name``; missing optional inputs are filled."""
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name
        if self._index is not None:
            self._index.set_input(node, index)

    def set_output(self, node: NodeProto, index: int, name: str) -> None:
        """Let output ``index`` of ``node`` have another name; its readers keep the old one."""
        node.output[index] = name
        if self._index is not None:
            self._index.set_output(node, index)

    def add_input(self, value: onnx.ValueInfoProto) -> None:
        """List one more input."""
        self.proto.input.append(value)
        self._ports = None

    def add_sparse(self, sparse: onnx.SparseTensorProto) -> None:
        """Store an initializer in sparse form."""
        self.proto.sparse_initializer.append(sparse)
        self._ports = None

    def drop_sparse(self, *names: str) -> None:
        """Remove sparse initializers; the list of inputs stays as it is."""
        kept = [each for each in self.proto.sparse_initializer if each.values.name not in names]
        if len(kept) < len(self.proto.sparse_initializer):
            del self.proto.sparse_initializer[:]
            self.proto.sparse_initializer.extend(kept)
            self._ports = None

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

    def drop_initializer(self, *names: str) -> None:
        """Remove initializers, sparse ones too, and their listing as inputs."""
        self.drop_sparse(*names)
        for name in names:
            self.initializers.pop(name, None)
            self.value_infos.drop(name)
        self.drop_inputs(names)

    def drop_inputs(self, names: Collection[str]) -> None:
        """Take names out of the list of inputs."""
        gone = {name for name in names if self.is_input(name)}
        if gone:
            kept = [value for value in self.proto.input if value.name not in gone]
            del self.proto.input[:]
            self.proto.input.extend(kept)
            self._ports = None
