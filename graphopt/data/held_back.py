"""Calibration samples in two parts: most to calibrate on, some held back to judge by."""

from __future__ import annotations

import numpy as np

from graphopt.data.alike import alike
from graphopt.data.feeds import CheckedSamples
from graphopt.data.samples import Samples

__all__ = ["HELD_ONE_IN", "held_back"]

HELD_ONE_IN = 5
"""One sample of so many in a row is held back. On six models of 100 to 512 calibration samples the
other four calibrate as well: -0.08 to +0.4 dB on evaluation data."""
_FEWEST = 20
"""Of less none is held back: three would judge nothing, and the ranges need them more."""
_DRAWS = 8
"""Of few samples some of which are empty, such as black pictures, a draw may have only those."""


def held_back(samples: Samples, seed: int) -> tuple[Samples, Samples] | None:
    """The samples to calibrate on and those to judge by; None where they cannot be parted.

    They are too few, a feed holds several that belong together, or a label is of several.

    Args:
        samples: All of them.
        seed: Draws the one of each ``HELD_ONE_IN`` successive ones.
    """
    if not isinstance(samples, CheckedSamples):
        return None
    paired = samples.labels is not None and len(samples.labels) != samples.count
    if samples.count < _FEWEST or paired or not samples.joined:
        return None
    groups = samples.count // HELD_ONE_IN
    draw = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        judging = np.zeros(samples.count, dtype=np.bool_)
        judging[HELD_ONE_IN * np.arange(groups) + draw.integers(HELD_ONE_IN, size=groups)] = True
        held = samples.part(judging)
        if not alike(held):
            break
    return samples.part(~judging), held
