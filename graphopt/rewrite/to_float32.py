"""A graph that computes in float32 what it computes in floats of other widths."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from onnx import AttributeProto, NodeProto, TensorProto, TypeProto
from onnx.helper import make_node

from graphopt.facts.float_region import float_region
from graphopt.facts.operators import TYPE_ATTRIBUTES, find
from graphopt.facts.shapes import Shapes, infer
from graphopt.graph.calls import nested
from graphopt.graph.constant import Constant, constant_tensor
from graphopt.graph.graph import Graph, Scope, Use
from graphopt.graph.node import attribute, in_default_domain, is_op, label
from graphopt.graph.tensors import from_array
from graphopt.graph.unfold import inlined
from graphopt.numerics.floats import to_float32
from graphopt.rewrite.edit import bypass, redirect
from graphopt.rewrite.half_weights import HALVES

__all__ = ["NotConverted", "compute_in_float32", "type_names"]

_FLOAT = TensorProto.FLOAT
_CAST_BYTES = 24
"""Of a Cast in a file beside its two names: tags, lengths, and what its name is longer."""
_PORTS = ("sequence_type", "optional_type", "map_type")


class NotConverted(Exception):  # noqa: N818 - no failure: the graph simply stays as it is
    """Why the graph was not converted, as a phrase."""


def type_names(kinds: Collection[int]) -> str:
    """Names of element types, as a phrase."""
    return " and ".join(TensorProto.DataType.Name(kind).lower() for kind in sorted(kinds))


def compute_in_float32(
    graph: Graph,
    kinds: Collection[int],
    shapes: Shapes,
    around: Collection[str] | None = None,
    *,
    tidy: bool = True,
) -> list[tuple[str, str]]:
    """Compute in float32 what is computed in these types; inputs and outputs keep theirs.

    Half floats stay stored as such, behind a Cast that a runtime folds as it loads the model, where
    the file is not larger by that; other constants become float32.

    Args:
        graph: Edited in place, bodies included.
        kinds: Element types, of float16, bfloat16 and double.
        shapes: Types of its tensors.
        around: Tensors of these types: what hangs together with none of them stays as it is, such
            as arithmetic on shapes. None for everything.
        tidy: Remove Casts that have nothing to do any more, with the tensors that they made.

    Returns:
        What was edited, and how.

    Raises:
        NotConverted: It holds something that takes no other type; nothing is edited.
    """
    region = float_region(graph, kinds, shapes, around)
    if not region:
        return []
    calls = list[tuple[str, str]]()
    whole = graph
    if any(_fixed_in(function.node, kinds) for function in graph.header.functions):
        whole = inlined(graph)
        shapes, calls = infer(whole), [("model", "local functions put where they are called")]
        region = float_region(whole, kinds, shapes, around)
    _check(whole, kinds, shapes, region)
    if whole is not graph:
        graph.become(whole)
    conversion = _Conversion(graph, frozenset(kinds), shapes, region)
    return [*calls, *conversion.edits(), *(conversion.idle_removed() if tidy else ())]


def _fixed_in(nodes: Iterable[NodeProto], kinds: Collection[int]) -> bool:
    """Whether an attribute of the nodes of a function makes something one of these types."""
    return any(_fixes(item, kinds) for node in nested(nodes) for item in node.attribute)


def _check(graph: Graph, kinds: Collection[int], shapes: Shapes, region: Collection[str]) -> None:
    for value in (*graph.main.proto.input, *graph.main.proto.output):
        readers = (use.node for use in graph.main.any_uses(value.name))
        touches = value.name in region or any(n in region for r in readers for n in r.output)
        if touches and value.type.WhichOneof("value") in _PORTS and _mentions(value.type, kinds):
            raise NotConverted(f"{value.name!r} is no tensor but holds {type_names(kinds)}")
    for function in graph.header.functions:
        if _fixed_in(function.node, kinds):
            name = f"{function.domain}:{function.name}"
            raise NotConverted(f"the local function {name} holds {type_names(kinds)}")
    local = {(item.domain, item.name) for item in graph.header.functions}
    for scope in graph.scopes():
        for node in scope.nodes:
            known = find(node) is not None or (node.domain, node.op_type) in local
            if known and not is_op(node, "BitCast"):
                continue
            ours = any(name in region for name in (*node.input, *node.output))
            infos = [shapes.get(name) for name in node.input if name]
            read = {0 if info is None else info.data_type for info in infos}
            if ours and (read & {0, *kinds} or any(n in region for n in node.output)):
                domain = "" if in_default_domain(node) else f"{node.domain}:"
                name = f"{label(node)!r} ({domain}{node.op_type})"
                raise NotConverted(f"{name} may take no float32")


def _mentions(kind: TypeProto, kinds: Collection[int]) -> bool:
    """Whether a type is, or holds, tensors of these types."""
    which = kind.WhichOneof("value")
    if which == "map_type":
        return _mentions(kind.map_type.value_type, kinds)
    if which in ("sequence_type", "optional_type"):
        return _mentions(getattr(kind, which).elem_type, kinds)
    return which is not None and getattr(kind, which).elem_type in kinds


def _fixes(item: AttributeProto, kinds: Collection[int]) -> bool:
    """Whether an attribute makes something one of these types."""
    if item.type == AttributeProto.TENSOR:
        return item.t.data_type in kinds
    if item.type == AttributeProto.TYPE_PROTO:
        return _mentions(item.tp, kinds)
    return item.name in TYPE_ATTRIBUTES and item.i in kinds


class _Conversion:
    """One conversion: of the tensors of a region, and of the constants that it reads."""

    def __init__(
        self, graph: Graph, kinds: frozenset[int], shapes: Shapes, region: Collection[str]
    ) -> None:
        self.graph, self.kinds, self.shapes, self.region = graph, kinds, shapes, set(region)

    def edits(self) -> Iterator[tuple[str, str]]:
        scopes = list(self.graph.scopes())
        for scope in scopes:
            for constant in list(self._constants(scope)):
                if told := self._constant(scope, constant):
                    yield constant.origin, told
        yield from self._ports()
        for scope in scopes:
            self._declare(scope)
            for node in scope.nodes:
                if self._retype(node):
                    yield label(node), "gives float"

    def idle_removed(self) -> Iterator[tuple[str, str]]:
        for scope in self.graph.scopes():
            for node in list(scope.nodes):
                if self._idle(node) and bypass(scope, node, node.input[0], node.output[0]):
                    yield label(node), "removed: what it reads is float already"

    def _ports(self) -> Iterator[tuple[str, str]]:
        main = self.graph.main
        for value in main.proto.input:
            if _mentions(value.type, self.kinds) and self._read_as_float(main, value.name):
                yield value.name, "an input, cast to float"
        for value in main.proto.output:
            if _mentions(value.type, self.kinds) and self._give_out(value.name, value.type):
                yield value.name, "an output, cast from float"

    # constants

    def _constants(self, scope: Scope) -> Iterator[Constant]:
        """Those of these types, but for inputs that have a default."""
        for name, tensor in scope.initializers.items():
            if tensor.data_type in self.kinds and not scope.is_input(name):
                yield Constant(name, scope, name, None, tensor)
        for sparse in scope.proto.sparse_initializer:
            if sparse.values.data_type in self.kinds:
                name = sparse.values.name
                yield Constant(name, scope, name, None, sparse.values)
        for node in scope.nodes:
            held = constant_tensor(node) if is_op(node, "Constant") else None
            if held is not None and held.data_type in self.kinds:
                yield Constant(node.output[0], scope, node.output[0], node, held)

    def _constant(self, scope: Scope, constant: Constant) -> str:
        """Let a constant be read as float32; what was done, empty where nothing had to be."""
        if not any(map(self._takes_float, scope.any_uses(constant.origin))) and (
            scope.parent is None or not scope.is_output(constant.origin)
        ):
            return ""
        if self._stays(scope, constant):
            self._read_as_float(scope, constant.origin)
            return "stays as it is, behind a Cast"
        constant.set(to_float32(constant.values))
        return "stored as float"

    def _stays(self, scope: Scope, constant: Constant) -> bool:
        """Whether a constant keeps its type: others ask for it, or it takes fewer bytes so."""
        name = constant.origin
        if scope.is_output(name):
            return scope.parent is None
        if constant.node is None and name not in scope.initializers:  # it is sparse
            return True
        if not all(map(self._takes_float, scope.any_uses(name))):
            return True
        cast = self._cast(name, name).ByteSize() + _CAST_BYTES
        return constant.data_type in HALVES and constant.nbytes > cast

    # tensors that keep their type

    def _read_as_float(self, scope: Scope, name: str) -> bool:
        """Put a Cast behind a tensor that keeps its type, for all that is to read float32."""
        uses = [use for use in scope.uses(name) if self._takes_float(use)]
        if not uses:
            return False
        floats = self._new(name)
        scope.add(self._cast(name, floats), before=scope.first_reader(name))
        redirect(uses, floats)
        return True

    def _takes_float(self, use: Use) -> bool:
        """Whether a reader is to read float32; a Cast to a type that stays reads what there is."""
        casts = is_op(use.node, "Cast") and attribute(use.node, "to", 0) not in self.kinds
        return not casts and self._is_inside(use.node)

    def _is_inside(self, node: NodeProto) -> bool:
        """Whether a node reads or makes a tensor of the region."""
        return any(name in self.region for name in (*node.output, *node.input))

    def _cast(self, source: str, output: str, to: int = _FLOAT) -> NodeProto:
        return make_node("Cast", [source], [output], to=to)

    def _give_out(self, name: str, kind: TypeProto) -> bool:
        """Cast what an output of the model is computed as to the type of the output."""
        scope, to = self.graph.main, kind.tensor_type.elem_type
        node = scope.producer(name)
        if node is None or name not in self.region:
            return False
        if is_op(node, "Cast") and not scope.is_read(name):
            self.region.remove(name)
            return False
        floats = self._new(name)
        scope.set_output(node, list(node.output).index(name), floats)
        scope.replace_uses(name, floats)
        scope.annotations.rename(name, floats)
        scope.add(self._cast(floats, name, to), before=scope.following(node))
        self.region.remove(name)
        return True

    def _new(self, name: str) -> str:
        """A name for the float32 form of a tensor."""
        floats = self.graph.unique_name(f"{name}_float32")
        self.region.add(floats)
        return floats

    # all others

    def _declare(self, scope: Scope) -> None:
        """Declare float32 for tensors between and for what bodies take and give."""
        for value in list(scope.value_infos):
            if value.name in self.region and _mentions(value.type, self.kinds):
                scope.value_infos.retype(value.name, self._as_float(value.type))
        if scope.parent is not None:
            for value in (*scope.proto.input, *scope.proto.output):
                ours = value.name in self.region or value.name in scope.initializers
                if ours and _mentions(value.type, self.kinds):
                    value.type.CopyFrom(self._as_float(value.type))

    def _as_float(self, kind: TypeProto) -> TypeProto:
        made = TypeProto()
        made.CopyFrom(kind)
        at = made
        while (which := at.WhichOneof("value")) in _PORTS:
            at = at.map_type.value_type if which == "map_type" else getattr(at, which).elem_type
        getattr(at, at.WhichOneof("value")).elem_type = _FLOAT
        return made

    def _retype(self, node: NodeProto) -> bool:
        """Let a node whose attributes say what type it makes make float32."""
        if is_op(node, "Constant") or not any(name in self.region for name in node.output):
            return False
        given = [item for item in node.attribute if _fixes(item, self.kinds)]
        for item in given:
            if item.type == AttributeProto.TENSOR:
                values = to_float32(self.graph.read(item.t))
                item.t.CopyFrom(from_array(item.t.name, values))
            elif item.type == AttributeProto.TYPE_PROTO:
                item.tp.CopyFrom(self._as_float(item.tp))
            else:
                item.i = _FLOAT
        return bool(given)

    def _idle(self, node: NodeProto) -> bool:
        """Whether a node casts to float32 what is float32 by now."""
        if not is_op(node, "Cast") or attribute(node, "to", 0) != _FLOAT:
            return False
        info = self.shapes.get(node.input[0])
        if node.input[0] in self.region:
            return info is None or info.data_type in (_FLOAT, *self.kinds)
        return info is not None and info.data_type == _FLOAT
