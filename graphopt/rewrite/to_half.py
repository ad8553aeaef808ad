"""Nodes that compute in floats of 16 bits instead of 32, with as few Casts as that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from onnx import NodeProto, TensorProto, TypeProto
from onnx.helper import make_node

from graphopt.facts.half_nodes import HalfNode, made_by_attribute
from graphopt.facts.operators import TYPE_ATTRIBUTES, is_kind
from graphopt.facts.shapes import Shapes
from graphopt.graph.constant import Constant, constants_of
from graphopt.graph.graph import Graph, Scope, Use
from graphopt.graph.node import attribute, is_op, label
from graphopt.graph.tensors import from_array
from graphopt.numerics.halves import HalfFormat
from graphopt.rewrite.edit import bypass, forget, redirect
from graphopt.rewrite.values import drop_unread

__all__ = ["compute_in_half", "store_in_half"]

_FLOAT = TensorProto.FLOAT
_COPIED = 1024
"""Bytes of a constant that is stored in both types where both are read; a larger one is cast."""
_CAST_BYTES = 64
"""Of a Cast with its names in a file: a constant that saves no more stays float32."""


def compute_in_half(
    graph: Graph, nodes: Iterable[HalfNode], form: HalfFormat, shapes: Shapes, *, ports: bool
) -> list[tuple[str, str]]:
    """Let nodes compute in floats of 16 bits, and cast where they meet others.

    A tensor is cast once for all its readers, constants are stored in the new type, and what can
    be made in any type, as by a Cast, is made in the new one.

    Args:
        graph: Edited in place, bodies included.
        nodes: Those that change; what they read and make in float32 becomes halves.
        form: The type.
        shapes: Types of its tensors as they were.
        ports: Let inputs and outputs of the model that these nodes read and make change as well;
            else they keep their type, behind Casts.

    Returns:
        What was edited, and how.
    """
    return list(_Conversion(graph, list(nodes), form, shapes, ports).edits())


def store_in_half(
    graph: Graph, form: HalfFormat, unfit: Callable[[Constant], str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Store float32 constants in 16 bits, behind a Cast that a runtime folds as it loads the model.

        W float32 -> Conv      becomes      W float16 -> Cast -> Conv

    Left alone are scales of codes, what a caller may replace, what is an output, and what saves
    fewer bytes than a Cast takes.

    Args:
        graph: Edited in place, bodies included.
        form: The type.
        unfit: Why a constant has to stay as it is; empty where it need not.

    Returns:
        The names of those stored so, and the others with the reason.
    """
    stored, kept = list[str](), list[tuple[str, str]]()
    kind = TensorProto.DataType.Value(form.name.upper())
    for scope in graph.scopes():
        for constant in list(constants_of(scope)):
            name = constant.origin
            uses = scope.uses(name)
            if constant.data_type != _FLOAT or constant.overridable or constant.sparse is not None:
                continue
            if constant.nbytes // 2 <= _CAST_BYTES or not uses or scope.is_output(name):
                continue
            if any(use.index < 0 or is_kind(use.node, "quantize", "integer") for use in uses):
                continue
            if reason := unfit(constant):
                kept.append((name, reason))
                continue
            first = scope.first_reader(name)
            floats = graph.unique_name(f"{name}_float32")
            constant.set(form.rounded(constant.values))
            scope.value_infos.retype(name, _tensor_type(kind, constant.shape))
            scope.add(make_node("Cast", [name], [floats], to=_FLOAT), before=first)
            redirect(uses, floats)
            stored.append(name)
    return stored, kept


def _tensor_type(kind: int, shape: tuple[int, ...]) -> TypeProto:
    made = TypeProto()
    made.tensor_type.elem_type = kind
    made.tensor_type.shape.SetInParent()
    for size in shape:
        made.tensor_type.shape.dim.add(dim_value=size)
    return made


