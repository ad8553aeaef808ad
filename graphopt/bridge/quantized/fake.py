"""Fake quantization with learned steps: rounding in the forward pass, gradients through it.

Source: Esser et al., Learned Step Size Quantization (2020), sections 2.1 and 2.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphopt.bridge.ops.quantization import fitted
from graphopt.bridge.quantized.points import Codes

__all__ = ["FakeActivation", "FakeBias", "FakeWeight", "Grid", "fake_quantize"]

_SMALLEST = float(np.finfo(np.float32).tiny)
_SMALLEST_HALF = 2.0**-24
_MOST_BIAS = 2**31 - 1


class _Fake(torch.autograd.Function):
    """``s * clip(round(x / s), low, high)`` and the gradients of the paper, equations 3 and 5."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor, low: Tensor, high: Tensor, g: float) -> Tensor:
        v = x / s
        ctx.save_for_backward(v, s, low, high)
        ctx.g = g
        return torch.clamp(v.round(), low, high) * s

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (given,) = gradients
        v, s, low, high = ctx.saved_tensors
        inside = (v > low) & (v < high)
        to_x = given * inside if ctx.needs_input_grad[0] else None
        to_s = None
        if ctx.needs_input_grad[1]:
            slope = torch.clamp(v.round(), low, high) - v * inside
            to_s = (given * slope).sum_to_size(s.shape) * ctx.g
        return to_x, to_s, None, None, None


def fake_quantize(x: Tensor, s: Tensor, low: Tensor, high: Tensor, g: float = 1.0) -> Tensor:
    """``s * clip(round(x / s), low, high)``, halves to even as in QuantizeLinear-13.

    For ``low < x / s < high`` the gradient passes to ``x``; that to ``s`` is
    ``round(x / s) - x / s`` there, else ``low`` or ``high``, all times ``g``.

    Args:
        x: Any shape.
        s: Steps above zero that broadcast to ``x``.
        low: Smallest code less the zero point, rank 0 or of the shape of ``s``.
        high: Largest code less the zero point.
        g: Scale of the gradient of ``s``.
    """
    result: Tensor = _Fake.apply(x, s, low, high, g)  # type: ignore[no-untyped-call,unused-ignore]
    return result


class Grid(nn.Module):
    """Steps and integers of a quantized tensor.

    Args:
        scale: Of the shape in the file.
        codes: What the integers mean.
        learned: Whether the steps are trained.
    """

    step: Tensor
    low: Tensor
    high: Tensor
    zero: Tensor

    def __init__(self, scale: np.ndarray[Any, Any], codes: Codes, *, learned: bool) -> None:
        super().__init__()
        step = torch.from_numpy(np.array(scale))
        if learned:
            self.step = nn.Parameter(step)
        else:
            self.register_buffer("step", step)
        self.learned = learned
        self.codes = codes
        zero = codes.zero_point.astype(np.float32)
        self.register_buffer("zero", torch.from_numpy(np.asarray(zero)))
        self.register_buffer("low", torch.from_numpy(np.asarray(codes.qmin - zero)))
        self.register_buffer("high", torch.from_numpy(np.asarray(codes.qmax - zero)))
        positive = float((codes.qmax - zero).max(initial=0))
        self._levels = positive or float((zero - codes.qmin).max(initial=1))

    def scale(self) -> Tensor:
        """The steps as the file will hold them; gradients pass as if none were rounded."""
        steps = self.step.abs().clamp_min(_SMALLEST)
        if not self.codes.half:
            return steps
        return steps + (steps.detach().half().float().clamp_min(_SMALLEST_HALF) - steps.detach())

    def forward(self, x: Tensor, elements: float) -> Tensor:
        """``x`` on the grid.

        Args:
            x: Floats.
            elements: How many of them share a step, for the scale of its gradient.
        """
        g = 1 / max(1.0, elements * self._levels) ** 0.5
        scale, low, high = (self._along(part, x) for part in (self.scale(), self.low, self.high))
        return fake_quantize(x.float(), scale, low, high, g)

    def integers(self, x: Tensor) -> Tensor:
        """Codes of ``x`` less the zero point, as floats."""
        scale, low, high = (self._along(part, x) for part in (self.scale(), self.low, self.high))
        return torch.clamp((x.float() / scale).round(), low, high)

    def stored(self, x: Tensor) -> Tensor:
        """Codes of ``x`` as the file holds them, as floats."""
        return self.integers(x) + self._along(self.zero, x)

    def meaning(self, codes: Tensor) -> Tensor:
        """The floats that codes, given as the file holds them, stand for."""
        scale, zero = (self._along(part, codes) for part in (self.scale().detach(), self.zero))
        return (codes - zero) * scale

    def spread(self, x: Tensor) -> Tensor:
        """The step of each element of ``x``."""
        return self._along(self.scale().detach(), x).expand(x.shape)

    def _along(self, part: Tensor, x: Tensor) -> Tensor:
        if self.codes.axis is None:
            return part.reshape(()) if part.numel() == 1 else part
        if part.numel() == 1:
            return part.reshape(())
        return fitted(part, x, self.codes.axis, self.codes.block)


class FakeWeight(nn.Module):
    """Stands for the dequantized integers of a weight.

    Args:
        values: Float weight to start from.
        grid: Its grid.
    """

    def __init__(self, values: Tensor, grid: Grid) -> None:
        super().__init__()
        self.values = nn.Parameter(values)
        self.grid = grid

    def forward(self) -> Tensor:
        """The weight on its grid."""
        result: Tensor = self.grid(self.values, self.values.numel() / self.grid.step.numel())
        return result


class FakeActivation(nn.Module):
    """Stands for QuantizeLinear and DequantizeLinear.

    Args:
        grid: Of the tensor; points that are tied share it.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """``x`` on its grid; the gradient of the step is scaled by the elements of one sample."""
        samples = x.shape[0] if x.dim() > 1 else 1
        elements = x.numel() / max(1, samples) / self.grid.step.numel()
        result: Tensor = self.grid(x, elements)
        return result


class FakeBias(nn.Module):
    """Stands for the dequantized int32 of a bias, in steps of activation times weight.

    Args:
        values: Float bias to start from, ``(channels,)``.
        scale: Of the shape in the file; used where there is no layer.
        layer: Grids of the activation and the weight that are multiplied.
    """

    fixed: Tensor

    def __init__(
        self, values: Tensor, scale: np.ndarray[Any, Any], layer: tuple[Grid, Grid] | None
    ) -> None:
        super().__init__()
        self.values = nn.Parameter(values)
        self.register_buffer("fixed", torch.from_numpy(np.array(scale)))
        self._layer = layer  # in a tuple: the grids are parts of other modules

    def scale(self) -> Tensor:
        """The steps as the file will hold them; no gradient passes."""
        if self._layer is None:
            return self.fixed
        x, w = self._layer
        product = x.scale().detach().reshape(()) * w.scale().detach().reshape(-1)
        return product.expand(self.fixed.numel()).reshape(self.fixed.shape)

    def integers(self) -> Tensor:
        """The codes as float64, which holds all of them exactly."""
        codes = (self.values.detach().double() / self.scale().double()).round()
        return codes.clamp(-_MOST_BIAS - 1, _MOST_BIAS)

    def forward(self) -> Tensor:
        """The bias on its grid; the gradient passes as if it were not."""
        rounded = self.integers().float() * self.scale()
        return rounded + (self.values - self.values.detach())
