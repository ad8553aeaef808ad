"""Widths that a group of channels may be cut to."""

from __future__ import annotations

from graphopt.analysis.channels import ChannelGroup
from graphopt.numerics.narrowing import widths_of

__all__ = ["allowed_widths"]

_WIDE = 32
"""Wider layers gain time by multiples of 16 only, narrower ones by those of 8 as well."""


def allowed_widths(group: ChannelGroup, round_to: int | None, max_share: float) -> tuple[int, ...]:
    """The widths, falling; the first is that of the group as it is.

    Args:
        group: The units.
        round_to: What widths are multiples of; None for what kernels like.
        max_share: Most of the units that may go.
    """
    step = round_to or (16 if group.size > _WIDE else 8)
    return widths_of(group.size, step, max(1, group.size - int(max_share * group.size)))
