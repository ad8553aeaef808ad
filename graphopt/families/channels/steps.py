"""Widths that a group of channels may be cut to."""

from __future__ import annotations

from graphopt.analysis.channels import ChannelGroup
from graphopt.numerics.narrowing import widths_of

__all__ = ["allowed_widths", "channels_of", "timed_widths"]

_WIDE = 64
_FINE, _COARSE = 4, 16
"""Blocked kernels of convolutions take half as long again where widths are no multiples of 4, and
depthwise ones five times as long; they gain by multiples of 16, more than narrow layers can spare.
"""
_STEPS = (4, 8, 16, 32, 64, 128, 256)
_MOST_WIDTHS = 12


def allowed_widths(group: ChannelGroup, round_to: int | None, max_share: float) -> tuple[int, ...]:
    """The widths, falling; the first is that of the group as it is.

    Args:
        group: The units.
        round_to: What widths are multiples of; None for what kernels do not mind.
        max_share: Most of the units that may go.
    """
    held = channels_of(group)
    step = round_to or (_COARSE if group.size * held > _WIDE else _FINE)
    return widths_of(group.size, max(1, step // held), _least(group, max_share))


def timed_widths(
    group: ChannelGroup, round_to: int | None, max_share: float, *, drops: bool
) -> tuple[int, ...]:
    """The widths at which layers are timed, whose times then tell which of them pay.

    Args:
        group: The units.
        round_to: What widths are multiples of; None for a few widths, whatever kernels like.
        max_share: Most of the units that may go.
        drops: Whether all of them may.
    """
    step = round_to or next(
        (each for each in _STEPS if group.size <= each * _MOST_WIDTHS), group.size
    )
    step = max(1, step // channels_of(group))
    widths = widths_of(group.size, step, _least(group, max_share))
    return (*widths, 0) if drops else widths


def _least(group: ChannelGroup, max_share: float) -> int:
    return max(1, group.size - int(max_share * group.size))


def channels_of(group: ChannelGroup) -> int:
    """Channels of a unit: those of a head, mostly one."""
    made = [(each.weight.constant.origin, each.out_axis) for each in group.producers]
    places = [place for place in made if place in group.positions] or list(group.positions)
    return max(1, min(min(map(len, group.positions[place])) for place in places))
