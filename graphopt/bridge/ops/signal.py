"""Fourier transforms; complex numbers are pairs along the last axis."""

from __future__ import annotations

import torch
from torch import Tensor

from graphopt.bridge.ops.arguments import positive
from graphopt.bridge.ops.table import op


@op("DFT", 20, host=(1, 2))
def dft(
    x: Tensor,
    dft_length: Tensor | None = None,
    axis: Tensor | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """DFT-20."""
    length = None if dft_length is None else int(dft_length.item())
    along = -2 if axis is None else int(axis.item())
    return _transformed(x, length, along, inverse, onesided)


@op("DFT", 17, host=(1,))
def dft_17(
    x: Tensor,
    dft_length: Tensor | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """DFT-17: the axis as an attribute."""
    length = None if dft_length is None else int(dft_length.item())
    return _transformed(x, length, axis, inverse, onesided)


def _transformed(x: Tensor, length: int | None, axis: int, inverse: int, onesided: int) -> Tensor:
    axis = positive(axis, x.dim())
    signal = x.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
    if inverse and onesided:
        return torch.as_tensor(torch.fft.irfft(signal, length, axis)).unsqueeze(-1)
    transform = torch.fft.ifft if inverse else torch.fft.fft
    spectrum = transform(signal, length, axis)
    if onesided:
        spectrum = spectrum.narrow(axis, 0, spectrum.shape[axis] // 2 + 1)
    return torch.view_as_real(spectrum)


@op("STFT", 17, host=(1, 3))
def stft(
    signal: Tensor,
    frame_step: Tensor,
    window: Tensor | None = None,
    frame_length: Tensor | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """STFT-17: a DFT of each frame."""
    if frame_length is not None:
        length = int(frame_length.item())
    elif window is not None:
        length = window.shape[0]
    else:
        raise ValueError("neither window nor frame_length is given")
    frames = signal.unfold(1, length, int(frame_step.item())).transpose(-1, -2)
    if window is not None:
        frames = frames * window[:, None]
    return _transformed(frames, None, 2, 0, onesided)
