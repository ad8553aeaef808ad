"""Linear layers: MatMul and Gemm whose right operand is a constant matrix."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import attribute, is_op

__all__ = ["Linear", "linear"]


@dataclass(frozen=True)
class Linear:
    """``y = alpha * x @ W + bias`` with a constant ``W``.

    Attributes:
        scope: Where the node is.
        node: The MatMul or Gemm.
        constant: What is stored: ``W``, or its transpose.
        transposed: The constant is ``(out, in)``: a Gemm with transB, or a MatMul behind a
            Transpose of the constant, as exporters write an output layer tied to an embedding.
        alpha: Factor of a Gemm.
    """

    scope: Scope
    node: NodeProto
    constant: Constant
    transposed: bool
    alpha: float = 1.0

    @property
    def data(self) -> str:
        """Name of the left operand."""
        return str(self.node.input[0])

    @property
    def out_axis(self) -> int:
        """Axis of the output channels in the constant."""
        return 0 if self.transposed else 1

    def matrix(self) -> NDArray[np.float32]:
        """``alpha * W`` as ``(in, out)``, read anew."""
        values: NDArray[Any] = self.constant.values
        matrix: NDArray[np.float32] = values.T if self.transposed else values
        return matrix if self.alpha == 1 else matrix * np.float32(self.alpha)

    def owned_by(self, nodes: Collection[NodeProto]) -> bool:
        """Whether none but ``nodes`` reads the constant, and its values may be changed."""
        if self.constant.overridable:
            return False
        known = {id(node) for node in nodes}
        pending = self.constant.scope.uses(self.constant.origin)
        while pending:
            use = pending.pop()
            if id(use.node) in known:
                continue
            if use.index < 0 or not is_op(use.node, "Identity", "Transpose"):
                return False
            if use.scope.is_output(use.node.output[0]):
                return False
            pending += use.scope.uses(use.node.output[0])
        return not self.constant.scope.is_output(self.constant.origin)

    def scale(self, axis: Literal["in", "out"], factors: NDArray[np.float32]) -> None:
        """Multiply the constant by one factor for each input or output channel."""
        at = self.out_axis if axis == "out" else 1 - self.out_axis
        along = factors if at == 1 else factors[:, None]
        self.constant.scope.set_constant(self.constant, self.constant.values * along)


def linear(scope: Scope, node: NodeProto) -> Linear | str | None:
    """The linear layer that a node is, a sentence why it is none, or None for other operators."""
    if not is_op(node, "MatMul", "Gemm"):
        return None
    constant, transposed = scope.constant(node.input[1]), False
    if constant is None and is_op(node, "MatMul"):
        constant, transposed = _behind_transpose(scope, node.input[1]), True
    if constant is None:
        if scope.constant(node.input[0]) is not None:
            return "the constant is the left operand; only right operands are supported"
        return "both operands are computed, so there is no weight"
    if scope.constant(node.input[0]) is not None:
        return "both operands are constants; fold-constants computes it once and for all"
    if constant.data_type != TensorProto.FLOAT:
        return f"the weight is {TensorProto.DataType.Name(constant.data_type).lower()}, not float"
    if len(constant.shape) != 2:
        return f"the weight has rank {len(constant.shape)}, only matrices are supported"
    if constant.overridable:
        return "the weight is listed as an input; put freeze-initializers before"
    if is_op(node, "MatMul"):
        return Linear(scope, node, constant, transposed)
    if attribute(node, "transA", 0):
        return "transA is set, only plain left operands are supported"
    transposed = bool(attribute(node, "transB", 0))
    return Linear(scope, node, constant, transposed, attribute(node, "alpha", 1.0))


def _behind_transpose(scope: Scope, name: str) -> Constant | None:
    """The constant matrix that a Transpose of this scope turns into ``name``."""
    node = scope.producer(name)
    if node is None or not is_op(node, "Transpose"):
        return None
    constant = scope.constant(node.input[0])
    if constant is None or attribute(node, "perm", [1, 0]) != [1, 0]:
        return None
    return constant
