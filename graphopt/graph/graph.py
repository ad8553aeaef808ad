"""The model in memory: scopes of nodes and constants that passes edit in place.

The ONNX messages themselves are the store. What no pass touches is written back as the very
message that was read, so nothing can be lost on the way through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from graphopt.graph import tensors
from graphopt.graph.tensors import Array

__all__ = ["Constant", "Graph", "Scope", "Use", "label"]

_FOLLOWED = 8  # Identity nodes between a constant and its reader that are looked through


def label(node: NodeProto) -> str:
    """How a node is called in reports: its name, or its type and first output."""
    return str(node.name) or f"{node.op_type}({next(iter(node.output), '')})"


@dataclass(frozen=True)
class Use:
    """One place where a tensor is read: input ``index`` of ``node`` in ``scope``."""

    scope: Scope
    node: NodeProto
    index: int


@dataclass(frozen=True)
class Constant:
    """A value known at build time, wherever the file keeps it.

    ``name`` is the tensor that the reader asked for; ``scope`` and ``origin`` say where it lives:
    an initializer of that name, or the output of a Constant node.
    """

    name: str
    scope: Scope
    origin: str
    node: NodeProto | None
    tensor: TensorProto

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.dims)

    @property
    def data_type(self) -> int:
        """ONNX element type (``TensorProto.DataType``)."""
        return int(self.tensor.data_type)

    @property
    def nbytes(self) -> int:
        return tensors.stored_bytes(self.tensor)

    @property
    def overridable(self) -> bool:
        """Whether it is an initializer listed as an input, so that a caller may replace it."""
        return self.node is None and self.origin in self.scope.inputs

    @property
    def values(self) -> Array:
        """The array, read anew at each access (external data is not kept)."""
        return self.scope.graph.read(self.tensor)


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

    # looking things up

    def producer(self, name: str) -> NodeProto | None:
        """The node of this scope that computes ``name``; None for inputs and initializers."""
        if self._producers is None:
            self._producers = {out: node for node in self.nodes for out in node.output if out}
        return self._producers.get(name)

    def defines(self, name: str) -> bool:
        """Whether ``name`` is an input, initializer or node output of this very scope."""
        return name in self.initializers or name in self.inputs or self.producer(name) is not None

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
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                tensor = _constant_tensor(node)
                return None if tensor is None else Constant(asked, home, name, node, tensor)
            if node.op_type != "Identity" or node.domain not in ("", "ai.onnx"):
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
        self.initializers[unique] = self.graph.store(unique, values)
        return unique

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
        home.retype(origin, values)
        home.touch()

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


def _constant_tensor(node: NodeProto) -> TensorProto | None:
    """The value of a Constant node as a tensor; None for sparse values and references."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            return None
        if attribute.name == "value":
            return attribute.t
        if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
            value = onnx.helper.get_attribute_value(attribute)
            kind = TensorProto.FLOAT if "float" in attribute.name else TensorProto.INT64
            listed = list(value) if attribute.name.endswith("s") else [value]
            dims = [len(listed)] if attribute.name.endswith("s") else []
            return onnx.helper.make_tensor(node.output[0], kind, dims, listed)
    return None


