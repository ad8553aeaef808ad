"""Activation functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.table import op

op("Relu", 6, 13, 14)(torch.relu)
op("Sigmoid", 6, 13)(torch.sigmoid)
op("Tanh", 6, 13)(torch.tanh)
op("Softsign", 1, 22)(functional.softsign)
op("Mish", 18, 22)(functional.mish)


@op("HardSwish", 14, 22)
def hard_swish(x: Tensor) -> Tensor:
    """HardSwish-22."""
    return functional.hardswish(x)


@op("LeakyRelu", 6, 16)
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """LeakyRelu-16."""
    return functional.leaky_relu(x, alpha)


@op("PRelu", 7, 9, 16)
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PRelu-16: the slope broadcasts from the right."""
    return torch.where(x < 0, x * slope, x)


@op("Elu", 6, 22)
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Elu-22."""
    return functional.elu(x, alpha)


@op("Celu", 12, 28)
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Celu-12."""
    return functional.celu(x, alpha)


@op("Selu", 6, 22)
def selu(
    x: Tensor, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805
) -> Tensor:
    """Selu-22."""
    return gamma * functional.elu(x, alpha)


@op("HardSigmoid", 6, 22)
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """HardSigmoid-22."""
    return torch.clamp(alpha * x + beta, 0, 1)


@op("ThresholdedRelu", 10, 22)
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """ThresholdedRelu-22."""
    return functional.threshold(x, alpha, 0.0)


@op("Shrink", 9)
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Shrink-9."""
    shifted = torch.where(x < -lambd, x + bias, x - bias)
    return torch.where(x.abs() > lambd, shifted, torch.zeros_like(x)).to(x.dtype)


@op("Gelu", 20)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Gelu-20."""
    return functional.gelu(x, approximate=approximate)


@op("Swish", 24)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Swish-24."""
    return x * torch.sigmoid(alpha * x)


@op("SwiGLU", 28)
def swiglu(a: Tensor, b: Tensor, *, alpha: float = 1.0) -> Tensor:
    """SwiGLU-28."""
    return swish(a, alpha=alpha) * b


@op("Softmax", 13)
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Softmax-13."""
    return torch.softmax(x, axis)


@op("LogSoftmax", 13)
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """LogSoftmax-13."""
    return torch.log_softmax(x, axis)


@op("Hardmax", 13)
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Hardmax-13: one at the first largest element."""
    best = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, best, 1.0)


@op("Softmax", 1, 11)
def softmax_11(x: Tensor, *, axis: int = 1) -> Tensor:
    """Softmax-11: over all axes from ``axis`` on at once."""
    return softmax(x.flatten(axis), axis=-1).reshape(x.shape)


@op("LogSoftmax", 1, 11)
def log_softmax_11(x: Tensor, *, axis: int = 1) -> Tensor:
    """LogSoftmax-11: over all axes from ``axis`` on at once."""
    return log_softmax(x.flatten(axis), axis=-1).reshape(x.shape)


@op("Hardmax", 1, 11)
def hardmax_11(x: Tensor, *, axis: int = 1) -> Tensor:
    """Hardmax-11: over all axes from ``axis`` on at once."""
    return hardmax(x.flatten(axis), axis=-1).reshape(x.shape)
