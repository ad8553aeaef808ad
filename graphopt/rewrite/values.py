"""Other values for one reader of a constant, and constants that lost their last reader."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from graphopt.facts.expansion import carried, constants_behind
from graphopt.facts.operands import Operand
from graphopt.graph.graph import Scope
from graphopt.graph.node import is_op
from graphopt.graph.tensors import Array
from graphopt.rewrite.edit import forget

__all__ = ["drop_unread", "set_values"]


def set_values(operand: Operand, values: Array) -> bool:
    """Let a node alone read ``values``, in the shape that it sees, where it reads a constant now.

    In place where nobody else reads the constant, else as a new initializer. What stands between
    turns them; a Cast makes them floats of another width, whatever they are stored in.

    Returns:
        Whether a copy had to be made.
    """
    scope, constant = operand.scope, operand.constant
    if operand.alone and not constant.overridable:
        constant.set(operand.stored(values))
        return False
    replaced = operand.node.input[operand.index]
    name = scope.add_constant(f"{constant.origin}_copy", values.astype(operand.dtype))
    scope.set_input(operand.node, operand.index, name)
    drop_unread(scope, [replaced])
    return True


def drop_unread(scope: Scope, names: Iterable[str]) -> None:
    """Remove those of these constants that nobody reads, with the nodes that expand or turn them.

    Kept are constants that are outputs of their scope or listed as inputs.

    Args:
        scope: Where the names were read; the constants may lie in a scope around it.
        names: Tensors, constant or not; empty ones are passed over.
    """
    for name in dict.fromkeys(filter(None, names)):
        home = scope
        while home.parent is not None and not home.defines(name):
            home = home.parent
        if home.is_read(name) or home.is_output(name):
            continue
        node = home.producer(name)
        if node is not None and _expands(home, node):
            home.remove([node])
            forget(home, [name])
            drop_unread(home, node.input)
        elif node is None and home.defines(name) and not home.is_input(name):
            home.drop_initializer(name)


def _expands(scope: Scope, node: NodeProto) -> bool:
    """Whether a node makes, turns or expands a constant."""
    if is_op(node, "Gather", "ReduceSum", "Reshape", "CumSum"):
        made = constants_behind(scope, node.output[0]) is not None
        return made or carried(scope, node) is not None
    known = is_op(node, "Constant", "Identity", "Transpose", "Cast", "DequantizeLinear", "Mul")
    return known or is_op(node, "Sub", "Expand", "Slice")
