"""Calls of local functions replaced by the nodes that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto

from graphopt.graph.calls import MOST_UNFOLDED, CallKey, call_key, functions_of, nested, unfolded
from graphopt.graph.function_copy import FunctionCopy
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import DEFAULT_DOMAIN, is_op, plain_domain, versions_of
from graphopt.graph.schemas import means_the_same
from graphopt.graph.tensors import stored_bytes

__all__ = ["Unfolder", "drop_uncalled", "inlined"]

_SHARED_BYTES = 64
"""Constants from this size on are stored once for all calls of a function."""


def inlined(graph: Graph) -> Graph:
    """A copy in which every call that can be is unfolded; the graph itself without any call.

    For counting and comparing: what is in functions is then where every other node is.
    """
    functions = functions_of(graph.header)
    nodes = [node for scope in graph.scopes() for node in scope.nodes]
    if not any(call_key(node) in functions for node in nodes):
        return graph
    if unfolded(graph.header, nodes).nodes > MOST_UNFOLDED:
        return graph
    copy = graph.copy()
    unfolder = Unfolder(copy)
    for scope in list(copy.scopes()):
        waiting = [(scope, node) for node in scope.nodes]
        while waiting:
            place, node = waiting.pop()
            if unfolder.calls(node) and not unfolder.obstacle(place, node):
                waiting += unfolder.unfold(place, node)
    drop_uncalled(copy)
    return copy


def drop_uncalled(graph: Graph) -> list[str]:
    """Remove the functions that nothing calls, and the operator sets that only they belong to.

    Returns:
        Their names.
    """
    header, functions = graph.header, functions_of(graph.header)
    nodes = [node for scope in graph.scopes() for node in scope.nodes]
    called: set[CallKey] = set()
    waiting = list(nodes)
    while waiting:
        key = call_key(waiting.pop())
        if key in functions and key not in called:
            called.add(key)
            waiting += nested(functions[key].node)
    gone = [function for key, function in functions.items() if key not in called]
    kept = [function for key, function in functions.items() if key in called]
    if not gone:
        return []
    del header.functions[:]
    header.functions.extend(kept)
    used = {node.domain for node in nodes}
    used.update(node.domain for function in kept for node in nested(function.node))
    left = {function.domain for function in gone} - used - set(DEFAULT_DOMAIN)
    imports = [item for item in header.opset_import if item.domain not in left]
    del header.opset_import[:]
    header.opset_import.extend(imports)
    return [function.name for function in gone]


@dataclass
class Unfolder:
    """Unfolds calls in one graph.

    Large constants of a function become initializers that all its calls share.
    """

    graph: Graph
    _functions: Mapping[CallKey, FunctionProto] = field(init=False)
    _shared: dict[tuple[CallKey, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._functions = functions_of(self.graph.header)

    def calls(self, node: NodeProto) -> bool:
        """Whether a node calls a local function."""
        return call_key(node) in self._functions

    def function(self, node: NodeProto) -> FunctionProto:
        """The function that a node calls."""
        return self._functions[call_key(node)]

    def obstacle(self, scope: Scope, node: NodeProto) -> str:
        """Why a call cannot be unfolded here; empty where it can."""
        function = self.function(node)
        if scope.children(node):
            return "it is handed a graph as an attribute"
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            return f"it does not fit its function {function.name}"
        return self._other_version(function)

    def _other_version(self, function: FunctionProto) -> str:
        """Which operator means something else in the model than in the function, if any."""
        ours = versions_of(self.graph.header.opset_import)
        for domain, version in versions_of(function.opset_import).items():
            used = [n for n in nested(function.node) if plain_domain(n.domain) == domain]
            other = ours.get(domain, version)
            if domain:
                if used and other != version:
                    return f"it is written for version {version} of {domain}, the model for {other}"
                continue
            for node in used:
                if not means_the_same(node, version, other):
                    return (
                        f"it is written for opset {version}, the model for {other}, "
                        f"in which {node.op_type} is another"
                    )
        return ""

    def unfold(self, scope: Scope, call: NodeProto) -> list[tuple[Scope, NodeProto]]:
        """Put the nodes of a function in place of a call.

        The outputs of the call keep their names; all other names are made unique.

        Args:
            scope: Where the call stands.
            call: It has no ``obstacle``.

        Returns:
            The new nodes with their scopes, those of bodies too.
        """
        function = self.function(call)
        self._import(function)
        copier = FunctionCopy(self.graph, call, function)
        made: list[NodeProto] = []
        for inner in function.node:
            if self._is_shared(inner, function):
                copier.names[inner.output[0]] = self._initializer(call, function, inner)
            else:
                made.append(copier.node(inner))
        place = scope.following(call)
        scope.remove([call])
        made += copier.outputs(made)
        for node in made:
            self.graph.read_bodies(scope, node)
        scope.add(*made, before=place)
        inside = [body for node in made for child in scope.children(node).values()
                  for body in child.walk()]  # fmt: skip
        return [
            *((scope, node) for node in made),
            *((body, node) for body in inside for node in body.nodes),
        ]

    def _import(self, function: FunctionProto) -> None:
        """Let the model know the operator sets that the nodes of a function belong to."""
        ours = versions_of(self.graph.header.opset_import)
        used = {plain_domain(node.domain) for node in nested(function.node)}
        for domain, version in versions_of(function.opset_import).items():
            if domain in used and domain not in ours:
                self.graph.header.opset_import.add(domain=domain, version=version)

    def _is_shared(self, node: NodeProto, function: FunctionProto) -> bool:
        """Whether a node is a Constant that all calls can share as an initializer."""
        if not is_op(node, "Constant") or node.output[0] in function.output:
            return False
        value = node.attribute[0]  # the loader refuses a Constant without one
        tensor = value.type == AttributeProto.TENSOR and not value.ref_attr_name
        return tensor and stored_bytes(value.t) >= _SHARED_BYTES

    def _initializer(self, call: NodeProto, function: FunctionProto, node: NodeProto) -> str:
        """The initializer that stands for a Constant of a function."""
        key = (call_key(call), node.output[0])
        if key not in self._shared:
            name = self.graph.unique_name(f"{function.name}/{node.output[0]}")
            tensor = TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = name
            self.graph.main.initializers[name] = tensor
            self._shared[key] = name
        return self._shared[key]
