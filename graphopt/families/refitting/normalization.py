"""A BatchNormalization as what it does to each channel, and other values for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.layers import Refusal
from graphopt.facts.operands import operand
from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute
from graphopt.numerics.batchnorm import scale_shift
from graphopt.numerics.least_squares import Behind
from graphopt.rewrite.values import set_values

__all__ = ["Normalization", "normalization"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_HIDDEN = 1e-4
"""A normalization that scales a channel by no more of its largest factor hides what it was."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """A BatchNormalization of constants as ``factor * x + shift``.

    Attributes:
        scope: Where it is.
        node: The node.
        factor: ``(channels,)``.
        shift: ``(channels,)``.
    """

    scope: Scope
    node: NodeProto
    factor: Floats
    shift: Floats

    @property
    def hides(self) -> bool:
        """Whether it leaves so little of a channel that what that was cannot be told."""
        least, most = np.abs(self.factor).min(initial=np.inf), np.abs(self.factor).max(initial=0)
        return bool(least <= _HIDDEN * most)

    def undone(self, groups: int, behind: Behind, wanted: Singles) -> tuple[Behind, Singles]:
        """What is wanted, and what becomes of it, as it is in front of the normalization.

        Args:
            groups: Of the layer in front: arrays are ``(rows, groups, out)``.
            behind: What becomes of the result.
            wanted: What the result should be.
        """
        factor, shift = (each.reshape(groups, -1) for each in (self.factor, self.shift))
        single = factor.astype(np.float32)
        added = None if behind.added is None else behind.added / single
        bounds = [(each - shift) / factor for each in (behind.low, behind.high)]
        low, high = np.minimum(*bounds), np.maximum(*bounds)
        return Behind(added, low, high), (wanted - shift.astype(np.float32)) / single

    def set(self, factor: Floats, shift: Floats) -> Refusal | None:
        """Let it scale and shift so; the running statistics stay.

        Args:
            factor: ``(channels,)``.
            shift: ``(channels,)``.
        """
        mean, variance = (self._values(at).astype(np.float64) for at in (3, 4))
        deviation = np.sqrt(variance + attribute(self.node, "epsilon", 1e-5))
        return self._store({1: factor * deviation, 2: shift + mean * factor})

    def take_up(self, bias: Floats) -> Refusal | None:
        """Act as if a bias ``(channels,)`` were added in front of it."""
        return self._store({3: self._values(3).astype(np.float64) - bias})

    def _values(self, index: int) -> NDArray[np.generic]:
        found = operand(self.scope, self.node, index)
        assert found is not None
        return found.values()

    def _store(self, parameters: dict[int, Floats]) -> Refusal | None:
        """Give it other parameters, by the index of the input; none where one does not fit."""
        stored = {}
        for index, values in parameters.items():
            found = operand(self.scope, self.node, index)
            assert found is not None
            with np.errstate(over="ignore"):
                stored[index] = found, values.astype(found.dtype)
            if not np.isfinite(stored[index][1].astype(np.float64)).all():
                return Refusal(self.node, f"its new parameters do not fit into {found.dtype}")
        for found, values in stored.values():
            set_values(found, values)
        return None


def normalization(scope: Scope, node: NodeProto) -> Normalization | Refusal:
    """What a BatchNormalization does; why that cannot be told, or be given other values."""
    if attribute(node, "training_mode", 0):
        return Refusal(node, "it takes its statistics from the batch")
    found = [operand(scope, node, index) for index in range(1, 5)]
    fixed = [each for each in found if each is not None and each.form == "float"]
    if len(fixed) < len(found):
        return Refusal(node, "one of its parameters is computed at run time")
    if any(each.constant.overridable for each in fixed):
        return Refusal(node, "its parameters are listed as inputs; put freeze-initializers before")
    gamma, beta, mean, var = (each.values() for each in fixed)
    factor, shift = scale_shift(gamma, beta, mean, var, attribute(node, "epsilon", 1e-5))
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        return Refusal(node, "its parameters hold NaN or infinity")
    return Normalization(scope, node, factor, shift)
