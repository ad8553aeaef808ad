"""Arithmetic, element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.table import op

_UNARY: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "Abs": ((6, 13), torch.abs),
    "Acos": ((7, 22), torch.acos),
    "Acosh": ((9, 22), torch.acosh),
    "Asin": ((7, 22), torch.asin),
    "Asinh": ((9, 22), torch.asinh),
    "Atan": ((7, 22), torch.atan),
    "Atanh": ((9, 22), torch.atanh),
    "Ceil": ((6, 13), torch.ceil),
    "Cos": ((7, 22), torch.cos),
    "Cosh": ((9, 22), torch.cosh),
    "Erf": ((9, 13), torch.erf),
    "Exp": ((6, 13), torch.exp),
    "Floor": ((6, 13), torch.floor),
    "Log": ((6, 13), torch.log),
    "Neg": ((6, 13), torch.neg),
    "Reciprocal": ((6, 13), torch.reciprocal),
    "Round": ((11, 22), torch.round),
    "Sign": ((9, 13), torch.sign),
    "Sin": ((7, 22), torch.sin),
    "Sinh": ((9, 22), torch.sinh),
    "Sqrt": ((6, 13), torch.sqrt),
    "Tan": ((7, 22), torch.tan),
}
for _name, (_versions, _function) in _UNARY.items():
    op(_name, *_versions)(_function)


@op("Add", 7, 13, 14)
def add(a: Tensor, b: Tensor) -> Tensor:
    """Add-14."""
    return a + b


@op("Sub", 7, 13, 14)
def sub(a: Tensor, b: Tensor) -> Tensor:
    """Sub-14."""
    return a - b


@op("Mul", 7, 13, 14)
def mul(a: Tensor, b: Tensor) -> Tensor:
    """Mul-14."""
    return a * b


@op("Div", 7, 13, 14)
def div(a: Tensor, b: Tensor) -> Tensor:
    """Div-14: integers are divided towards zero."""
    if a.dtype.is_floating_point or a.dtype.is_complex:
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


@op("Mod", 10, 13, 28)
def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """Mod-13: the sign of the divisor, or with ``fmod`` of the dividend."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@op("Pow", 7, 12, 13, 15)
def power(x: Tensor, y: Tensor) -> Tensor:
    """Pow-15: the result has the type of the base."""
    return torch.pow(x, y).to(x.dtype)


@op("Max", 6, 8, 12, 13)
def maximum(*inputs: Tensor) -> Tensor:
    """Max-13."""
    return reduce(torch.maximum, inputs)


@op("Min", 6, 8, 12, 13)
def minimum(*inputs: Tensor) -> Tensor:
    """Min-13."""
    return reduce(torch.minimum, inputs)


@op("Sum", 6, 8, 13)
def total(*inputs: Tensor) -> Tensor:
    """Sum-13."""
    return reduce(torch.add, inputs)


@op("Mean", 6, 8, 13)
def mean(*inputs: Tensor) -> Tensor:
    """Mean-13."""
    return reduce(torch.add, inputs) / len(inputs)


@op("Clip", 11, 12, 13)
def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clip-13: either bound may be missing; the upper one wins where they cross."""
    if low is None and high is None:
        return x
    return torch.clamp(
        x, None if low is None else low.reshape(()), None if high is None else high.reshape(())
    )


@op("Clip", 6)
def clip_6(x: Tensor, **bounds: float) -> Tensor:
    """Clip-6: bounds as attributes."""
    return torch.clamp(x, bounds.get("min"), bounds.get("max")) if bounds else x


@op("BitShift", 11, 28)
def bit_shift(x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """BitShift-11."""
    return x << y if direction == "LEFT" else x >> y


@op("CumSum", 11, 14, host=(1,))
def cumulative_sum(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """CumSum-14."""
    return _cumulative(torch.cumsum, 0, x, int(axis), exclusive, reverse)


@op("CumProd", 26, host=(1,))
def cumulative_product(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """CumProd-26."""
    return _cumulative(torch.cumprod, 1, x, int(axis), exclusive, reverse)


def _cumulative(
    function: Callable[..., Tensor], start: int, x: Tensor, axis: int, exclusive: int, reverse: int
) -> Tensor:
    """A running sum or product, from the end with ``reverse``, without the element itself."""
    if reverse:
        x = x.flip(axis)
    result = function(x, axis).to(x.dtype)
    if exclusive:
        first = torch.full_like(x.narrow(axis, 0, 1), start)
        result = torch.cat([first, result.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return result.flip(axis) if reverse else result


@op("Softplus", 1, 22)
def softplus(x: Tensor) -> Tensor:
    """Softplus-22."""
    return functional.softplus(x)