class Graph:
    """A model that passes edit: scopes over the ONNX messages, weights read when asked for.

    Args:
        model: The model; it is copied, the caller's stays as it is.
        folder: Where external data lies; None for a model that came as bytes.
    """

    def __init__(self, model: ModelProto, folder: Path | None = None) -> None:
        self.folder = folder
        self.header = ModelProto()
        self.header.CopyFrom(model)
        self._root = self.header.graph  # keeps the messages that the scopes point to alive
        self.main = self._scope(self._root, None, None)
        self._names: set[str] | None = None

    # structure

    def _scope(self, proto: GraphProto, parent: Scope | None, owner: NodeProto | None) -> Scope:
        scope = Scope(
            graph=self,
            proto=proto,
            nodes=list(proto.node),
            initializers={tensor.name: tensor for tensor in proto.initializer},
            parent=parent,
            owner=owner,
        )
        del proto.node[:]
        del proto.initializer[:]
        for node in scope.nodes:
            bodies = {
                attribute.name: self._scope(attribute.g, scope, node)
                for attribute in node.attribute
                if attribute.type == AttributeProto.GRAPH and not attribute.ref_attr_name
            }
            if bodies:
                scope.bodies[id(node)] = bodies
        return scope

    def scopes(self) -> Iterator[Scope]:
        """The main graph, then every body."""
        return self.main.walk()

    @property
    def opset(self) -> int:
        """Version of the default domain; 0 where the model does not import it."""
        versions = [o.version for o in self.header.opset_import if o.domain in ("", "ai.onnx")]
        return int(max(versions, default=0))

    @property
    def required_inputs(self) -> list[onnx.ValueInfoProto]:
        """Inputs that a caller must feed: those that no initializer gives a default."""
        main = self.main
        sparse = {s.values.name for s in main.proto.sparse_initializer}
        return [
            value
            for value in main.proto.input
            if value.name not in main.initializers and value.name not in sparse
        ]

    def unique_name(self, base: str) -> str:
        """``base``, or ``base_1`` and so on: a tensor or node name that no scope has yet."""
        if self._names is None:
            self._names = set(self._all_names())
        name, count = base, 0
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def _all_names(self) -> Iterator[str]:
        for scope in self.scopes():
            yield from scope.initializers
            yield from scope.inputs
            yield from scope.outputs
            yield from (v.name for v in scope.proto.value_info)
            yield from (s.values.name for s in scope.proto.sparse_initializer)
            for node in scope.nodes:
                yield node.name
                yield from node.input
                yield from node.output

    # weights

    def read(self, tensor: TensorProto) -> Array:
        """The values of a tensor of this model."""
        return tensors.to_array(tensor, self.folder)

    def store(self, name: str, values: Array) -> TensorProto:
        """A tensor of this model that holds ``values``."""
        return tensors.from_array(name, values)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all initializers, external ones included."""
        return sum(
            tensors.stored_bytes(tensor)
            for scope in self.scopes()
            for tensor in scope.initializers.values()
        )

    # back to messages

    def to_model(self) -> ModelProto:
        """The model as one message; external tensors stay references into ``folder``."""
        model = ModelProto()
        model.CopyFrom(self.header)
        self._fill(self.main, model.graph)
        return model

    def _fill(self, scope: Scope, target: GraphProto) -> None:
        target.initializer.extend(scope.initializers.values())
        for node in sorted_nodes(scope):
            written = target.node.add()
            written.CopyFrom(node)
            for attribute in written.attribute:
                body = scope.children(node).get(attribute.name)
                if body is not None:
                    self._fill(body, attribute.g)

    def copy(self) -> Graph:
        """An independent graph of the same folder."""
        return Graph(self.to_model(), self.folder)


def sorted_nodes(scope: Scope) -> list[NodeProto]:
    """The nodes so that each comes after those it reads; the order is kept where it is valid."""
    made = {out for node in scope.nodes for out in node.output if out}
    done: set[str] = set()
    waiting: dict[str, list[int]] = {}
    missing: list[int] = []
    order: list[NodeProto] = []
    for index, node in enumerate(scope.nodes):
        reads = {name for name in node.input if name in made}
        for body in scope.children(node).values():
            reads |= {name for name in body.captures() if name in made}
        lacking = reads - done
        missing.append(len(lacking))
        for name in lacking:
            waiting.setdefault(name, []).append(index)
        if not lacking:
            _release(index, scope.nodes, order, done, waiting, missing)
    if len(order) != len(scope.nodes):  # a cycle: the checker names it better than we could
        return list(scope.nodes)
    return order


def _release(
    first: int,
    nodes: list[NodeProto],
    order: list[NodeProto],
    done: set[str],
    waiting: dict[str, list[int]],
    missing: list[int],
) -> None:
    """Put a node in order, then every earlier one that waited for its outputs only."""
    ready = [first]
    while ready:
        node = nodes[ready.pop()]
        order.append(node)
        for out in node.output:
            done.add(out)
            for index in waiting.pop(out, ()):
                missing[index] -= 1
                if missing[index] == 0:
                    ready.append(index)
