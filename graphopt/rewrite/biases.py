"""What a layer adds, moved by a constant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.facts.layers import Layer
from graphopt.rewrite.values import set_values

__all__ = ["has_bias", "shift_bias"]


def has_bias(one: Layer) -> bool:
    """Whether the layer adds constant floats, one a channel, that can be given other values."""
    if one.bias is None or one.refusal("bias") is not None or one.beta == 0:
        return False
    return one.bias.form == "float" and one.bias.values().size == one.channels


def shift_bias(one: Layer, shift: NDArray[np.float64]) -> None:
    """Add to the bias of a layer, for that layer alone; where it cannot hold a sum, it stays.

    Args:
        one: A layer that has one.
        shift: ``(channels,)``.
    """
    assert one.bias is not None
    values = one.bias.values()
    moved = values + (shift / one.beta).reshape(values.shape)
    with np.errstate(over="ignore"):
        stored = moved.astype(values.dtype)
    if np.isfinite(stored.astype(np.float64)).all():
        set_values(one.bias, stored)
