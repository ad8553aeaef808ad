"""Other values for one reader of a constant, and constants that lost their last reader."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import is_op
from graphopt.graph.tensors import Array
from graphopt.rewrite.edit import forget

__all__ = ["drop_unread", "read_by_one", "set_values"]


def read_by_one(scope: Scope, constant: Constant) -> bool:
    """Whether a single place reads the constant, through Identity nodes too."""
    home, name = scope, constant.name
    while True:
        while not home.defines(name):
            assert home.parent is not None
            home = home.parent
        if home.only_use(name) is None or home.is_output(name):
            return False
        if name == constant.origin:
            return True
        identity = home.producer(name)
        assert identity is not None
        name = identity.input[0]


def set_values(scope: Scope, node: NodeProto, index: int, values: Array) -> bool:
    """Let ``node`` alone read ``values`` where it reads a constant now.

    In place where nobody else reads the constant, else as a new initializer.

    Returns:
        Whether a copy had to be made.
    """
    constant = scope.constant(node.input[index])
    assert constant is not None
    if read_by_one(scope, constant) and not constant.overridable:
        scope.set_constant(constant, values)
        return False
    scope.set_input(node, index, scope.add_constant(f"{constant.origin}_copy", values))
    return True


def drop_unread(scope: Scope, names: Iterable[str]) -> None:
    """Remove those of these constants that nobody reads, with Identity and Transpose before them.

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
        if node is not None and is_op(node, "Constant", "Identity", "Transpose"):
            home.remove([node])
            forget(home, [name])
            drop_unread(home, node.input)
        elif name in home.initializers and not home.is_input(name):
            home.drop_initializer(name)
