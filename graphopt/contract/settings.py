"""What a user sets for a run besides the passes: limits and the machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from graphopt.errors import UsageError

__all__ = ["Limits", "Machine"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a result must hold.

    Attributes:
        min_sqnr_db: Least SQNR of every output against the input model, dB.
        max_drop: Most that the metric may fall, in the metric's own unit.
        strict: End the run at the first refused pass or broken limit.

    Raises:
        UsageError: A value is no number, or a drop below zero.
    """

    min_sqnr_db: float | None = None
    max_drop: float | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        _check("min_sqnr_db", self.min_sqnr_db, float, -math.inf)
        _check("max_drop", self.max_drop, float, 0)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the model is to run, and where the work is done.

    Attributes:
        target: ``host`` or the name of another target; by default the recipe's, else ``host``.
        threads: Threads of onnxruntime and torch; 0 for all cores.
        seed: Seed of all random numbers; by default the recipe's, else 0.
        memory_limit: Bytes that the observation and the proof may take; None for 1 GB and 3 GB.
        device: What training computes on: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: A number is not whole or below zero, or a name is no text.
    """

    target: str | None = None
    threads: int = 0
    seed: int | None = None
    memory_limit: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("threads", "seed", "memory_limit"):
            _check(name, getattr(self, name), int, 0)
        for name in ("target", "device"):
            if not isinstance(getattr(self, name), str | None):
                raise UsageError(f"{name}={getattr(self, name)!r} must be text")


def _check(name: str, value: Any, kind: type[int | float], low: float) -> None:
    """Refuse what is no finite number of that kind from ``low`` on; None is fine.

    Raises:
        UsageError: It is that.
    """
    if value is None:
        return
    what = "a whole number" if kind is int else "a number"
    allowed = Integral if kind is int else Real  # numpy's scalars are some too
    if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
        raise UsageError(f"{name}={value!r} must be {what}")
    if value < low:
        raise UsageError(f"{name}={value!r} must be {low:g} or more")