class _Conversion:
    """One conversion.

    Args: see ``compute_in_half``.
    """

    def __init__(
        self,
        graph: Graph,
        nodes: list[HalfNode],
        form: HalfFormat,
        shapes: Shapes,
        ports: bool,
    ) -> None:
        self.graph, self.nodes, self.form = graph, nodes, form
        self.shapes, self.ports = shapes, ports
        self.kind = int(TensorProto.DataType.Value(form.name.upper()))
        self.reads = {(id(each.node), index) for each in nodes for index in each.reads}
        self.made = {
            (id(each.scope), each.node.output[index]) for each in nodes for index in each.makes
        }

    def edits(self) -> Iterator[tuple[str, str]]:
        for each in self.nodes:
            yield label(each.node), f"computes in {self.form.name}"
        constants, tensors = self._read()
        for constant, uses in constants:
            yield constant.origin, self._constant(constant, uses)
        for home, name, uses in tensors:
            yield name, self._cast_in(home, name, uses)
        for each in self.nodes:
            for index in each.makes:
                if each.node.output[index] and (told := self._cast_out(each, index)):
                    yield each.node.output[index], told
        for scope in list(self.graph.scopes()):
            for node in list(scope.nodes):
                if self._idle(scope, node) and bypass(scope, node, node.input[0], node.output[0]):
                    yield label(node), f"removed: what it reads is {self.form.name} already"

    def _read(
        self,
    ) -> tuple[list[tuple[Constant, list[Use]]], list[tuple[Scope, str, list[Use]]]]:
        """Constants and tensors that halves are needed of, with who needs them."""
        constants = dict[tuple[int, str], tuple[Constant, list[Use]]]()
        tensors = dict[tuple[int, str], tuple[Scope, str, list[Use]]]()
        for each in self.nodes:
            for index in each.reads:
                name, use = each.node.input[index], Use(each.scope, each.node, index)
                constant = each.scope.constant(name)
                if constant is not None and not constant.overridable:
                    key = (id(constant.scope), constant.origin)
                    constants.setdefault(key, (constant, []))[1].append(use)
                    continue
                home = _home(each.scope, name)
                if (id(home), name) not in self.made:
                    tensors.setdefault((id(home), name), (home, name, []))[2].append(use)
        return list(constants.values()), list(tensors.values())

    def _constant(self, constant: Constant, uses: list[Use]) -> str:
        """Store a constant in 16 bits, for those that read halves."""
        home, origin, form = constant.scope, constant.origin, self.form
        others = [use for use in home.uses(origin) if (id(use.node), use.index) not in self.reads]
        halves = form.rounded(constant.values)
        if not others and not home.is_output(origin):
            constant.set(halves)
            return f"stored as {form.name}"
        name = home.add_constant(f"{origin}_{form.name}", halves)
        redirect(uses, name)
        fixed = home.is_output(origin) or any(use.index < 0 for use in others)
        if fixed or constant.nbytes <= _COPIED:
            drop_unread(home, [origin])
            return f"stored as {form.name} as well"
        floats = self.graph.unique_name(f"{origin}_float32")
        home.add(self._cast(name, floats, _FLOAT), before=home.first_reader(origin))
        redirect(others, floats)
        drop_unread(home, [origin])
        return f"stored as {form.name}, and cast for those that read float32"

    def _cast_in(self, home: Scope, name: str, uses: list[Use]) -> str:
        """Make halves of a tensor that no converted node makes."""
        form = self.form.name
        if self.ports and home.parent is None and home.is_input(name) and not home.holds(name):
            self._retype_port(home, name)
            others = [use for use in home.uses(name) if not self._takes(use)]
            self._cast_for(home, name, others)
            return f"an input, {form} now"
        maker = home.producer(name)
        halves = self.graph.unique_name(f"{name}_{form}")
        first = home.first_reader(name)
        if maker is None or not _retypable(maker):
            home.add(self._cast(name, halves, self.kind), before=first)
            redirect(uses, halves)
            return f"cast to {form}"
        if is_op(maker, "Cast") and self._is_half(home, maker.input[0]):
            redirect(uses, maker.input[0])
            self._drop(home, maker)
            return f"read as the {form} that it is made of"
        other = NodeProto()
        other.CopyFrom(maker)
        other.output[0] = halves
        other.name = self.graph.unique_name(f"{label(maker)}_{form}") if maker.name else ""
        self._retype(other)
        home.add(other, before=home.following(maker))
        redirect(uses, halves)
        self._drop(home, maker)
        return f"made in {form}"

    def _drop(self, scope: Scope, node: NodeProto) -> None:
        """Remove a node whose only result nobody reads any more."""
        name = node.output[0]
        if not scope.is_read(name) and not scope.is_output(name):
            scope.remove([node])
            forget(scope, [name])

    def _is_half(self, scope: Scope, name: str) -> bool:
        constant, info = scope.constant(name), self.shapes.get(name)
        if constant is not None:
            return constant.data_type == self.kind
        return info is not None and info.data_type == self.kind

    def _cast_out(self, each: HalfNode, index: int) -> str:
        """Let those that take float32 have it of a tensor that is made in halves."""
        scope, node, form = each.scope, each.node, self.form.name
        name = node.output[index]
        others = [use for use in scope.uses(name) if not self._takes(use)]
        if scope.is_output(name) and not (self.ports and scope.parent is None):
            halves = self.graph.unique_name(f"{name}_{form}")
            inner = [use for use in scope.uses(name) if self._takes(use)]
            scope.set_output(node, index, halves)
            redirect(inner, halves)
            self.made.add((id(scope), halves))
            cast = self._cast(halves, name, _FLOAT)
            scope.add(cast, before=scope.following(node))
            return "cast to float32"
        if scope.is_output(name):
            self._retype_port(scope, name)
        for value in [value for value in scope.value_infos if value.name == name]:
            kind = TypeProto()
            kind.CopyFrom(value.type)
            kind.tensor_type.elem_type = self.kind
            scope.value_infos.retype(name, kind)
        return self._cast_for(scope, name, others)

    def _cast_for(self, scope: Scope, name: str, uses: list[Use]) -> str:
        """Let some readers of halves read float32."""
        if not uses:
            return ""
        floats = self.graph.unique_name(f"{name}_float32")
        maker = scope.producer(name)
        behind = scope.first_reader(name) if maker is None else scope.following(maker)
        scope.add(self._cast(name, floats, _FLOAT), before=behind)
        redirect(uses, floats)
        return "cast to float32"

    def _takes(self, use: Use) -> bool:
        """Whether a reader takes halves: it changes too, or casts whatever it is given."""
        return (id(use.node), use.index) in self.reads or is_op(use.node, "Cast")

    def _cast(self, source: str, output: str, to: int) -> NodeProto:
        return make_node("Cast", [source], [output], to=to)

    def _retype(self, node: NodeProto) -> None:
        """Let a node whose attribute says what type it makes make halves."""
        for item in node.attribute:
            if item.name in TYPE_ATTRIBUTES:
                item.i = self.kind
            elif item.name == "value":
                values = self.form.rounded(self.graph.read(item.t))
                item.t.CopyFrom(from_array(item.t.name, values))

    def _retype_port(self, scope: Scope, name: str) -> None:
        for value in (*scope.proto.input, *scope.proto.output):
            if value.name == name:
                value.type.tensor_type.elem_type = self.kind

    def _idle(self, scope: Scope, node: NodeProto) -> bool:
        """Whether a node casts to halves what is made in halves by now."""
        if not is_op(node, "Cast") or attribute(node, "to", 0) != self.kind:
            return False
        return (id(_home(scope, node.input[0])), node.input[0]) in self.made


def _home(scope: Scope, name: str) -> Scope:
    """The scope that defines a name which is read in ``scope``."""
    while scope.parent is not None and not scope.defines(name):
        scope = scope.parent
    return scope


def _retypable(node: NodeProto) -> bool:
    """Whether the same node with another attribute makes the same in halves."""
    if is_op(node, "ConstantOfShape"):
        return bool(node.attribute)
    return made_by_attribute(node) and is_op(node, "Cast")
