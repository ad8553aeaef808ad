"""Groups all of whose units may go, since what reads them is a branch that is added to the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.analysis.channels import ChannelGroup
from graphopt.facts.layers import Layer
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.readers import channel_axis
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.batchnorm import scale_shift
from graphopt.rewrite.branches import silence

__all__ = ["Branch", "branch_of", "drop_branch"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Branch:
    """A branch that ends in an Add.

    Attributes:
        end: The layer whose output would be its bias alone.
        norm: A BatchNormalization behind it.
        channels: Axis of the channels in what the Add reads, from the front.
        rank: Of it.
    """

    end: Layer
    norm: NodeProto | None
    channels: int
    rank: int

    @property
    def output(self) -> str:
        """What the Add reads."""
        return str((self.norm or self.end.node).output[0])


def branch_of(group: ChannelGroup, graph: Graph, shapes: Shapes) -> Branch | None:
    """The branch that is nothing but a constant once a group is gone; None where there is none."""
    if len(group.consumers) != 1 or not group.consumers[0].multiplies:
        return None
    end, scope = group.consumers[0], graph.main
    data, result = shapes.get(end.data), shapes.get(end.node.output[0])
    if data is None or data.shape is None or result is None or result.shape is None:
        return None
    axis = channel_axis(end, shapes)
    held = sum(map(len, group.positions.get((end.data, axis), ())))
    if held != data.shape[axis] or end.groups > 1:
        return None
    uses = scope.uses(end.node.output[0])
    norm = None
    if len(uses) == 1 and is_op(uses[0].node, "BatchNormalization") and uses[0].index == 0:
        norm = uses[0].node
        if any(scope.constant(name) is None for name in norm.input[1:]):
            return None
    output = (norm or end.node).output[0]
    rank = len(result.shape)
    if scope.is_output(output) or scope.is_output(end.node.output[0]):
        return None
    if not _only_added(scope, output, result.shape, shapes):
        return None
    return Branch(end, norm, 1 if end.kind == "conv" else rank - 1, rank)


def _only_added(scope: Scope, name: str, shape: tuple[object, ...], shapes: Shapes) -> bool:
    """Whether a tensor is only added to others of the same shape."""
    uses = scope.uses(name)
    for use in uses:
        if use.index < 0 or use.scope is not scope or not is_op(use.node, "Add"):
            return False
        other = use.node.input[1 - use.index]
        info = shapes.get(other)
        if other == name or info is None or info.shape != shape:
            return False
    return bool(uses)


def drop_branch(scope: Scope, branch: Branch, bias: Floats) -> str:
    """Let the Adds read what is left of a branch; what made it is for the caller to remove.

    Args:
        scope: The main graph, edited.
        branch: It.
        bias: ``(out,)`` of its end.

    Returns:
        The name of the constant, whose channels lie on the same axis.
    """
    if branch.norm is not None:
        constants = [scope.constant(name) for name in branch.norm.input[1:5]]
        gamma, beta, mean, var = (each.values for each in constants if each is not None)
        epsilon = attribute(branch.norm, "epsilon", 1e-5)
        factor, shift = scale_shift(gamma, beta, mean, var, epsilon)
        bias = factor * bias + shift
    along = [1] * branch.rank
    along[branch.channels] = len(bias)
    kind = branch.end.weight.dtype
    rest = bias.reshape(along).astype(kind)
    return silence(scope, branch.output, scope.uses(branch.output), rest)
