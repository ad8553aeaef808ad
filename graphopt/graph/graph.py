"""The model in memory: scopes of nodes and constants that passes edit in place.

The ONNX messages themselves are the store. What no pass touches is written back as the very
message that was read, so nothing can be lost on the way through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from graphopt.graph import tensors
from graphopt.graph.constant import Constant
from graphopt.graph.copies import copied_part, copied_scope
from graphopt.graph.declared import Annotations, ValueInfos
from graphopt.graph.node import DEFAULT_DOMAIN
from graphopt.graph.order import sorted_nodes
from graphopt.graph.scope import Scope, Use
from graphopt.graph.spill import Spill
from graphopt.graph.tensors import Array

__all__ = ["Constant", "Graph", "Scope", "Use"]

M = TypeVar("M", ModelProto, NodeProto, TensorProto, onnx.ValueInfoProto, onnx.TensorAnnotation)


class Graph:
    """A model that passes edit: scopes over the ONNX messages, weights read when asked for.

    Tensor messages are replaced, never edited in place: copies of a graph share them.

    Args:
        model: The model; it is copied, the caller's stays as it is.
        folder: Where external data lies; None for a model that came as bytes.
        take_over: Empty ``model`` instead of copying it, which spares a copy of the weights.

    Attributes:
        data_files: Files that external data was in when the model was read, whatever has become
            of those weights since; ``graphopt.graph.io.load`` fills it in.
    """

    def __init__(
        self, model: ModelProto, folder: Path | None = None, *, take_over: bool = False
    ) -> None:
        if not take_over:
            given, model = model, ModelProto()
            model.CopyFrom(given)
        self.folder = folder
        self.libraries: tuple[Path, ...] = ()
        """Shared libraries with kernels of the model's own operators; sessions register them."""
        self.main = self._scope(model.graph, None, None)
        self.header = _own(model)  # out of the arena that holds the inline weights
        self.main.proto = self.header.graph
        self.spill = Spill()
        self.spilling = self.weight_bytes > Spill.BOUND_BYTES
        self.came_external = any(map(tensors.is_external, self.tensors()))
        self.data_files: frozenset[Path] = frozenset()
        self._names: dict[str, int] | None = None

    # structure

    def _scope(self, proto: GraphProto, parent: Scope | None, owner: NodeProto | None) -> Scope:
        scope = Scope(
            graph=self,
            proto=proto,
            nodes=[_own(node) for node in proto.node] if parent is None else list(proto.node),
            initializers={tensor.name: _own(tensor) for tensor in proto.initializer},
            parent=parent,
            owner=owner,
            value_infos=ValueInfos(map(_own, proto.value_info)),
            annotations=Annotations(map(_own, proto.quantization_annotation)),
        )
        del proto.value_info[:]
        del proto.quantization_annotation[:]
        del proto.node[:]
        del proto.initializer[:]
        for node in scope.nodes:
            self.read_bodies(scope, node)
        return scope

    def read_bodies(self, scope: Scope, node: NodeProto) -> None:
        """Make scopes of the graphs in the attributes of a node that ``scope`` has or will have."""
        bodies = {
            attribute.name: self._scope(attribute.g, scope, node)
            for attribute in node.attribute
            if attribute.type == AttributeProto.GRAPH and not attribute.ref_attr_name
        }
        if bodies:
            scope.bodies[id(node)] = bodies

    def scopes(self) -> Iterator[Scope]:
        """The main graph, then every body."""
        return self.main.walk()

    @property
    def opset(self) -> int:
        """Version of the default domain; 0 where the model does not import it.

        Of several the last holds, as it does in onnxruntime.
        """
        versions = [o.version for o in self.header.opset_import if o.domain in DEFAULT_DOMAIN]
        return int(versions[-1]) if versions else 0

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
            self._names = dict.fromkeys(self.names(), 0)
        name, count = base, self._names.get(base, 0)
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names[name] = 0
        self._names[base] = count  # names below are taken for good: the next search starts here
        return name

    def names(self) -> Iterator[str]:
        """Names of all tensors and nodes, in bodies too; some come more than once."""
        for scope in self.scopes():
            yield from scope.initializers
            yield from scope.inputs
            yield from scope.outputs
            yield from (v.name for v in scope.value_infos)
            yield from (s.values.name for s in scope.proto.sparse_initializer)
            for node in scope.nodes:
                yield node.name
                yield from node.input
                yield from node.output

    # weights

    def read(self, tensor: TensorProto) -> Array:
        """The values of a tensor of this model.

        Raises:
            ModelError: They do not fit the shape, or external data is unusable.
        """
        path = self.spill.file(tensor)
        if path is not None:
            return tensors.from_file(tensor, path)
        return tensors.to_array(tensor, self.folder)

    def store(self, name: str, values: Array) -> TensorProto:
        """A tensor of this model that holds ``values``; in a private file for a large model.

        Raises:
            SystemFailure: The disk for temporary files is full.
        """
        if self.spilling and values.nbytes >= Spill.TENSOR_BYTES:
            return self.spill.store(name, values)
        return tensors.from_array(name, values)

    def chunks(self, tensor: TensorProto) -> Iterator[bytes]:
        """The bytes of a tensor of this model as they stand in a file, in pieces."""
        path = self.spill.file(tensor)
        if path is not None:
            yield from tensors.file_chunks(tensor, path)
        else:
            yield from tensors.chunks(tensor, self.folder)

    def tensors(self) -> Iterator[TensorProto]:
        """Every tensor message: in attributes, functions and sparse initializers too."""
        yield from tensors.walk(self.header)
        for scope in self.scopes():
            yield from scope.initializers.values()
            for node in scope.nodes:
                yield from tensors.walk(node)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all initializers and Constant nodes, external ones and functions included."""
        held = [tensor for scope in self.scopes() for tensor in scope.tensors()]
        for function in self.header.functions:
            held += tensors.walk(function)
        return sum(map(tensors.stored_bytes, held))

    # back to messages

    def to_model(self) -> ModelProto:
        """The model as one message; external tensors stay references into ``folder``."""
        model = self.references()
        for tensor in tensors.walk(model):
            if self.spill.file(tensor) is not None:
                tensors.fill(tensor, self.chunks(tensor))
        return model

    def references(self) -> ModelProto:
        """The model as one message in which tensors that were spilled stay references too."""
        model = _own(self.header)
        self._fill(self.main, model.graph)
        return model

    def _fill(self, scope: Scope, target: GraphProto) -> None:
        target.initializer.extend(scope.initializers.values())
        target.value_info.extend(scope.value_infos)
        target.quantization_annotation.extend(scope.annotations)
        for node in sorted_nodes(scope):
            written = target.node.add()
            written.CopyFrom(node)
            for attribute in written.attribute:
                body = scope.children(node).get(attribute.name)
                if body is not None:
                    self._fill(body, attribute.g)

    def copy(self) -> Graph:
        """An independent graph of the same folder; tensor messages are shared, not copied."""
        twin = Graph.__new__(Graph)
        twin.become(self)
        return twin

    def part(self, nodes: Sequence[NodeProto]) -> Graph:
        """A copy with some nodes of the main graph and the initializers that these read.

        It costs what is copied, not the graph. Tensor messages are shared; inputs and outputs are
        listed as before.
        """
        twin = Graph.__new__(Graph)
        twin._share(self)
        twin.main = copied_part(self.main, twin, twin.header.graph, nodes)
        return twin

    def become(self, other: Graph) -> None:
        """Take on the state of ``other``, which stays as it is."""
        self._share(other)
        self.main = copied_scope(other.main, self, self.header.graph)

    def _share(self, other: Graph) -> None:
        """Take on all but the main graph."""
        self.folder, self.came_external = other.folder, other.came_external
        self.data_files, self.libraries = other.data_files, other.libraries
        self.spill, self.spilling = other.spill, other.spilling
        self.header = _own(other.header)
        self._names = None


def _own(message: M) -> M:
    """A copy that does not keep alive the memory of the message around it."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
