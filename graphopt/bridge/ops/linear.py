"""Products of matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.table import op

op("MatMul", 1, 9, 13)(torch.matmul)


@op("Gemm", 7, 9, 11, 13)
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - the attribute's name
    transB: int = 0,  # noqa: N803
) -> Tensor:
    """Gemm-13: ``alpha * a @ b + beta * c``; ``c`` broadcasts."""
    a = a.t() if transA else a
    if alpha == beta == 1.0 and (c is None or (c.dim() == 1 and c.shape[0] > 1)):
        return functional.linear(a, b if transB else b.t(), c)
    product = alpha * (a @ (b.t() if transB else b))
    return product if c is None else product + beta * c


@op("Einsum", 12, 28)
def einsum(*inputs: Tensor, equation: str) -> Tensor:
    """Einsum-12."""
    return torch.einsum(equation, *inputs)


@op("Det", 11, 22)
def det(x: Tensor) -> Tensor:
    """Det-22."""
    return torch.as_tensor(torch.linalg.det(x))
