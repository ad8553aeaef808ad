"""Which nodes can compute in floats of 16 bits, and which of them are worth it together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from onnx import NodeProto, TensorProto

from graphopt.facts.layers import Layer, layers_of
from graphopt.facts.operators import MOVES, TYPE_ATTRIBUTES, Kind, find, is_kind
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope, Use
from graphopt.graph.node import is_op
from graphopt.graph.order import sorted_nodes
from graphopt.graph.schemas import operand_types

__all__ = ["HalfNode", "HalfNodes", "half_nodes", "made_by_attribute"]

_FLOAT = TensorProto.FLOAT
_LAYERS: tuple[Kind, ...] = ("product", "convolution", "recurrent", "attention")


@dataclass(frozen=True, eq=False)
class HalfNode:
    """A node that can compute in floats of 16 bits.

    Attributes:
        scope: Where it stands.
        node: The node.
        reads: Inputs of float32 that become halves with it; the others keep their type.
        makes: Outputs of float32 that do.
        layer: Whether it multiplies: what stands alone without such a node gains nothing.
    """

    scope: Scope
    node: NodeProto
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    layer: bool

    @property
    def tensors(self) -> list[str]:
        """Names of all these operands."""
        return [self.node.input[i] for i in self.reads] + [self.node.output[i] for i in self.makes]


@dataclass
class HalfNodes:
    """The nodes of a graph that can compute in halves, and why others do not.

    Attributes:
        nodes: In order.
        kept: Nodes that read or make floats and stay as they are, each with the reason.
    """

    nodes: list[HalfNode] = field(default_factory=list)
    kept: list[tuple[NodeProto, str]] = field(default_factory=list)

    def without(self, reasons: dict[int, str]) -> HalfNodes:
        """The same without nodes that were refused, by their identity."""
        kept = [(e.node, reasons[id(e.node)]) for e in self.nodes if id(e.node) in reasons]
        return HalfNodes(
            [each for each in self.nodes if id(each.node) not in reasons], [*self.kept, *kept]
        )

    def beside_layers(self) -> HalfNodes:
        """Those that hang together with a layer: the others would be cast there and back.

        Inputs of the model and constants join nothing.
        """
        groups = _joined(self.nodes)
        useful = {groups(each) for each in self.nodes if each.layer}
        alone = [each for each in self.nodes if groups(each) not in useful]
        return self.without({id(e.node): "no layer hangs together with it" for e in alone})


def half_nodes(graph: Graph, shapes: Shapes, kind: str) -> HalfNodes:
    """The nodes whose operators ONNX defines for a format of 16 bits, as far as data runs.

    Left out is what computes on sizes, positions and masks alone, which no float input and no
    layer decides: positions beyond 2048 are no integers of float16 any more. So is what stands
    between codes, where a runtime takes a layer for its integers, and what draws random numbers.
    What only moves a constant to where data meets it, such as the table of embeddings that is
    turned for the last layer, goes with its readers.

    Args:
        graph: Only read, bodies included.
        shapes: Types of its tensors.
        kind: ``float16`` or ``bfloat16``.
    """
    found, data = HalfNodes(), _data(graph, shapes)
    moving = _moves_to_data(graph, data, shapes)
    for scope in graph.scopes():
        for node in scope.nodes:
            if is_op(node, "Constant") or scope.children(node) or made_by_attribute(node):
                continue
            reads = [i for i, name in enumerate(node.input) if _float(scope, name, shapes)]
            makes = [i for i, name in enumerate(node.output) if _float(scope, name, shapes)]
            read = any(node.input[i] in data for i in reads)
            if not read and id(node) not in moving and not _is_layer(scope, node):
                continue
            half = _followers(graph, node, (reads, makes), kind)
            reason = half if isinstance(half, str) else _unfit(scope, node, shapes)
            if isinstance(half, str) or reason:
                found.kept.append((node, reason))
            else:
                found.nodes.append(HalfNode(scope, node, *half, _is_layer(scope, node)))
    return found


def made_by_attribute(node: NodeProto) -> bool:
    """Whether an attribute says of what type the result is: it can be had in any."""
    names = {item.name for item in node.attribute}
    return is_op(node, "ConstantOfShape") or bool(names.intersection(TYPE_ATTRIBUTES))


def _float(scope: Scope, name: str, shapes: Shapes) -> bool:
    if not name:
        return False
    constant, info = scope.constant(name), shapes.get(name)
    kind = constant.data_type if constant is not None else info.data_type if info else 0
    return kind == _FLOAT


def _followers(
    graph: Graph, node: NodeProto, floats: tuple[list[int], list[int]], kind: str
) -> tuple[tuple[int, ...], tuple[int, ...]] | str:
    """The inputs and outputs that become halves, or why none does."""
    types = operand_types(node, graph.opset)
    if types is None:
        return f"{node.op_type} is none of ONNX's own operators"
    wanted = f"tensor({kind})"
    read, made = (
        tuple(i for i in indices if slots[i].variable and wanted in slots[i].types)
        for indices, slots in zip(floats, types, strict=True)
    )
    if not read and not made:
        return f"ONNX defines {node.op_type} for no {kind} at opset {graph.opset}"
    return read, made


def _unfit(scope: Scope, node: NodeProto, shapes: Shapes) -> str:
    """Why a node stays as it is though its operator takes halves; empty where it need not."""
    row = find(node)
    if row is None or row.kind in ("quantize", "integer", "control", "sequence", "loss"):
        return f"{node.op_type} goes between floats and something else"
    if row.random:
        return "its result is drawn"
    makers = [scope.producer(name) for name in node.input if name]
    readers = [use.node for name in node.output if name for use in scope.uses(name)]
    if any(each is not None and is_kind(each, "quantize", "integer") for each in makers + readers):
        return "it stands beside codes"
    for name in (*node.input, *node.output):
        info = shapes.get(name) if name else None
        if name and scope.constant(name) is None and (info is None or not info.data_type):
            return f"the type of {name!r} is not known"
    for name in node.output:
        if any(use.index < 0 for use in scope.any_uses(name) if name):
            return "a body hands its result out under its own name"
    return ""


def _is_layer(scope: Scope, node: NodeProto) -> bool:
    if is_kind(node, *_LAYERS):
        return True
    return any(isinstance(each, Layer) for each in layers_of(scope, node))


def _data(graph: Graph, shapes: Shapes) -> set[str]:
    """Tensors of floats that a float input or a layer decides."""
    data = {name for name in graph.main.inputs if _is_data_input(graph.main, name, shapes)}
    for scope in graph.scopes():
        if scope.parent is not None:
            data.update(name for name in scope.inputs if _float(scope, name, shapes))
        for node in sorted_nodes(scope):
            read = any(name in data for name in scope.reads(node))
            if read or (_is_layer(scope, node) and not is_op(node, "Constant")):
                data.update(name for name in node.output if _float(scope, name, shapes))
    return data


def _moves_to_data(graph: Graph, data: set[str], shapes: Shapes) -> set[int]:
    """Nodes, by identity, that move a constant of floats for none but what works on data."""
    moving: set[int] = set()

    def on_data(use: Use) -> bool:
        if use.index < 0 or id(use.node) in moving:
            return use.index >= 0
        return _is_layer(use.scope, use.node) or any(each in data for each in use.node.input)

    for scope in graph.scopes():
        moved: dict[int, NodeProto] = {}
        made: set[str] = set()
        for node in sorted_nodes(scope):
            name = node.input[0] if node.input else ""
            known = name in made or scope.constant(name) is not None
            if known and is_kind(node, *MOVES) and _float(scope, name, shapes):
                moved[id(node)] = node
                made.update(node.output)

        for key, node in reversed(moved.items()):
            names = [name for name in node.output if name]
            uses = [use for name in names for use in scope.any_uses(name)]
            if all(map(on_data, uses)) and not any(map(scope.is_output, names)):
                moving.add(key)
    return moving


def _is_data_input(scope: Scope, name: str, shapes: Shapes) -> bool:
    return scope.constant(name) is None and _float(scope, name, shapes)


def _joined(nodes: Iterable[HalfNode]) -> Callable[[HalfNode], int]:
    """A function that gives nodes which share a tensor the same number."""
    parents: dict[int, int] = {}

    def root(key: int) -> int:
        while parents.setdefault(key, key) != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    first: dict[str, int] = {}
    for each in nodes:
        for name in _joints(each):
            parents[root(id(each.node))] = root(first.setdefault(name, id(each.node)))
    return lambda each: root(id(each.node))


def _joints(each: HalfNode) -> Iterator[str]:
    """The tensors between nodes that a node reads or makes as halves."""
    yield from (each.node.output[i] for i in each.makes)
    for index in each.reads:
        name, scope = each.node.input[index], each.scope
        ends = scope.constant(name) is not None
        if not ends and not (scope.parent is None and scope.is_input(name)):
            yield name
